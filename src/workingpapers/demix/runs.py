"""A run: its configuration, and the folder it is kept in.

The folder holds run.json (what is trained, on what), corpora/ (tokens, mapped into memory),
log.csv and training_state/ (see `foundation.training.fit`), for whole models as experts seed/ and
branches/ (see `branches.train_branches`), and when training has ended model/, a folder of
checkpoint.py with its model card.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lightning_fabric import Fabric

from workingpapers.demix.corpora import Corpora, DomainCorpus
from workingpapers.demix.model import Experts, LMConfig
from workingpapers.demix.protocol import ModularLM
from workingpapers.foundation.parallel import Engine
from workingpapers.foundation.training import History, TrainConfig


@dataclass(frozen=True)
class RunConfig:
    """What is trained, and on what; kept as run.json. InputError for impossible values."""

    data: str | None
    """Path of a user's texts, see `data.read_domains`; None: the embedded domains named below."""
    domains: tuple[str, ...]
    """The experts, in their order; none before the data is opened: all domains found there."""
    text: str
    """Field with the text, and that with the domain, in a user's tables."""
    domain: str
    splits: tuple[float, float, float]
    anonymise: bool
    deduplicate: bool
    limit_bytes: int | None
    tokenizer: str | None
    """Path of a tokenizer.json; None: the decoder's, else one is made from the training texts."""
    experts: Experts
    model: LMConfig | None
    """Its vocabulary and end of text become those of the tokenizer; None for a `decoder`."""
    decoder: str | None
    """Folder of a decoder of transformers that the model is made from."""
    length: int
    """Tokens of a row."""
    rows: int
    """Rows of each domain an update, of all processes together."""
    training: TrainConfig
    seed_share: float
    """With whole models as experts, the share of the steps in which one model of all domains is
    trained first."""
    tokens_sha256: str | None = field(default=None, compare=False)
    """Of the tokens and the tokenizer, so that a run goes on with no others."""


@dataclass(frozen=True)
class Plan:
    """What a training will take."""

    domains: tuple[str, ...]
    parameters: int
    shared: int
    per_expert: int
    active: int
    """Parameters that a token meets: the shared ones and those of one expert."""
    vocabulary: int
    steps: int
    tokens_per_step: int
    tokens: int
    """Read in all steps, of all domains together."""
    corpus_tokens: dict[str, int]
    """Of the training part, by domain."""
    epochs: dict[str, float]
    """How often each domain is read."""
    step_seconds: float
    minutes: float
    memory_mb: float
    """Of weights, gradients, moments and activations, in MiB."""


@dataclass(frozen=True)
class Trained:
    """What a training came to."""

    model: ModularLM
    history: History
    """Of the steps in this process; of the seed phase where experts are whole models."""
    scores: dict[str, dict[str, float]]
    """By domain, of its expert on development text: perplexity, bits_per_byte, tokens."""
    folder: Path
    """Of the model."""


def make_run(
    data: Sequence[str] = (),
    *,
    domains: Sequence[str] | None = None,
    size: str = "tiny",
    shape: Mapping[str, Any] | None = None,
    experts: Experts = "ffn",
    decoder: Path | None = None,
    tokenizer: Path | None = None,
    text: str = "text",
    domain: str = "domain",
    splits: Sequence[float] = (0.8, 0.1, 0.1),
    anonymise: bool = False,
    deduplicate: bool = True,
    limit_bytes: int | None = None,
    length: int | None = None,
    rows: int | None = None,
    seed_share: float | None = None,
    training: Mapping[str, Any] | None = None,
) -> RunConfig:
    """A run with defaults by the model's size, of which those given here take precedence.

    `data` is one path, or names of embedded domains (none: the eight of data.TRAINING); of a path,
    `domains` are those to be used (None: all). `size` is one of SIZES, `shape` other fields of
    LMConfig (vocabulary, dim, layers, heads, hidden, domain_tokens), `training` fields of
    TrainConfig (steps or seconds, learning_rate, precision, threads, seed, ...); None stands for
    the default. No data are read. InputError for a name or value that cannot be.
    """
    raise NotImplementedError


