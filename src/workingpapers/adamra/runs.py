"""A run: its configuration, and the folder it is kept in.

The folder holds run.json (what is trained, on what), log.csv, evaluations.csv and training_state/
(see `foundation.training.fit`), and when training has ended README.md (the model card) and model/
(see `AdaMRAEncoder.from_pretrained`).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from workingpapers.adamra.encoder import AdaMRAEncoder, EncoderConfig
from workingpapers.adamra.tasks import TASKS, LongRangeTask, open_task
from workingpapers.foundation.checkpoints import check_target
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.runs import RUN, RunFolders, saved_step
from workingpapers.foundation.text import Bytes
from workingpapers.foundation.training import TrainConfig

LARGEST_SEED = 2**31 - 1

TOKENS_AT_ONCE = 1 << 16
"""Evaluation reads about so many tokens at a time, at most 64 sequences."""

Kind = Literal["symbols", "pixels", "bytes"]


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


RUNS = RunFolders(
    "adamra", RunConfig, ("README.md",), {"model": r"config\.json|model\.safetensors"}
)


def load_run(folder: Path, device: str = "cpu") -> tuple[RunConfig, AdaMRAEncoder]:
    """A finished run; InputError for one that is not, with the command that goes on with it."""
    run = RUNS.read(folder)
    path = folder / "model" / "config.json"
    if not path.is_file():
        if saved_step(folder) == run.training.steps:
            raise InputError(
                f"{path}: the file is missing; {RUNS.resuming(folder)} writes the model again"
            )
        raise RUNS.unfinished(folder, run.training.steps)
    model = AdaMRAEncoder.from_pretrained(folder / "model", device)
    if model.config != run.encoder:
        raise InputError(f"{path}: expected the encoder of run.json, found one of other settings")
    return run, model


def claim_run(folder: Path, run: RunConfig) -> None:
    """Write run.json, or find the same there; InputError for another run's."""
    path = folder / RUN
    if path.exists():
        found = RUNS.read(folder)
        if found != run:
            raise InputError(f"{path}: the folder holds a run of other settings")
        check_same_examples(found, run.examples_sha256)
        model = folder / "model"
        if not (model / "config.json").exists():
            # Weights without it are of no use, and would keep new ones from being saved.
            (model / "model.safetensors").unlink(missing_ok=True)
        check_target(model, overwrite=True)
        return
    RUNS.write(folder, run)


def check_same_examples(run: RunConfig, digest: str | None) -> None:
    """InputError unless the examples of this digest are those that the run was begun with."""
    if run.examples_sha256 not in (None, digest):
        raise InputError(
            f"{run.data or run.task}: the examples are not those that the run was begun with; "
            "expected the same, or a new run"
        )
