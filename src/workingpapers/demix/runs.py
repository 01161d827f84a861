"""A run: its configuration, and the folder it is kept in.

The folder holds run.json (what is trained, on what), corpora/ (tokens, mapped into memory), log.csv
and training_state/ (see `foundation.training.fit`); for whole models as experts seed/ and branches/
instead of these (see `branches.train_branches`); and when training has ended model/, a folder of
checkpoint.py with its model card.
"""

import hashlib
import json
import math
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch

from workingpapers import __version__
from workingpapers.demix import checkpoint
from workingpapers.demix.branches import split_steps, train_branches
from workingpapers.demix.checkpoint import Expert, load_model, save_model
from workingpapers.demix.corpora import (
    PARTS,
    BlockSampler,
    Corpora,
    DomainCorpus,
    load_domains,
    load_tokenizer,
    token_bytes,
)
from workingpapers.demix.data import EMBEDDED, TRAINING
from workingpapers.demix.distributed import Division
from workingpapers.demix.model import SIZES, DEMixLM, Experts, LMConfig
from workingpapers.demix.protocol import ModularLM, check_name, check_names
from workingpapers.demix.training import (
    adapt,
    held_out_rows,
    nearest_expert,
    time_step,
    train,
    train_config,
    warmup_steps,
)
from workingpapers.foundation.checkpoints import check_target
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.memory import peak_since, watch_memory
from workingpapers.foundation.parallel import Engine, _cores, check_engine
from workingpapers.foundation.runs import EVENTS, RUN, STATE, RunFolders, saved_step
from workingpapers.foundation.tables import listed
from workingpapers.foundation.training import TIMED_STEPS, DivergedError, TrainConfig, one_process

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from tokenizers import Tokenizer

DATA_SEED = 0
"""Of the parts of domains: the same for all runs, so that they can be compared."""

STEPS = {
    "tiny": 700,
    "small": 2_000,
    "125M": 300_000,
    "350M": 120_000,
    "760M": 65_000,
    "1.3B": 50_000,
}
"""By size; of the paper's four its own."""

SEED_SHARE = 0.25
"""Of the steps, with whole models as experts."""

TOKENS_PER_STEP = 2048
"""Of all domains together, unless rows are asked for."""

DECODER_LENGTH = 1024
"""Tokens of a row at most, for a decoder of transformers, unless others are asked for."""

SCORED_ROWS = 200
"""Of each domain's development text, at most, for the model card."""

ADAPTATION_STEPS = 200

MEASURED_MB = 4096
"""Larger trainings are not tried out for a plan, but calculated."""

GUESSED_STEPS = 3
"""Timed for a plan."""

_BYTES_PER_PARAMETER = 16
"""Weight, gradient and two moments, in single precision."""


@dataclass(frozen=True)
class RunConfig:
    """What is trained, and on what; kept as run.json. InputError for impossible values."""

    data: str | None
    """Path of a user's texts, see `data.read_domains`; None: embedded domains."""
    domains: tuple[str, ...]
    """The experts, in their order; none: all domains that are found at the path."""
    text: str
    """Field with the text, and that with the domain, in a user's tables."""
    domain: str
    splits: tuple[float, float, float]
    """Shares of "train", "dev" and "test", where they are not parted already."""
    anonymise: bool
    deduplicate: bool
    limit_bytes: int | None
    tokenizer: str | None
    """Path of a tokenizer.json; None: the decoder's, else one is made from the training texts."""
    experts: Experts
    model: LMConfig | None
    """Its vocabulary is the tokenizer's at most, and its end of text too; None for a `decoder`."""
    decoder: str | None
    """Folder of a decoder of transformers that the model is made from."""
    length: int
    """Tokens of a row; 0: as many as the model reads."""
    rows: int
    """Rows of each domain an update, of all processes together; 0: by TOKENS_PER_STEP."""
    training: TrainConfig
    seed_share: float
    """With whole models as experts, the share of the steps in which one model of all domains is
    trained first."""
    tokens_sha256: str | None = field(default=None, compare=False)
    """Of the tokens and the tokenizer, so that a run goes on with no others."""

    def __post_init__(self) -> None:
        if self.data is None and not self.domains:
            raise InputError("domains: expected one or more")
        check_names(self.domains)
        if self.experts not in get_args(Experts):
            raise InputError(f"experts {self.experts!r}: expected ffn, all or none")
        if (self.model is None) == (self.decoder is None):
            raise InputError("decoder: expected either it or the shape of a model")
        if self.decoder is not None and self.experts != "ffn":
            raise InputError(f"experts {self.experts!r}: expected ffn, for a decoder")
        if self.model is not None and self.model.domain_tokens and self.experts != "none":
            raise InputError("domain_tokens: expected with experts none only")
        for name in ("length", "rows"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} {getattr(self, name)}: expected at least 0")
        if self.model is not None and self.length not in (0, self.model.length):
            raise InputError(f"length {self.length}: expected {self.model.length}, the model's")
        if not 0 <= self.seed_share < 1:
            raise InputError(f"seed_share {self.seed_share}: expected from 0 to below 1")
        if self.seed_share and self.experts != "all":
            raise InputError("seed_share: expected with experts all only")


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
    length: int
    rows: int
    steps: int
    tokens_per_step: int
    """Of all domains together."""
    tokens: int
    """Read in all steps."""
    corpus_tokens: dict[str, int]
    """Of the training part, by domain."""
    epochs: dict[str, float]
    """How often each domain is read."""
    step_seconds: float
    """Of a step that reads rows of all domains."""
    minutes: float
    """Of all steps, without reading and encoding the texts."""
    memory_mb: float
    """A process, in MiB; measured, or calculated of weights, gradients and moments only."""
    measured: bool
    """False for a large model: its times are calculated from the speed of a matrix product."""


