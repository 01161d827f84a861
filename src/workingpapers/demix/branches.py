"""Branch-Train-Merge: whole models as experts, each trained apart from the others.

One dense model may first be trained on all domains, the seed phase; then a copy of it goes on with
each domain, a task of its own that speaks to no other (arXiv:2208.03306, section 3).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch

from workingpapers.demix.checkpoint import Loaded
from workingpapers.demix.corpora import BlockSampler, DomainCorpus
from workingpapers.demix.model import DEMixLM, LMConfig
from workingpapers.demix.protocol import check_names
from workingpapers.demix.training import train
from workingpapers.foundation import checkpoints
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.parallel import Engine, Outcome, map_tasks
from workingpapers.foundation.training import TrainConfig, one_process

_PART = "model"


@dataclass(frozen=True)
class Phase:
    """One training of one dense model: of the seed, or of a branch. Kept with its weights."""

    domains: tuple[str, ...]
    model: LMConfig
    training: TrainConfig
    rows: int
    """Of each domain a step."""
    start_sha256: str | None
    """Of the weights that it begins with; None: random ones by the seed of `training`."""
    tokens_sha256: str


@dataclass(frozen=True)
class PhaseTask:
    """A phase, and where its files are, for a process that has nothing but these."""

    phase: Phase
    folder: str
    """log.csv, training_state/ (see `foundation.training.fit`), and model/ at the end."""
    start: str | None
    tokens: tuple[str, ...]
    """Files of NumPy with the training tokens of each domain."""
    device: str


def split_steps(config: TrainConfig, seed_share: float) -> tuple[TrainConfig | None, TrainConfig]:
    """How the seed and how each branch is trained, so that both have `config.steps` together.

    Both are warmed up for their share of it; the learning rate of the seed phase then stays at
    its highest, and that of the branches follows the schedule. InputError for a time budget, and
    a share that is not from 0 to below 1 or leaves the branches no step.
    """
    if config.steps is None:
        raise InputError("training: expected steps, with whole models as experts")
    if not 0 <= seed_share < 1:
        raise InputError(f"seed_share {seed_share}: expected from 0 to below 1")
    steps = round(seed_share * config.steps)
    if steps == config.steps:
        raise InputError(f"steps {config.steps}: expected more, so that some are left to branches")

    def part(count: int) -> TrainConfig:
        warmup = min(count, -(-config.warmup * count // cast(int, config.steps)))
        return replace(config, steps=count, warmup=warmup, evaluate_every=None, patience=None)

    seed = replace(part(steps), schedule="constant") if steps else None
    # A worker has one thread, wherever it is.
    return seed, replace(part(config.steps - steps), threads=None)


def train_branches(
    model: LMConfig,
    corpora: Sequence[DomainCorpus],
    config: TrainConfig,
    folder: Path,
    *,
    rows: int = 2,
    seed_share: float = 0.0,
    engine: Engine = "local",
    jobs: int = 0,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> DEMixLM:
    """Train a model with whole models as experts, and leave all that was trained in `folder`.

    In the seed phase a step reads `rows` rows of each domain, then a step of a branch as many of
    its own: with equal `config.steps`, the tokens of `training.train`. Branches train as
    `foundation.parallel.map_tasks` runs them; on a cluster, `folder` is one that all machines see.
    Called again, it goes on with what is in `folder`, to the same weights; finished branches are
    not trained again. `progress` is told of the steps of the seed, and of those of a branch when
    it has ended. Raises what `train` and `map_tasks` raise, and InputError where `folder` holds
    branches of other settings.
    """
    names = check_names([corpus.name for corpus in corpora])
    seed, after = split_steps(config, seed_share)
    folder = folder.absolute()
    # Complaints about short corpora come first, and from this process.
    BlockSampler(corpora, model.length, rows)
    tokens = {corpus.name: _tokens_file(corpus, folder / "tokens") for corpus in corpora}
    digests = {corpus.name: _digest(corpus.train) for corpus in corpora}

    def task(
        where: Path, domains: Sequence[str], training: TrainConfig, start: Path | None
    ) -> PhaseTask:
        together = hashlib.sha256("".join(digests[name] for name in domains).encode())
        begun = None if start is None else _sha256(start)
        phase = Phase(tuple(domains), model, training, rows, begun, together.hexdigest())
        files = tuple(str(tokens[name]) for name in domains)
        return PhaseTask(phase, str(where), None if start is None else str(start), files, device)

    start = None
    if seed is not None:
        first = task(folder / "seed", names, seed, None)
        if not is_finished(first):
            train_phase(first, progress)
        start = folder / "seed" / "model"
    tasks = [task(folder / "branches" / name, [name], after, start) for name in names]
    left = [each for each in tasks if not is_finished(each)]

    def done(index: int, outcome: Outcome) -> None:
        if progress is not None:
            progress(after.steps or 0)

    map_tasks(train_phase, left, engine=engine, jobs=jobs, done=done)
    return assemble(model, {name: folder / "branches" / name / "model" for name in names})


def assemble(model: LMConfig, branches: Mapping[str, Path]) -> DEMixLM:
    """One model from those of branches, by the names of their domains."""
    with torch.device("meta"):
        whole = DEMixLM(model, list(branches), experts="all")
    whole = whole.to_empty(device="cpu")
    for name, folder in branches.items():
        whole.load_expert(name, _weights(folder))
    return whole


def is_finished(task: PhaseTask) -> bool:
    """Whether its weights are there; InputError where they are of other settings."""
    folder = checkpoints.locate(Path(task.folder) / "model")
    if not (folder / checkpoints.INDEX).is_file():
        return False
    found, _ = checkpoints.load(folder, Phase, ())
    if _numbers(found) != _numbers(task.phase):
        raise InputError(f"{folder}: holds a branch of other settings or texts")
    return True


def _numbers(phase: Phase) -> Phase:
    # How often it is saved changes no number.
    return replace(phase, training=replace(phase.training, save_every=1))


def train_phase(task: PhaseTask, progress: Callable[[int], None] | None = None) -> None:
    """Train one dense model and keep it in the task's folder, or go on with what is there."""
    phase, folder = task.phase, Path(task.folder)
    with torch.random.fork_rng():
        torch.manual_seed(phase.training.seed)
        model = DEMixLM(phase.model, experts="none")
    if task.start is not None:
        model.decoder.load_state_dict(_weights(Path(task.start)))
    corpora = [
        _corpus(name, Path(file)) for name, file in zip(phase.domains, task.tokens, strict=True)
    ]
    fabric = one_process(phase.training, task.device)
    train(
        model,
        corpora,
        phase.training,
        rows=phase.rows,
        folder=folder,
        fabric=fabric,
        progress=progress,
    )
    weights = {name: weight.data for name, weight in model.decoder.named_parameters()}
    checkpoints.save(folder / "model", phase, {_PART: weights}, overwrite=True)