def read_run(folder: Path) -> RunConfig:
    """What run.json says; InputError names the folder or file at fault."""
    raise NotImplementedError


def claim_run(folder: Path, run: RunConfig) -> None:
    """Write run.json, or find the same there; InputError for another run's."""
    raise NotImplementedError


def finished_steps(folder: Path) -> int:
    """Steps that a run in this folder need not take again."""
    raise NotImplementedError


def model_folder(folder: Path) -> Path:
    """The model's folder, of a finished run or given itself.

    InputError for an unfinished run, with the command that goes on with it.
    """
    raise NotImplementedError


def run_folder(folder: Path) -> Path | None:
    """The run that a folder is, or that its model/ is in; None where there is no run.json."""
    raise NotImplementedError


def open_corpora(run: RunConfig, folder: Path | None = None) -> Corpora:
    """The domains of a run, in their order; with its folder, tokens are kept and found there."""
    raise NotImplementedError


class Training:
    """A run's corpora, and what is made of them.

    `run` is then the configuration with all that the data tell: domains, vocabulary, digest. Where
    it has seconds, `settle` or `plan` turn them into steps. InputError for data that are missing,
    not as expected, or not what the run was begun with.

        first = all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK"))
        with replacing(out if first else None):
            training = Training(run, out, device)     # or Training(read_run(folder), folder)
            training.settle()
            fabric.launch()                           # several processes: ddp, see distributed.py
            trained = training.fit(fabric=fabric, progress=advance)
    """

    run: RunConfig
    corpora: Corpora

    def __init__(self, run: RunConfig, folder: Path | None = None, device: str = "cpu") -> None:
        raise NotImplementedError

    @property
    def steps(self) -> int:
        """What `progress` counts to: steps, or with branches those of seed and all branches."""
        raise NotImplementedError

    @property
    def finished(self) -> int:
        """Of these, those that need not be taken again."""
        raise NotImplementedError

    def settle(self, processes: int = 1) -> None:
        """Turn a time budget into steps, by timing; nothing where the run has steps."""
        raise NotImplementedError

    def plan(self, *, processes: int = 1, jobs: int = 0) -> Plan:
        """What it will take, for --dry-run; a few steps are timed, and nothing is written."""
        raise NotImplementedError

    def fit(
        self,
        *,
        fabric: Fabric | None = None,
        progress: Callable[[int], None] | None = None,
        engine: Engine = "local",
        jobs: int = 0,
    ) -> Trained:
        """Train in the run's folder, or go on with what is there, and write the model.

        `engine` and `jobs` are for whole models as experts, which train as tasks of their own.
        Every process returns; the first one writes.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Added:
    """What adding an expert came to."""

    expert: str
    parent: str | None
    tokens: int
    """Trained on."""
    before: dict[str, float]
    """On the domain's development text, of the nearest expert: perplexity, bits_per_byte."""
    after: dict[str, float]
    """Of the new one."""


def add_domain(
    folder: Path,
    corpus: DomainCorpus,
    *,
    init: str = "nearest",
    out: Path | None = None,
    in_place: bool = False,
    rows: int = 8,
    training: Mapping[str, Any] | None = None,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
    overwrite: bool = False,
) -> Added:
    """Add an expert for a corpus (its name, tokens of the model's tokenizer) to a model's folder.

    `init` is "nearest", "mean", "random" or an expert's name; `training` fields of TrainConfig,
    with steps 0 for an expert that stays as it begins. See `checkpoint.add_expert` for the rest.
    """
    raise NotImplementedError


def check_replaceable(out: Path) -> None:
    """InputError where a folder with a run.json holds another program's, or files not a run's."""
    raise NotImplementedError


@contextmanager
def replacing(out: Path | None) -> Iterator[None]:
    """Set the run that is in a folder aside; put it back if the new one fails.

    It is dropped when the new one has ended, or was interrupted and can be resumed.
    """
    raise NotImplementedError
    yield


_UNUSED = Literal