@dataclass(frozen=True)
class Parted:
    """How a model's training texts were parted, so that others are tested on the same part.

    Kept in its manifest; fields as in RunConfig.
    """

    data: str | None
    """Name of the file or folder, without those it is in; None: embedded domains."""
    splits: tuple[float, float, float]
    anonymise: bool
    deduplicate: bool
    limit_bytes: int | None
    text: str
    domain: str


@dataclass(frozen=True)
class Trained:
    """What a training came to."""

    model: ModularLM
    scores: dict[str, dict[str, float]]
    """By domain, of its expert on development text: perplexity, bits_per_byte, tokens."""
    folder: Path
    """Of the model."""


# ---- folders


def finished_steps(folder: Path) -> int:
    """Steps that a run in this folder need not take again; of branches, those of the furthest."""
    branches = [saved_step(each) for each in (folder / "branches").glob("*")]
    return saved_step(folder) + saved_step(folder / "seed") + max(branches, default=0)


_PHASE = (
    rf"(log|evaluations)\.csv|training_state/({STATE})|tensorboard/{EVENTS}|"
    r"model/(config\.json|model\.safetensors)"
)

RUNS = RunFolders(
    "demix",
    RunConfig,
    folders={
        "corpora": r"[0-9a-f]{16}/(corpora\.json|tokenizer\.json|[^/]+/(train|dev|test)\.npy)",
        "tokens": r"[^/]+\.npy",
        "seed": _PHASE,
        "branches": rf"[^/]+/({_PHASE})",
        "model": ".*",
    },
    index=checkpoint.INDEX,
    caches=frozenset({"corpora"}),
    finished_steps=finished_steps,
)


