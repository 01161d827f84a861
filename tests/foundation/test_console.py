"""What the command line makes of arguments, answers and errors."""

import json
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
import pytest
import torch
import typer

from workingpapers.foundation import console
from workingpapers.foundation.console import Exit, Verbs
from workingpapers.foundation.errors import InputError

app = typer.Typer(cls=Verbs)


@app.command()
def train(
    data: Annotated[str, typer.Argument()] = "here",
    learning_rate: Annotated[float, typer.Option("--learning-rate", "-l")] = 1.0,
    rows: Annotated[int, typer.Option()] = 1,
) -> None:
    if rows == 2:
        raise InputError("rows: expected another number")
    raise InputError(f"learning_rate {learning_rate:g}: expected a number above 0")


@app.command()
def other() -> None:
    pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--learning-rate", "0"), "--learning-rate 0: expected a number above 0"),
        (("--learning-rate=0",), "--learning-rate 0: expected a number above 0"),
        (("-l", "0"), "-l 0: expected a number above 0"),
        # A default, or what a file says, is no option that was typed.
        ((), "learning_rate 1: expected a number above 0"),
        (("--rows", "3"), "learning_rate 1: expected a number above 0"),
        (("--rows", "2"), "--rows: expected another number"),
        (("caf\udce9",), "the argument 'caf\\udce9': expected text in UTF-8"),
    ],
)
def test_errors_name_options_as_they_were_typed(arguments: tuple[str, ...], message: str) -> None:
    command = typer.main.get_command(app)
    with pytest.raises(InputError) as error:
        command.main(["train", *arguments], standalone_mode=False)
    assert str(error.value) == message


def test_numbers_that_json_does_not_have_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    value: Any = {"a": [1.5, float("nan"), (float("-inf"), "x")], "b": {"c": np.float64("inf")}}
    console.print_json(value)
    found = json.loads(capsys.readouterr().out)
    assert found == {"a": [1.5, None, [None, "x"]], "b": {"c": None}}


def test_pictures_that_could_not_be_written_are_refused(tmp_path: Path) -> None:
    console.claim_picture(None, force=False)
    console.claim_picture(tmp_path / "a.SVG", force=False)
    (tmp_path / "b.png").touch()
    for name, message in (("b.png", "the file exists; --force"), ("c.gif", "expected a name that")):
        with pytest.raises(InputError, match=f"--plot .*{name}: {message}"):
            console.claim_picture(tmp_path / name, force=False, option="--plot")
    console.claim_picture(tmp_path / "b.png", force=True)


def test_a_choice_is_given_back_or_refused() -> None:
    assert console.check_choice("--mode", "b", ("a", "b")) == "b"
    assert console.check_choice("--mode", None, (None, "a")) is None
    with pytest.raises(InputError, match=r"^--mode c: expected a, b$"):
        console.check_choice("--mode", "c", (None, "a", "b"))


def _too_much_for_pytorch() -> NoReturn:
    torch.empty(1 << 60)
    raise AssertionError


def _too_much_for_numpy() -> NoReturn:
    np.empty(1 << 50)
    raise AssertionError


@pytest.mark.parametrize("command", [_too_much_for_pytorch, _too_much_for_numpy])
def test_want_of_memory_is_no_bug(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        console.run_command(command)
    assert left.value.code == Exit.NO
    told = capsys.readouterr().err
    assert told.startswith("error: not enough memory, for smaller sizes there may be (")
    assert len(told.splitlines()) == 1


def test_other_errors_of_a_running_program_are_bugs(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise RuntimeError("index out of range")

    with pytest.raises(SystemExit) as left:
        console.run_command(fail)
    assert left.value.code == Exit.BUG
    told = capsys.readouterr().err
    assert "this is a bug in workingpapers, not in your input (RuntimeError: index out" in told
    Path(told.rpartition(" ")[2].strip()).unlink()
