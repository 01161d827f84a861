"""A run: its configuration, and the folder it is kept in.

The folder holds run.json (what is trained, on what), log.csv, evaluations.csv and training_state/
(see `foundation.training.fit`), and when training has ended README.md (the model card) and model/
(see `AdaMRAEncoder.from_pretrained`).
"""

import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from workingpapers.adamra.encoder import AdaMRAEncoder, EncoderConfig
from workingpapers.adamra.tasks import TASKS, LongRangeTask, open_task
from workingpapers.foundation.checkpoints import check_target, decode
from workingpapers.foundation.console import write_atomically
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.text import Bytes
from workingpapers.foundation.training import DivergedError, TrainConfig

LARGEST_SEED = 2**31 - 1

TOKENS_AT_ONCE = 1 << 16
"""Evaluation reads about so many tokens at a time, at most 64 sequences."""

Kind = Literal["symbols", "pixels", "bytes"]

_OUR_FILES = ("run.json", "log.csv", "evaluations.csv", "README.md")
_OUR_FOLDERS = {
    "training_state": r"settings\.json|latest|"
    r"step-\d+(\.partial)?/(state\.json|tensors\.safetensors)",
    "model": r"config\.json|model\.safetensors",
    "tensorboard": r"events\.out\.tfevents\..*",
}
"""Of a run, and which files are ours in each."""


