"""What verbs that train refuse before they begin."""

from typing import Annotated

import pytest
import typer
from typer._click import Context

from workingpapers.foundation.console import Verbs
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.launching import (
    check_launch,
    check_resume,
    is_first_process,
    open_fabric,
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 1.0, 1, "auto"), "--minutes: expected without --steps"),
        ((None, 0.0, 1, "auto"), "--minutes 0: expected a number above 0"),
        ((None, float("inf"), 1, "auto"), "--minutes inf: expected a number above 0"),
        ((None, None, 1, "dp"), "--strategy dp: expected auto, ddp, fsdp"),
        (
            (None, None, 2, "ddp"),
            "--nodes 2: expected the environment variables MASTER_ADDR, MASTER_PORT, NODE_RANK on "
            "each machine; not set: MASTER_PORT, NODE_RANK",
        ),
    ],
)
def test_what_cannot_be_launched(
    arguments: tuple[int | None, float | None, int, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("MASTER_PORT", "NODE_RANK", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_ADDR", "here")
    with pytest.raises(InputError) as error:
        check_launch(*arguments)
    assert str(error.value) == message
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    check_launch(None, 2.5, 4, "fsdp")


def test_the_first_process_is_known_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert is_first_process()
    monkeypatch.setenv("NODE_RANK", "1")
    assert not is_first_process()
    monkeypatch.setenv("NODE_RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert not is_first_process()


def test_a_machine_has_no_more_processes_than_processors() -> None:
    with pytest.raises(InputError, match=r"--devices 9999: expected at most .*, the processors"):
        open_fabric("cpu", 9999, 1, "auto", "32-true")
    with pytest.raises(InputError, match=r"--devices 1, --nodes 1, --strategy auto: .*"):
        open_fabric("cpu", 1, 1, "auto", "8-mixed")
    assert open_fabric("cpu", 1, 1, "auto", "32-true").world_size == 1


def test_what_stands_beside_resume() -> None:
    app = typer.Typer(cls=Verbs)

    @app.command()
    def train(
        context: Context,
        data: Annotated[str | None, typer.Argument()] = None,
        resume: Annotated[str | None, typer.Option("--resume")] = None,
        devices: Annotated[int, typer.Option("--devices")] = 1,
        jobs: Annotated[int, typer.Option("--jobs")] = 0,
        dim: Annotated[int | None, typer.Option("--dim")] = None,
    ) -> None:
        check_resume(context, ("jobs",), "TASK")

    @app.command()
    def other() -> None:
        pass

    def run(*arguments: str) -> None:
        typer.main.get_command(app).main(list(arguments), standalone_mode=False)

    run("train", "--resume", "here", "--devices", "2", "--jobs", "3")
    for more, name in ((("--dim", "3"), "--dim"), (("digits",), "TASK")):
        with pytest.raises(InputError, match=f"^{name}: expected without --resume"):
            run("train", "--resume", "here", *more)