# ---- configuration


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
    processes: int = 1,
) -> RunConfig:
    """A run with defaults by the model's size, of which those given here take precedence.

    `data` is one path, or names of embedded domains (none: the eight of data.TRAINING); of a path,
    `domains` are those to be used (none: all). `size` is one of SIZES, `shape` other fields of
    LMConfig (vocabulary, dim, layers, heads, hidden, domain_tokens), `training` fields of
    TrainConfig (steps or seconds, learning_rate, precision, threads, seed, ...); None stands for
    the default. `processes` of a machine divide its threads. No data are read. InputError for a
    name or value that cannot be.
    """
    path, names = _find_data(data, domains or ())
    changed = {name: value for name, value in (shape or {}).items() if value is not None}
    model = None
    if decoder is None:
        if size not in SIZES:
            raise InputError(f"size {size!r}: expected one of {listed(list(SIZES))}")
        wanted: dict[str, Any] = SIZES[size] | changed
        if length is not None:
            wanted["length"] = length
        model = LMConfig(**wanted)
        dim, steps = model.dim, STEPS[size]
    else:
        if changed:
            raise InputError(
                f"{next(iter(changed))}: expected without a decoder, which has its own"
            )
        dim, steps = _decoder_settings(decoder)[0], STEPS["tiny"]
    settings = {name: value for name, value in (training or {}).items() if value is not None}
    if "seconds" not in settings:
        settings.setdefault("steps", steps)
    # Another number may give other last bits, so that a run keeps it.
    settings.setdefault("threads", max(1, torch.get_num_threads() // processes))
    if seed_share is None:
        seed_share = SEED_SHARE if experts == "all" else 0.0
    first, second, third = splits if len(splits) == 3 else (math.nan,) * 3
    return RunConfig(
        data=path,
        domains=names,
        text=text,
        domain=domain,
        splits=(float(first), float(second), float(third)),
        anonymise=anonymise,
        deduplicate=deduplicate,
        limit_bytes=limit_bytes,
        tokenizer=None if tokenizer is None else str(tokenizer.absolute()),
        experts=experts,
        model=model,
        decoder=None if decoder is None else str(decoder.absolute()),
        length=0 if length is None or model is not None else length,
        rows=0 if rows is None else rows,
        # A decoder that was trained already learns slowly, as in adaptation.
        training=train_config(dim, adapting=decoder is not None, **settings),
        seed_share=seed_share,
    )


def _find_data(data: Sequence[str], domains: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """The path, or the names of embedded domains."""
    if len(data) == 1 and Path(data[0]).exists():
        return str(Path(data[0]).absolute()), tuple(domains)
    if domains and data:
        raise InputError(f"domains: expected with one path, got {listed(list(data))}")
    names = tuple(data or domains or TRAINING)
    for name in names:
        if name not in EMBEDDED:
            raise InputError(
                f"{name}: no such file or folder, and no embedded domain; those are "
                f"{listed(list(EMBEDDED), len(EMBEDDED))}"
            )
    return None, names


def _decoder_settings(folder: Path) -> tuple[int, int]:
    """Width and context of a decoder of transformers, from its config.json."""
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder}: expected the folder of a decoder, found no config.json")
    try:
        found = json.loads(path.read_bytes())
        kind = found.get("model_type")
        dim = found.get("hidden_size", found.get("n_embd"))
        length = found.get("max_position_embeddings", found.get("n_positions"))
        width, context = int(dim), int(length)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{path}: expected the config of a decoder") from None
    from workingpapers.demix.configuration import check_type

    check_type(kind, f"{folder.name}: config.json")
    return width, context


def claim_run(folder: Path, run: RunConfig) -> None:
    """Write run.json, or find the same there; InputError for another run's.

    Steps take the place of the time budget that they come from.
    """
    if not _is_claimed(folder, run) or RUNS.read(folder).training.steps != run.training.steps:
        RUNS.write(folder, run)
    if finished_steps(folder) < (run.training.steps or math.inf):
        check_target(folder / "model", overwrite=True, index=checkpoint.INDEX)


def _is_claimed(folder: Path, run: RunConfig) -> bool:
    path = folder / RUN
    if not path.exists():
        return False
    found = RUNS.read(folder)
    if found.training.seconds is not None and run.training.seconds is None:
        found = replace(found, training=run.training)
    if found != run:
        raise InputError(f"{path}: the folder holds a run of other settings")
    _check_same_tokens(found, run.tokens_sha256)
    return True


def _check_same_tokens(run: RunConfig, digest: str | None) -> None:
    if digest is not None and run.tokens_sha256 not in (None, digest):
        raise InputError(
            f"{run.data or listed(run.domains)}: the texts are not those that the run was begun "
            "with; expected the same, or a new run"
        )


def run_folder(folder: Path) -> Path | None:
    """The run that a folder is, or that its model/ is in; None where there is no run.json."""
    for each in (folder, folder.absolute().parent):
        if (each / RUN).is_file() and (each == folder or folder.name == "model"):
            return each
    return None


def model_folder(folder: Path) -> Path:
    """The folder of a model, which is given itself or as that of a finished run.

    InputError for an unfinished run, with the command that goes on with it.
    """
    if (folder / checkpoint.INDEX).is_file() or not (folder / RUN).is_file():
        return folder
    model = folder / "model"
    if not (model / checkpoint.INDEX).is_file():
        raise RUNS.unfinished(folder, RUNS.read(folder).training.steps)
    return model


def open_corpora(run: RunConfig, folder: Path | None = None) -> Corpora:
    """The domains of a run, in their order; with its folder, tokens are kept and found there."""
    length = run.model.length if run.model else run.length or _decoder_length(run)
    options: dict[str, Any] = {
        "splits": run.splits,
        "anonymise": run.anonymise,
        "deduplicate": run.deduplicate,
        "limit_bytes": run.limit_bytes,
        "seed": DATA_SEED,
        "vocabulary": run.model.vocabulary if run.model else 2,
        "block": length,
        "cache": None if folder is None else folder / "corpora",
        "text": run.text,
        "domain": run.domain,
    }
    tokenizer = _given_tokenizer(run)
    if run.data is None:
        return load_domains(run.domains, tokenizer, **options)
    return load_domains(Path(run.data), tokenizer, only=run.domains, **options)


@contextmanager
def _leaving_nothing_new(folder: Path | None) -> Iterator[None]:
    """After a failure a new run's folder is as it was, so that the next try finds it empty."""
    ours = (RUN, "corpora")
    new = folder is not None and not any((folder / name).exists() for name in ours)
    try:
        yield
    except BaseException:
        if new and folder is not None and folder.is_dir():
            shutil.rmtree(folder / "corpora", ignore_errors=True)
            with suppress(OSError):
                folder.rmdir()
        raise


def _given_tokenizer(run: RunConfig) -> "Tokenizer | None":
    if run.tokenizer is not None:
        return load_tokenizer(Path(run.tokenizer))
    if run.decoder is None:
        return None
    path = Path(run.decoder) / "tokenizer.json"
    if not path.is_file():
        raise InputError(
            f"{run.decoder}: expected a tokenizer.json there, or the path of another one"
        )
    return load_tokenizer(path)


def _decoder_length(run: RunConfig) -> int:
    assert run.decoder is not None
    return min(_decoder_settings(Path(run.decoder))[1], DECODER_LENGTH)


def _digest(corpora: Corpora) -> str:
    """The SHA-256 of all tokens and of what they stand for."""
    digest = hashlib.sha256(corpora.tokenizer.to_str().encode())
    for name, corpus in corpora.domains.items():
        for part in PARTS:
            tokens = corpus.part(part)
            digest.update(f"{name} {part} {tokens.dtype} {tokens.shape} ".encode())
            digest.update(np.ascontiguousarray(tokens).data)
    return digest.hexdigest()


# ---- training


class Training:
    """A run's corpora, and what is made of them.

    With a `folder`, run.json and the tokens are written there. `run` is then the configuration
    with the digest of the data; where it has seconds, `settle` turns them into steps before `fit`.
    `processes` divide the rows; of whole models as experts, which are tasks of their own, `jobs`
    train at a time (0: one a core). InputError for data that are missing, not as expected, or not
    what the run was begun with, and for processes that cannot divide the rows.

        with RUNS.replacing(out if is_first_process() else None):
            training = Training(run, out, device)     # or Training(RUNS.read(folder), folder)
            training.settle()
            fabric.launch()                           # several processes: ddp, see distributed.py
            trained = training.fit(fabric=fabric, progress=advance)
    """

    def __init__(
        self,
        run: RunConfig,
        folder: Path | None = None,
        device: str = "cpu",
        *,
        processes: int = 1,
        jobs: int = 0,
    ) -> None:
        self.folder, self.device, self.processes, self.jobs = folder, device, processes, jobs
        with _leaving_nothing_new(folder):
            if folder is not None:
                # Another run's folder is refused before anything is written there.
                _is_claimed(folder, run)
            self.corpora = open_corpora(run, folder)
            digest = _digest(self.corpora)
            _check_same_tokens(run, digest)
            self.run = replace(run, tokens_sha256=digest)
            self.domains = tuple(self.corpora.domains)
            self.length = run.model.length if run.model else run.length or _decoder_length(run)
            """Tokens of a row."""
            self.rows = run.rows or max(1, TOKENS_PER_STEP // (len(self.domains) * self.length))
            """Of each domain an update."""
            self._check_rows(processes)
            if folder is not None:
                claim_run(folder, self.run)
        self._corpora = self.corpora.select(self.domains)
        kinds = self.corpora.tokenizer.get_vocab_size()
        self.shape: LMConfig | None = None
        """Of the model, with the vocabulary of the tokenizer; None for a decoder."""
        if run.model is not None:
            self.shape = replace(run.model, vocabulary=kinds, end_of_text=self.corpora.end_of_text)

    @property
    def steps(self) -> int:
        """What `progress` counts to: steps, or with branches those of the seed and of each."""
        config = self._config()
        if self.run.experts != "all":
            return config.steps or 0
        seed, after = split_steps(config, self.run.seed_share)
        return (seed.steps or 0 if seed else 0) + len(self.domains) * (after.steps or 0)

    @property
    def finished(self) -> int:
        """Of these, those that need not be taken again."""
        if self.folder is None:
            return 0
        if self.run.experts != "all":
            return saved_step(self.folder)
        seed, after = split_steps(self._config(), self.run.seed_share)
        branches = self.folder / "branches"
        done = [name for name in self.domains if (branches / name / "model").exists()]
        begun = saved_step(self.folder / "seed") if seed else 0
        return begun + len(done) * (after.steps or 0)

    def _config(self) -> TrainConfig:
        if self.run.training.steps is None:
            raise InputError("training: expected `settle` first, where there is a time budget")
        return self.run.training

    def build(self) -> ModularLM:
        """The untrained model: by the run's seed, or the decoder's."""
        if self.run.decoder is not None:
            from workingpapers.demix.pretrained import DEMixForCausalLM

            wrapped = DEMixForCausalLM.from_decoder(Path(self.run.decoder), self.domains)
            if self.corpora.tokenizer.get_vocab_size() > wrapped.vocabulary:
                raise InputError(
                    f"{self.run.tokenizer or self.run.decoder}: the tokenizer has "
                    f"{self.corpora.tokenizer.get_vocab_size()} kinds of tokens, expected at most "
                    f"{wrapped.vocabulary}, the decoder's"
                )
            return wrapped
        assert self.shape is not None
        with torch.random.fork_rng():
            torch.manual_seed(self.run.training.seed)
            return DEMixLM(self.shape, self.domains, experts=self.run.experts)

    @cached_property
    def _sizes(self) -> tuple[int, int]:
        """Shared parameters, and those of one expert."""
        if self.run.decoder is not None:
            model = self.build()
        else:
            assert self.shape is not None
            with torch.device("meta"):
                model = DEMixLM(self.shape, self.domains, experts=self.run.experts)
        shared = sum(weight.numel() for weight in model.shared_parameters().values())
        one = model.expert_parameters(model.domains[0])
        return shared, sum(weight.numel() for weight in one.values())

    def settle(self) -> None:
        """Turn a time budget into steps, by timing a few; nothing where the run has steps."""
        config = self.run.training
        if config.seconds is None:
            return
        per_step = self._seconds_per_step
        steps = max(2, int(config.seconds / per_step))
        self.run = replace(
            self.run,
            training=replace(
                config,
                steps=steps,
                seconds=None,
                warmup=config.warmup or warmup_steps(steps),
                save_every=max(1, min(config.save_every, steps // 10)),
            ),
        )

    def plan(self) -> Plan:
        """What it will take, for --dry-run; a few steps are timed, and nothing is written."""
        self.settle()
        config = self._config()
        shared, per_expert = self._sizes
        experts = len(self.domains) if self.run.experts != "none" else 0
        steps = config.steps or 0
        tokens = len(self.domains) * self.rows * self.length * config.accumulate
        sampler = BlockSampler(self._corpora, self.length, self.rows)
        return Plan(
            domains=self.domains,
            parameters=shared + experts * per_expert,
            shared=shared,
            per_expert=per_expert,
            active=shared + per_expert,
            vocabulary=self.corpora.tokenizer.get_vocab_size(),
            length=self.length,
            rows=self.rows,
            steps=steps,
            tokens_per_step=tokens,
            tokens=steps * tokens,
            corpus_tokens={corpus.name: len(corpus.train) for corpus in self._corpora},
            epochs=sampler.epochs(steps * config.accumulate),
            step_seconds=self._timed[0],
            minutes=steps * self._seconds_per_step / 60,
            memory_mb=self._timed[2],
            measured=self._is_small,
        )

    @property
    def _is_small(self) -> bool:
        shared, per_expert = self._sizes
        # Of branches, each process has one.
        experts = len(self.domains) if self.run.experts == "ffn" else 1
        return self._calculated_mb(shared + experts * per_expert) <= MEASURED_MB

    def _calculated_mb(self, parameters: int) -> float:
        """Of weights and what the optimizer keeps, and of the logits of a step."""
        tokens = len(self.domains) * self.rows * self.length
        logits = tokens * self.corpora.tokenizer.get_vocab_size()
        return (parameters * _BYTES_PER_PARAMETER + 4 * logits) / (1 << 20)

    @cached_property
    def _timed(self) -> tuple[float, float, float]:
        """Seconds of a step on all domains, and of one on one domain; MiB that the first takes."""
        # A guess is enough where steps are given.
        repeats = GUESSED_STEPS if self.run.training.seconds is None else TIMED_STEPS
        config = replace(self.run.training, steps=1, seconds=None)
        options: dict[str, Any] = {"rows": self.rows, "length": self.length, "repeats": repeats}
        if not self._is_small:
            shared, per_expert = self._sizes
            experts = len(self.domains) if self.run.experts == "ffn" else 1
            tokens = self.rows * self.length * config.accumulate
            one = 6 * (shared + per_expert) * tokens / self._products_per_second()
            memory = self._calculated_mb(shared + experts * per_expert)
            return one * len(self.domains), one, memory
        if self.run.experts == "all":
            assert self.shape is not None
            model: Any = DEMixLM(self.shape, experts="none")
        else:
            model = self.build()
        model.to(self.device)
        before = watch_memory()
        whole = time_step(model, self._corpora, config, **options)
        rise = peak_since(before)
        weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
        memory = 4 * weights / (1 << 20) if rise is None or self.device != "cpu" else rise
        one = whole / len(self.domains)
        if self.run.experts == "all":
            one = time_step(model, self._corpora[:1], config, **options)
        return whole, one, memory

    def _products_per_second(self) -> float:
        """Multiplications and additions that a layer of the model's width makes in a second."""
        dim = self.shape.dim if self.shape else _decoder_settings(Path(self.run.decoder or ""))[0]
        x = torch.ones(256, dim, device=self.device)
        weight = torch.ones(dim, 4 * dim, device=self.device)
        times = []
        for _ in range(4):
            start = time.perf_counter()
            float((x @ weight)[0, 0])
            times.append(time.perf_counter() - start)
        return 2 * len(x) * weight.numel() / statistics.median(times[1:])

    @property
    def _seconds_per_step(self) -> float:
        """Wall time of one of `training.steps`, on the average."""
        whole, one, _ = self._timed
        if self.run.experts != "all":
            return whole / self.processes
        at_once = min(len(self.domains), self.jobs or _cores())
        rounds = math.ceil(len(self.domains) / at_once)
        share = self.run.seed_share
        return share * whole + (1 - share) * rounds * one

    def _check_rows(self, processes: int) -> None:
        Division.of(len(self.domains), self.rows, processes, 0)
        if processes > 1 and self.run.experts == "all":
            raise InputError("experts all: expected one process, which trains branches in others")

    def fit(
        self,
        *,
        fabric: "Fabric | None" = None,
        progress: Callable[[int], None] | None = None,
        engine: Engine = "local",
    ) -> Trained:
        """Train in the run's folder, or go on with what is there, and write the model.

        `engine` is for whole models as experts, which train as tasks of their own.
        Every process returns; the first one writes. A finished run's model stays as it is. Raises
        what `train` and `train_branches` raise, and DivergedError where the loss on development
        text is not finite.
        """
        if self.folder is None:
            raise InputError("folder: expected one, for the run")
        config = self._config()
        if fabric is None:
            fabric = one_process(config, self.device)
        self._check_rows(fabric.world_size)
        if fabric.broadcast(self.run.tokens_sha256) != self.run.tokens_sha256:
            raise InputError(f"{self.run.data or 'data'}: not the same on all machines")
        # A time budget may have become other steps elsewhere.
        self.run = fabric.broadcast(self.run)
        config = self._config()
        if self.run.experts == "all":
            check_engine(engine)
        if self.finished >= self.steps and (self.folder / "model" / checkpoint.INDEX).is_file():
            # Its experts may have been changed in place since.
            written, _, _ = load_model(self.folder / "model", device=self.device)
            return Trained(written, self._scores(written), self.folder / "model")
        if fabric.is_global_zero:
            claim_run(self.folder, self.run)
        fabric.barrier()
        model: Any
        if self.run.experts == "all":
            assert self.shape is not None
            model = train_branches(
                self.shape,
                self._corpora,
                config,
                self.folder,
                rows=self.rows,
                seed_share=self.run.seed_share,
                engine=engine,
                jobs=self.jobs,
                device=self.device,
                progress=progress,
            ).to(self.device)
        else:
            model = self.build()
            train(
                model,
                self._corpora,
                config,
                rows=self.rows,
                length=self.length,
                folder=self.folder,
                fabric=fabric,
                progress=progress,
            )
        model.eval()
        scores = self._scores(model)
        if fabric.is_global_zero:
            self._write(model, scores)
        fabric.barrier()
        return Trained(model, scores, self.folder / "model")

    def _scores(self, model: ModularLM) -> dict[str, dict[str, float]]:
        sizes = token_bytes(self.corpora.tokenizer)
        found = {}
        for corpus in self._corpora:
            expert = corpus.name if corpus.name in model.domains else model.domains[0]
            found[corpus.name] = score(model, corpus, expert, sizes, self.length)
            if not math.isfinite(found[corpus.name]["perplexity"]):
                raise DivergedError(
                    f"training: the loss on the development text of {corpus.name} is not finite; "
                    "try a smaller learning rate"
                )
        return found

    def _write(self, model: ModularLM, scores: Mapping[str, Mapping[str, float]]) -> None:
        assert self.folder is not None
        config = self._config()
        read = (config.steps or 0) * config.accumulate * self.rows * self.length
        known = [
            Expert(name, tokens=read if name in self.domains else read * len(self.domains))
            for name in model.domains
        ]
        save_model(
            self.folder / "model",
            model,
            self.corpora.tokenizer,
            experts=known,
            training=self._record(scores),
            card=self._card(scores),
            overwrite=True,
        )

    def _record(self, scores: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
        """What the manifest keeps of the training."""
        settings, run = asdict(self._config()), self.run
        kept = {each.name: getattr(run, each.name) for each in fields(Parted)}
        parted = Parted(**kept | {"data": run.data and Path(run.data).name})
        return {
            "parted": asdict(parted),
            "version": __version__,
            "domains": {
                corpus.name: {
                    "source": self._source(corpus),
                    "licence": corpus.licence,
                    "tokens": len(corpus.train),
                }
                for corpus in self._corpora
            },
            "length": self.length,
            "rows": self.rows,
            "seed_share": self.run.seed_share,
            "settings": {name: value for name, value in settings.items() if value is not None},
            "tokens_sha256": self.run.tokens_sha256,
            "dev": {name: dict(score) for name, score in scores.items()},
        }

    def _source(self, corpus: DomainCorpus) -> str:
        """Where texts come from; of a user's path, without the folders that it is in."""
        if self.run.data is None:
            return corpus.source
        return corpus.source.replace(str(Path(self.run.data).parent) + "/", "", 1)

    def _card(self, scores: Mapping[str, Mapping[str, float]]) -> str:
        config, run = self._config(), self.run
        kinds = {
            "ffn": "feed-forward networks as domain experts",
            "all": "whole models as domain experts",
            "none": "no domain experts (dense)",
        }
        shared, per_expert = self._sizes
        experts = len(self.domains) if run.experts != "none" else 0
        shape = run.decoder and Path(run.decoder).name
        if self.shape is not None:
            shape = (
                f"{self.shape.layers} layers, width {self.shape.dim}, {self.shape.heads} heads, "
                f"{self.shape.vocabulary:,} kinds of tokens, rows of {self.length}"
            )
        lines = [
            f"# A language model of {listed(self.domains, 4)}",
            "",
            f"{kinds[run.experts]}; {shape}. {shared + experts * per_expert:,} parameters, "
            f"{shared + per_expert:,} of which a token meets.",
            "",
            f"Made by workingpapers {__version__}, `workingpapers demix train`.",
            "",
            "## Data",
            "",
            "| domain | source | licence | training text, bytes | tokens |",
            "|---|---|---|---|---|",
            *(
                f"| {corpus.name} | {self._source(corpus)} | {corpus.licence} | "
                f"{corpus.bytes['train']:,} | {len(corpus.train):,} |"
                for corpus in self._corpora
            ),
            "",
            "Copies and near copies of documents were "
            + ("dropped" if run.deduplicate else "kept")
            + (", addresses of persons replaced." if run.anonymise else "."),
            "",
            "## Training",
            "",
            f"{config.steps:,} steps of {self.rows * config.accumulate} rows of each domain; "
            f"AdamW, learning rate {config.learning_rate:g} ({config.schedule}, {config.warmup} "
            f"steps of warm-up), betas {config.betas[0]:g} and {config.betas[1]:g}, weight decay "
            f"{config.weight_decay:g}, gradients clipped at {config.clip}, precision "
            f"{config.precision}, seed {config.seed}.",
            *(
                [f"In the first {run.seed_share:.0%} of the steps one model learned all domains."]
                if run.seed_share
                else []
            ),
            "",
            "## Quality",
            "",
            "On development text, each domain by its own expert"
            + (":" if experts else " (this model has one for all):"),
            "",
            "| domain | perplexity a token | bits per byte |",
            "|---|---|---|",
            *(
                f"| {name} | {each['perplexity']:.2f} | {each['bits_per_byte']:.3f} |"
                for name, each in scores.items()
            ),
        ]
        return "\n".join(lines)


def score(
    model: ModularLM,
    corpus: DomainCorpus,
    expert: str,
    sizes: np.ndarray,
    length: int,
    part: str = "dev",
) -> dict[str, float]:
    """How well one expert knows a part of a corpus, of which at most SCORED_ROWS rows are read.

    `sizes` are the bytes of each token, see `corpora.token_bytes`.
    """
    rows, previous = held_out_rows(corpus, length, SCORED_ROWS, part)
    weights: Any = model
    device = next(weights.parameters()).device
    logprobs = model.token_logprobs(rows.to(device), [expert], previous=previous.to(device))
    loss = -float(logprobs.double().mean())
    size = int(sizes[rows.numpy()].sum())
    return {
        "perplexity": math.exp(loss) if loss < 700 else math.inf,
        "bits_per_byte": loss * rows.numel() / math.log(2) / max(1, size),
        "tokens": rows.numel(),
    }


# ---- one more expert


@dataclass(frozen=True)
class Added:
    """What adding an expert came to."""

    expert: str
    parent: str | None
    nearest: str
    """The expert under which the domain's development text was likeliest."""
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
    """Add an expert for a corpus, by whose name it is called, to the model in a folder.

    The corpus is in tokens of the model's tokenizer. The expert begins as `init`, "nearest",
    "mean", "random" or a copy of the expert of this name, and is trained by `training`, fields of
    TrainConfig; with steps 0 it is not. The result is written as by `checkpoint.add_expert`; its
    old experts and shared weights are those files, bit for bit.
    """
    if (out is None) != in_place:
        raise InputError("out: expected a folder for the result, or in_place, and not both")
    if out is not None:
        check_target(out, overwrite, checkpoint.INDEX)
    manifest = checkpoint.read_manifest(folder)
    check_name(corpus.name, manifest.domains)
    model: Any
    model, tokenizer, _ = load_model(folder, device=device)
    if tokenizer is None:
        raise InputError(f"{folder}: expected a model with its tokenizer")
    settings = {name: value for name, value in (training or {}).items() if value is not None}
    if "seconds" not in settings:
        settings.setdefault("steps", ADAPTATION_STEPS)
    untrained = settings.get("steps") == 0
    config = train_config(
        _width(model), adapting=True, **settings | ({"steps": 1} if untrained else {})
    )
    length = min(model.context, DECODER_LENGTH)
    held_out = held_out_rows(corpus, length)
    if not len(held_out[0]):
        raise InputError(
            f"{corpus.source}: domain {corpus.name!r} has {len(corpus.dev)} tokens in its part "
            f"'dev', expected at least {length + 1}"
        )
    sizes = token_bytes(tokenizer)
    nearest = nearest_expert(model, *held_out)
    before = score(model, corpus, nearest, sizes, length)
    begun = nearest if init == "nearest" else init
    model.add_expert(corpus.name, begun, config.seed)
    tokens = 0
    if not untrained:
        fabric = one_process(config, device)
        history = adapt(
            model,
            corpus.name,
            corpus,
            config,
            rows=rows,
            length=length,
            fabric=fabric,
            progress=progress,
        )
        tokens = (history.config.steps or 0) * config.accumulate * rows * length
    parent = begun if begun in manifest.domains else None
    checkpoint.add_expert(
        folder,
        corpus.name,
        weights=model.expert_parameters(corpus.name),
        expert=Expert(corpus.name, parent, tokens),
        out=out,
        in_place=in_place,
        overwrite=overwrite,
    )
    after = score(model, corpus, corpus.name, sizes, length)
    return Added(corpus.name, parent, nearest, tokens, before, after)


def _width(model: Any) -> int:
    return model.config.dim if isinstance(model, DEMixLM) else model.config.backbone.hidden_size
