"""Folders of runs: who may write there, what is put back, how a run is gone on with."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from workingpapers.foundation.errors import InputError
from workingpapers.foundation.runs import RunFolders, saved_step
from workingpapers.foundation.training import DivergedError


@dataclass(frozen=True)
class Config:
    steps: int


RUNS = RunFolders("demix", Config, ("README.md",), {"model": r"weights\.bin", "cache": r".*\.npy"},
                  caches=frozenset({"cache"}))  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that has come to step 12."""
    folder = tmp_path / "my run"
    RUNS.write(folder, Config(20))
    for name, content in (
        ("README.md", "old"),
        ("log.csv", "old"),
        ("model/weights.bin", "old"),
        ("training_state/latest", "step-12\n"),
        ("training_state/step-12/state.json", "{}"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def test_a_configuration_is_read_as_it_was_written(run: Path, tmp_path: Path) -> None:
    assert RUNS.read(run) == Config(20)
    assert saved_step(run) == RUNS.finished_steps(run) == 12
    assert saved_step(tmp_path) == 0
    told = str(RUNS.unfinished(run, 20))
    assert told == (
        f"{run}: the run is unfinished (step 12 of 20); workingpapers demix train --resume "
        f"'{run}' goes on with it"
    )
    (run / "run.json").write_text(json.dumps({"steps": "many"}))
    with pytest.raises(InputError, match=r"run.json: not the configuration of a run \(steps"):
        RUNS.read(run)
    for path, found in ((tmp_path, "none"), (tmp_path / "no", "nothing"), (run / "log.csv", "a")):
        with pytest.raises(InputError, match=f"expected the folder of a run, .*found {found}"):
            RUNS.read(path)


def test_only_our_own_folders_are_replaced(run: Path, tmp_path: Path) -> None:
    RUNS.check_new(tmp_path / "new" / "deep", force=False)
    RUNS.check_new(run, force=True)
    with pytest.raises(InputError, match=r"--out .*: holds a run; --resume goes on with it, --fo"):
        RUNS.check_new(run, force=False)
    (run / "model" / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match=r"not replaced, .*letter.txt is no part of the run there"):
        RUNS.check_new(run, force=True)
    (run / "run.json").write_text('{"scripts": []}')
    with pytest.raises(InputError, match=r"not replaced, .*not the configuration of a run"):
        RUNS.check_new(run, force=True)
    with pytest.raises(InputError, match=r"--out .*log.csv: expected a folder, found a file"):
        RUNS.check_new(run / "log.csv", force=True)
    with pytest.raises(InputError, match=r"--to .*: expected a folder, .*log.csv is a file"):
        RUNS.check_new(run / "log.csv" / "deep", force=True, option="--to")
    other = tmp_path / "other"
    (other / "cache").mkdir(parents=True)
    RUNS.check_new(other, force=False)
    (other / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="the folder is not empty and holds no run"):
        RUNS.check_new(other, force=True)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InputError("bad"), DivergedError("nan")])
@pytest.mark.parametrize("came_far", [False, True])
def test_an_old_run_comes_back_when_the_new_one_has_nothing(
    run: Path, error: BaseException, came_far: bool
) -> None:
    before = contents(run)

    def fail() -> None:
        with RUNS.replacing(run):
            assert not list(run.glob("[!.]*"))
            RUNS.write(run, Config(3))
            if came_far:
                (run / "training_state").mkdir()
                (run / "training_state" / "latest").write_text("step-2")
            raise error

    with pytest.raises(type(error)):
        fail()
    if came_far and not isinstance(error, DivergedError):
        assert (RUNS.read(run), saved_step(run)) == (Config(3), 2)
    else:
        assert contents(run) == before
    assert not list(run.glob(".*"))


def test_an_old_run_goes_when_the_new_one_has_ended(run: Path) -> None:
    with RUNS.replacing(run):
        RUNS.write(run, Config(3))
    assert contents(run).keys() == {"run.json"}
    with RUNS.replacing(None):
        pass


def test_an_interrupted_run_says_how_to_go_on(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(folder: Path | None) -> str:
        with pytest.raises(KeyboardInterrupt), RUNS.saying_how_to_go_on(folder):
            raise KeyboardInterrupt
        return capsys.readouterr().err

    assert interrupted(run) == f"saved: workingpapers demix train --resume '{run}' goes on\n"
    assert interrupted(tmp_path) == ""
    assert interrupted(None) == ""