def _weights(folder: Path) -> Loaded:
    return checkpoints.load(folder, Phase, [_PART])[1][_PART]


def _sha256(folder: Path) -> str:
    return checkpoints.digest(_weights(folder))


def _corpus(name: str, file: Path) -> DomainCorpus:
    tokens = np.load(file, mmap_mode="r")
    return DomainCorpus(name, tokens, tokens[:0], tokens[:0], {}, {}, source=str(file))


def _tokens_file(corpus: DomainCorpus, folder: Path) -> Path:
    """A file with the training tokens: the one they are mapped from, else a new one."""
    tokens = corpus.train
    if isinstance(tokens, np.memmap) and str(tokens.filename).endswith(".npy"):
        path = Path(str(tokens.filename))
        if _holds(path, tokens):
            return path
    path = folder / f"{corpus.name}.npy"
    if not _holds(path, tokens):
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial.npy")
        np.save(partial, tokens)
        partial.rename(path)
    return path


def _holds(path: Path, tokens: np.ndarray) -> bool:
    if not path.is_file():
        return False
    found = np.load(path, mmap_mode="r")
    return found.dtype == tokens.dtype and np.array_equal(found, tokens)


def _digest(tokens: np.ndarray) -> str:
    digest = hashlib.sha256(f"{tokens.dtype} {tokens.shape} ".encode())
    digest.update(np.ascontiguousarray(tokens).data)
    return digest.hexdigest()
