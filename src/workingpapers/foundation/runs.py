"""The folder of a training run: what is in it, and how a new run takes an old one's place."""

import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from workingpapers.foundation.checkpoints import check_target, decode
from workingpapers.foundation.console import err, write_atomically
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.training import DivergedError

Config = TypeVar("Config")

RUN = "run.json"
"""By which a folder is known to hold a run."""

STATE = r"settings\.json|latest|step-\d+(\.partial)?/(state\.json|tensors\.safetensors)"
"""Files of training_state/, as a pattern; see `training.fit`."""
EVENTS = r"events\.out\.tfevents\..*"
"""Of tensorboard/."""


def saved_step(folder: Path) -> int:
    """The step that `training.fit` would go on after in this folder; 0 for none."""
    path = folder / "training_state" / "latest"
    # Whoever goes on with the run complains about what else it may hold.
    name = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
    number = name.removeprefix("step-")
    return int(number) if number.isdecimal() else 0


@dataclass(frozen=True)
class RunFolders(Generic[Config]):
    """What a system keeps in the folders of its runs.

    run.json holds a dataclass, the configuration; log.csv, evaluations.csv, training_state/ and
    tensorboard/ are those of `training.fit`.
    """

    system: str
    config: type[Config]
    files: tuple[str, ...] = ()
    """Further files."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """Further folders, and a pattern of the files in each that are a run's."""
    index: str | None = None
    """Name of the manifest of the model in model/, if that tells which files are the model's."""
    caches: frozenset[str] = frozenset()
    """Of the folders, those that a run killed at its very beginning leaves without a run.json."""
    finished_steps: Callable[[Path], int] = saved_step
    """Steps that a run in a folder need not take again."""

    def read(self, folder: Path) -> Config:
        """What run.json says; InputError names the folder or file at fault."""
        path = folder / RUN
        if not path.is_file():
            found = "a file" if folder.is_file() else "none" if folder.is_dir() else "nothing"
            raise InputError(
                f"{folder}: expected the folder of a run, with its {RUN}, found {found}"
            )
        try:
            return decode(self.config, json.loads(path.read_text(encoding="utf-8")), "")
        except (ValueError, RecursionError) as error:
            reason = str(error).removeprefix(": ")
            raise InputError(f"{path}: not the configuration of a run ({reason})") from None

    def write(self, folder: Path, run: Config) -> None:
        """Write run.json, into a folder that is made where it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        content: Any = run
        text = json.dumps(asdict(content), indent=2, ensure_ascii=False)
        write_atomically(folder / RUN, text + "\n")

    def check_new(self, out: Path, *, force: bool, option: str = "--out") -> None:
        """Refuse a folder that is not ours to write before the training, not after it.

        `force` allows one with a run, if it holds nothing else.
        """
        if out.exists() and not out.is_dir():
            raise InputError(f"{option} {out}: expected a folder, found a file")
        found = {path.name for path in out.iterdir()} if out.is_dir() else set()
        if RUN in found:
            self._check_replaceable(out, option)
            if not force:
                raise InputError(
                    f"{option} {out}: holds a run; --resume goes on with it, --force replaces it"
                )
        elif found - self.caches:
            raise InputError(f"{option} {out}: the folder is not empty and holds no run")
        nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
        if not nearest.is_dir():
            raise InputError(f"{option} {out}: expected a folder, {nearest} is a file")
        if not os.access(nearest, os.W_OK):
            raise InputError(f"{option} {out}: cannot write into {nearest}")

    @contextmanager
    def replacing(self, out: Path | None) -> Iterator[None]:
        """Set the run that is in a folder aside; put it back if the new one fails.

        It is dropped when the new one has ended, or was interrupted and can be resumed. Entered
        before the new one writes anything there.
        """
        if out is None or not (out / RUN).is_file():
            yield
            return
        # Inside, where moving is but renaming; a killed process leaves the old run there.
        aside = Path(tempfile.mkdtemp(dir=out, prefix=".replaced-"))
        self._move(out, aside)
        try:
            yield
        except BaseException as error:
            if isinstance(error, DivergedError) or not self.finished_steps(out):
                failed = Path(tempfile.mkdtemp(dir=out, prefix=".failed-"))
                self._move(out, failed)
                self._move(aside, out)
                shutil.rmtree(failed)
            shutil.rmtree(aside)
            raise
        shutil.rmtree(aside)

    @contextmanager
    def saying_how_to_go_on(self, folder: Path | None) -> Iterator[None]:
        """When a training is interrupted, print the command that goes on with it; None: nothing."""
        try:
            yield
        except KeyboardInterrupt:
            if folder is not None and self.finished_steps(folder):
                err.print(f"saved: {self.resuming(folder)} goes on", markup=False)
            raise

    def resuming(self, folder: Path) -> str:
        """The command that goes on with a run."""
        return f"workingpapers {self.system} train --resume {shlex.quote(str(folder))}"

    def unfinished(self, folder: Path, steps: int | None) -> InputError:
        """The error for a run of so many steps that has no model yet."""
        return InputError(
            f"{folder}: the run is unfinished (step {self.finished_steps(folder)} of {steps}); "
            f"{self.resuming(folder)} goes on with it"
        )

    @property
    def _all_files(self) -> tuple[str, ...]:
        return (*self.files, "evaluations.csv", "log.csv", RUN)

    @property
    def _all_folders(self) -> dict[str, str]:
        return {"training_state": STATE, "tensorboard": EVENTS, **self.folders}

    def _check_replaceable(self, out: Path, option: str) -> None:
        """InputError where a run.json is another program's, or files beside it are no run's."""
        try:
            self.read(out)
            if self.index is not None:
                check_target(out / "model", overwrite=True, index=self.index)
        except InputError as error:
            reason = str(error) if "not replaced" in str(error) else f"not replaced, {error}"
            raise InputError(f"{option} {out}: {reason}") from None
        for name, ours in self._all_folders.items():
            folder = out / name
            for path in sorted(folder.rglob("*")):
                inside = path.relative_to(folder).as_posix()
                if not path.is_dir() and not re.fullmatch(ours, inside):
                    raise InputError(
                        f"{option} {out}: not replaced, {path} is no part of the run there"
                    )

    def _move(self, source: Path, target: Path) -> None:
        # Last run.json, by which a folder is known to hold a run.
        for name in (*self._all_folders, *self._all_files):
            if (source / name).exists():
                (source / name).rename(target / name)