@dataclass(frozen=True)
class RunConfig:
    """What is trained, and on what; kept as run.json. InputError for impossible values."""

    task: str
    """A name of TASKS, or the path of a user's own labelled texts."""
    data: str | None
    """Where the public files of a named task lie; None: it is generated or embedded."""
    text: str | None
    """Column of a user's own texts, and of their classes; None: they have these names."""
    label: str | None
    trust: bool
    """Whether pickles of CIFAR-10 are read."""
    classes: tuple[str, ...]
    kind: Kind
    """What a token is: a symbol of ListOps, a pixel, or a byte."""
    encoder: EncoderConfig
    training: TrainConfig
    batch: int
    """Sequences (pairs, in a task of pairs) that a process reads an update."""
    processes: int
    train_examples: int | None
    """None: all there are; so too for the others."""
    validation_examples: int | None
    test_examples: int | None
    examples_sha256: str | None = field(default=None, compare=False)
    """Of the examples it is trained and validated on, so that it goes on with no others."""

    def __post_init__(self) -> None:
        for name in (
            "batch",
            "processes",
            "train_examples",
            "validation_examples",
            "test_examples",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} {value}: expected at least 1")
        if self.seed > LARGEST_SEED:
            raise InputError(f"seed {self.seed}: expected at most {LARGEST_SEED}")
        if len(self.classes) != self.encoder.classes:
            raise InputError(
                f"encoder.classes {self.encoder.classes}: expected {len(self.classes)}, the number "
                "of classes"
            )
        if self.kind == "bytes" and self.encoder.vocabulary != Bytes.vocabulary:
            raise InputError(
                f"encoder.vocabulary {self.encoder.vocabulary}: expected {Bytes.vocabulary}"
            )

    @property
    def seed(self) -> int:
        """Of the weights, of the training examples and their order, and of dropout."""
        return self.training.seed

    @property
    def evaluation_batch(self) -> int:
        """Sequences that evaluation reads at a time."""
        return max(self.batch, min(64, TOKENS_AT_ONCE // self.encoder.length))

    def open_task(self) -> LongRangeTask:
        """The task; InputError where its files are gone or have other classes than they had."""
        own = self.task not in TASKS
        task = open_task(
            self.task,
            None if self.data is None else Path(self.data),
            length=None if self.kind == "pixels" else self.encoder.length,
            text=self.text if own else None,
            label=self.label if own else None,
            trust=self.trust,
        )
        if task.class_names != self.classes:
            raise InputError(
                f"{self.data or self.task}: the run knows the classes {', '.join(self.classes)}; "
                f"found {', '.join(task.class_names)}"
            )
        return task


def read_run(folder: Path) -> RunConfig:
    """What run.json says; InputError names the folder or file at fault."""
    path = folder / "run.json"
    if not path.is_file():
        found = "a file" if folder.is_file() else "none" if folder.is_dir() else "nothing"
        raise InputError(
            f"{folder}: expected the folder of a run, with its run.json, found {found}"
        )
    try:
        return decode(RunConfig, json.loads(path.read_text(encoding="utf-8")), "")
    except (ValueError, RecursionError) as error:
        reason = str(error).removeprefix(": ")
        raise InputError(f"{path}: not the configuration of a run ({reason})") from None


def load_run(folder: Path, device: str = "cpu") -> tuple[RunConfig, AdaMRAEncoder]:
    """A finished run; InputError for one that is not, with the command that goes on with it."""
    run = read_run(folder)
    path = folder / "model" / "config.json"
    if not path.is_file():
        if finished_steps(folder) == run.training.steps:
            raise InputError(
                f"{path}: the file is missing; workingpapers adamra train --resume "
                f"{shlex.quote(str(folder))} writes the model again"
            )
        raise InputError(
            f"{folder}: the run is unfinished (step {finished_steps(folder)} of "
            f"{run.training.steps}); workingpapers adamra train --resume "
            f"{shlex.quote(str(folder))} goes on with it"
        )
    model = AdaMRAEncoder.from_pretrained(folder / "model", device)
    if model.config != run.encoder:
        raise InputError(f"{path}: expected the encoder of run.json, found one of other settings")
    return run, model


def finished_steps(folder: Path) -> int:
    """Steps that a run in this folder need not take again."""
    path = folder / "training_state" / "latest"
    # Whoever goes on with the run complains about what else it may hold.
    name = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
    number = name.removeprefix("step-")
    return int(number) if number.isdecimal() else 0


def claim_run(folder: Path, run: RunConfig) -> None:
    """Write run.json, or find the same there; InputError for another run's."""
    path = folder / "run.json"
    if path.exists():
        found = read_run(folder)
        if found != run:
            raise InputError(f"{path}: the folder holds a run of other settings")
        check_same_examples(found, run.examples_sha256)
        model = folder / "model"
        if not (model / "config.json").exists():
            # Weights without it are of no use, and would keep new ones from being saved.
            (model / "model.safetensors").unlink(missing_ok=True)
        check_target(model, overwrite=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(asdict(run), indent=2, ensure_ascii=False) + "\n")


def check_same_examples(run: RunConfig, digest: str | None) -> None:
    """InputError unless the examples of this digest are those that the run was begun with."""
    if run.examples_sha256 not in (None, digest):
        raise InputError(
            f"{run.data or run.task}: the examples are not those that the run was begun with; "
            "expected the same, or a new run"
        )


def check_replaceable(out: Path) -> None:
    """InputError where a folder with a run.json holds another program's, or files not a run's."""
    try:
        read_run(out)
    except InputError as error:
        raise InputError(f"--out {out}: not replaced, {error}") from None
    for name, ours in _OUR_FOLDERS.items():
        folder = out / name
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder).as_posix()
            if not path.is_dir() and not re.fullmatch(ours, inside):
                raise InputError(f"--out {out}: not replaced, {path} is no part of the run there")


@contextmanager
def replacing(out: Path | None) -> Iterator[None]:
    """Set the run that is in a folder aside; put it back if the new one fails.

    It is dropped when the new one has ended, or was interrupted and can be resumed.
    """
    if out is None or not (out / "run.json").is_file():
        yield
        return
    # Inside, where moving is but renaming; a killed process leaves the old run there.
    aside = Path(tempfile.mkdtemp(dir=out, prefix=".replaced-"))
    _move_run(out, aside)
    try:
        yield
    except BaseException as error:
        if isinstance(error, DivergedError) or not finished_steps(out):
            failed = Path(tempfile.mkdtemp(dir=out, prefix=".failed-"))
            _move_run(out, failed)
            _move_run(aside, out)
            shutil.rmtree(failed)
        shutil.rmtree(aside)
        raise
    shutil.rmtree(aside)


def _move_run(source: Path, target: Path) -> None:
    # Last run.json, by which a folder is known to hold a run.
    for name in (*_OUR_FOLDERS, *reversed(_OUR_FILES)):
        if (source / name).exists():
            (source / name).rename(target / name)
