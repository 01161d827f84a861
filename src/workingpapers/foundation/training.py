"""The training loop of every learner here: Lightning Fabric in the open, resumable bit for bit."""

import copy
import csv
import importlib.util
import io
import json
import math
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from workingpapers.foundation.checkpoints import load_training_state, save_training_state
from workingpapers.foundation.console import Exit, write_atomically
from workingpapers.foundation.errors import InputError, UserFacingError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Schedule = Literal["constant", "linear", "cosine", "rsqrt"]
Precision = Literal["32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true"]
Loss = Callable[[nn.Module, Any], Tensor | tuple[Tensor, Mapping[str, float]]]

_OWN_COLUMNS = ("step", "seconds", "loss", "learning_rate", "gradient_norm")
"""What the log holds of each step beside what the loss names."""
TIMED_STEPS = 20
"""Steps by which a time budget is turned into a number of steps."""


class DivergedError(UserFacingError):
    """The loss is no longer a finite number."""

    exit_code = int(Exit.NOT_CONVERGED)


@runtime_checkable
class Stateful(Protocol):
    """What else belongs to a run: carried memory, grids, samplers."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


@dataclass(frozen=True)
class TrainConfig:
    """How to train, with exactly one of `steps` and `seconds`; InputError for impossible values.

    `schedule` follows `warmup` steps of linear growth: constant, linear or cosine to 0 at the last
    step, or rsqrt, where the learning rate is divided by sqrt(max(step, warmup)). One step is one
    update, from `accumulate` batches a process. `seconds` are turned into steps once, by timing.
    """

    learning_rate: float = 1e-3
    schedule: Schedule = "linear"
    warmup: int = 0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | None = 1.0
    """Largest norm of the gradient; None: as it is."""
    accumulate: int = 1
    precision: Precision = "32-true"
    """As Fabric names it."""
    seed: int = 0
    threads: int | None = None
    """Threads of PyTorch; None: as many as it has. Another number may give other last bits."""
    steps: int | None = None
    seconds: float | None = None
    save_every: int = 500
    evaluate_every: int | None = None
    patience: int | None = None
    """Evaluations without a better score after which training ends, with the best weights."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise InputError("training: expected exactly one of steps and seconds")
        for name in ("steps", "seconds", "learning_rate", "accumulate", "save_every"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} {value}: expected a number above 0")
        for name in ("clip", "threads", "evaluate_every", "patience"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} {value}: expected a number above 0")
        for name in ("warmup", "weight_decay", "seed"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} {getattr(self, name)}: expected at least 0")
        if self.seed >= 2**63:
            raise InputError(f"seed {self.seed}: expected a number below 2**63")
        if self.patience is not None and self.evaluate_every is None:
            raise InputError("patience: expected together with evaluate_every")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas {self.betas}: expected two numbers from 0 to below 1")
        for name, known in (("schedule", Schedule), ("precision", Precision)):
            if getattr(self, name) not in get_args(known):
                listed = ", ".join(get_args(known))
                raise InputError(f"{name} {getattr(self, name)!r}: expected one of {listed}")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of the update `step`, counted from 0."""
        if self.schedule == "rsqrt":
            done = max(step, self.warmup, 1)
            return self.learning_rate * min(1, (step + 1) / max(self.warmup, 1)) / math.sqrt(done)
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        assert self.steps is not None
        left = max(self.steps - step, 0) / max(self.steps - self.warmup, 1)
        factors = {
            "constant": 1.0,
            "linear": left,
            "cosine": 0.5 * (1 - math.cos(math.pi * left)),
        }
        return self.learning_rate * factors[self.schedule]


@dataclass
class History:
    """What happened in a run, from its first step on, also where it was resumed."""

    config: TrainConfig
    """With the number of steps that a time budget came to."""
    log: list[dict[str, float]] = field(default_factory=list)
    """One row a step: step, seconds, loss, learning_rate, gradient_norm and the loss's own."""
    evaluations: list[dict[str, float]] = field(default_factory=list)
    """One row an evaluation: step and what `evaluate` returned."""
    best_step: int | None = None
    """The step with the best score, where there is patience; its weights were kept."""
    resumed_from: int = 0


def fit(
    model: nn.Module,
    loss: Loss,
    batches: Callable[[int], Any],
    config: TrainConfig,
    *,
    folder: Path | None = None,
    fabric: "Fabric | None" = None,
    groups: Iterable[dict[str, Any]] | None = None,
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    before_update: Callable[[nn.Module, int], None] | None = None,
    gradient_norm: Callable[[nn.Module], Tensor] | None = None,
    after_update: Callable[[nn.Module, int], None] | None = None,
    before_save: Callable[[nn.Module, torch.optim.Optimizer], None] | None = None,
    state: Stateful | None = None,
    progress: Callable[[int], None] | None = None,
) -> History:
    """Train `model` in place with AdamW.

    `loss(model, batch)` gives the loss, or the loss and numbers to log. `batches(index)` gives the
    batch `index`, a function of that number alone: process r of w reads the batches
    (step * accumulate + i) * w + r. `folder` keeps log.csv, evaluations.csv, TensorBoard's files
    where that is installed, and training_state/; a run found there is continued, with the same
    weights as if it had not stopped. `groups` are the optimizer's; by default weight decay spares
    vectors. `evaluate(model)` names numbers of which the first is a score, larger being better.
    `before_update` sees the gradients before they are clipped, `after_update` the new weights.
    `gradient_norm` gives the norm to clip by where it is not that of this process's gradients
    alone, and `before_save`, called in all processes before each save and at the end, completes
    the weights and the optimizer where each process trains some of them. Random numbers are
    seeded anew at each step, from the seed, the step and the process.

    Ctrl-C ends the step, saves and raises KeyboardInterrupt. Raises InputError for a run of another
    configuration or number of threads in `folder`, DivergedError for a loss that is not finite.
    """
    if fabric is None:
        fabric = one_process(config)
    if count_parameters(model) == 0:
        raise InputError("model: expected parameters that training may change, found none")
    with _threads(config.threads):
        run = _Run(None if folder is None else Path(folder), config, fabric)
        config = run.settle(lambda: step_seconds(model, loss, batches, config))
        optimizer = _optimizer(model, config, groups)
        wrapped, optimizer = fabric.setup(model, optimizer)
        run.restore(model, optimizer, state)
        with _deferred_interrupt() as interrupted, torch.random.fork_rng():
            for step in range(run.step, config.steps or 0):
                if run.is_over():
                    break
                wrapped.train()
                row = _update(
                    fabric,
                    wrapped,
                    optimizer,
                    loss,
                    batches,
                    config,
                    step,
                    before_update,
                    gradient_norm,
                )
                if after_update is not None:
                    after_update(model, step)
                last = step + 1 == config.steps
                if evaluate is not None and (
                    last or (config.evaluate_every and (step + 1) % config.evaluate_every == 0)
                ):
                    model.eval()
                    run.evaluated(step + 1, evaluate(model), model)
                run.log(row)
                if progress is not None:
                    progress(1)
                stopped = _anywhere(fabric, interrupted())
                if last or stopped or run.is_over() or (step + 1) % config.save_every == 0:
                    if before_save is not None:
                        before_save(model, optimizer)
                    run.save(model, optimizer, state)
                if stopped:
                    raise KeyboardInterrupt
        run.finish(model)
    return run.history


def one_process(config: TrainConfig, device: str = "cpu") -> "Fabric":
    """Fabric for one process, on "cpu" or "cuda"."""
    # Imported here: it takes longer than all the rest, and much is done without training.
    from lightning_fabric import Fabric

    return Fabric(accelerator=device, devices=1, precision=config.precision)


def step_seconds(
    model: nn.Module,
    loss: Loss,
    batches: Callable[[int], Any],
    config: TrainConfig,
    *,
    repeats: int = TIMED_STEPS,
) -> float:
    """Median wall seconds of an update, measured on a copy of the model; nothing is changed."""
    twin = copy.deepcopy(model)
    fabric = one_process(config)
    if next(twin.parameters()).is_cuda:
        fabric = one_process(config, "cuda")
    timed = replace(config, steps=repeats + 2, seconds=None)
    wrapped, optimizer = fabric.setup(twin, _optimizer(twin, timed, None))
    times = []
    with torch.random.fork_rng():
        for step in range(repeats + 2):
            start = time.perf_counter()
            _update(fabric, wrapped, optimizer, loss, batches, timed, step)
            times.append(time.perf_counter() - start)
    # The first two take memory and compile.
    return statistics.median(times[2:])


def count_parameters(model: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _update(
    fabric: "Fabric",
    model: Any,
    optimizer: Any,
    loss: Loss,
    batches: Callable[[int], Any],
    config: TrainConfig,
    step: int,
    before_update: Callable[[nn.Module, int], None] | None = None,
    gradient_norm: Callable[[nn.Module], Tensor] | None = None,
) -> dict[str, float]:
    """One update of the weights; the row of the log."""
    rank, processes = fabric.global_rank, fabric.world_size
    torch.manual_seed(((config.seed * 1_000_003 + step) * processes + rank) % 2**63)
    rate = config.learning_rate_at(step)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)
    total, numbers = 0.0, dict[str, float]()
    for index in range(config.accumulate):
        number = (step * config.accumulate + index) * processes + rank
        batch = fabric.to_device(batches(number))
        more = index + 1 < config.accumulate
        with fabric.no_backward_sync(model, enabled=more):
            result = loss(model, batch)
            value, named = result if isinstance(result, tuple) else (result, {})
            fabric.backward(value / config.accumulate)
        total += float(value.detach()) / config.accumulate
        for name, logged in named.items():
            numbers[name] = numbers.get(name, 0.0) + float(logged) / config.accumulate
    taken = [name for name in numbers if name in _OWN_COLUMNS]
    if taken:
        raise InputError(f"loss: the name {taken[0]!r} of a number to log is the loop's own")
    if not math.isfinite(total):
        raise DivergedError(
            f"training: the loss at step {step + 1} is {total}; try a smaller learning rate"
        )
    if before_update is not None:
        before_update(model, step)
    largest = config.clip or math.inf
    if gradient_norm is None:
        norm = fabric.clip_gradients(model, optimizer, max_norm=largest, error_if_nonfinite=False)
    else:
        norm = gradient_norm(model)
        nn.utils.clip_grads_with_norm_(model.parameters(), largest, norm)
    optimizer.step()
    optimizer.zero_grad()
    return {
        "step": step + 1,
        "loss": total,
        "learning_rate": rate,
        "gradient_norm": float(norm if norm is not None else math.nan),
        **numbers,
    }


def _anywhere(fabric: "Fabric", flag: bool) -> bool:
    """Whether the flag is up in any process: they must end at the same step."""
    if fabric.world_size == 1:
        return flag
    raised = fabric.all_reduce(torch.tensor(float(flag), device=fabric.device), reduce_op="max")
    return bool(raised)


def _optimizer(
    model: nn.Module, config: TrainConfig, groups: Iterable[dict[str, Any]] | None
) -> torch.optim.Optimizer:
    if groups is None:
        trained = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2]},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,
    )


class _Run:
    """The memory of a run: its history, and its folder when it has one."""

    def __init__(self, folder: Path | None, config: TrainConfig, fabric: "Fabric") -> None:
        self.folder, self.fabric = folder, fabric
        self.history = History(config)
        self.step = 0
        self.best: dict[str, Any] | None = None
        self.best_score = -math.inf
        self.waited = 0
        self.seconds = 0.0
        self.started = time.perf_counter()
        self.writers: dict[str, Any] = {}
        self.columns: dict[str, list[str]] = {}
        self.board: Any = None

    def settle(self, timed: Callable[[], float]) -> TrainConfig:
        """The configuration with its steps; InputError where the folder holds another run."""
        config = self.history.config
        wanted = {
            "config": json.loads(json.dumps(asdict(config))),
            "threads": torch.get_num_threads(),
        }
        path = self.folder / "training_state" / "settings.json" if self.folder else None
        if path is not None and path.is_file():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                steps = int(found["steps"])
                found = {"config": found["config"], "threads": found["threads"]}
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path}: not the settings of a run ({error})") from None
            if found["threads"] != wanted["threads"]:
                raise InputError(
                    f"{path}: the run used {found['threads']} threads, this process has "
                    f"{wanted['threads']}; expected the same number to go on with it"
                )
            # How often to save changes no number.
            for name in wanted["config"]:
                theirs, ours = found["config"].get(name), wanted["config"][name]
                if name != "save_every" and theirs != ours:
                    raise InputError(f"{path}: the run has {name} {theirs}, asked for {ours}")
        else:
            steps = config.steps or 0
            if config.seconds is not None:
                steps = max(1, round(config.seconds / timed()))
            steps = int(self.fabric.broadcast(steps))
            if path is not None and self.fabric.is_global_zero:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, json.dumps({**wanted, "steps": steps}, indent=2) + "\n")
        self.fabric.barrier()
        self.history.config = replace(config, steps=steps, seconds=None)
        return self.history.config

    def restore(self, model: nn.Module, optimizer: Any, state: Stateful | None) -> None:
        """Go on from the last saved step, if there is one."""
        if self.folder is None:
            return
        saved = load_training_state(self.folder / "training_state")
        if saved is not None:
            content = saved[1]
            try:
                model.load_state_dict(content["model"])
                optimizer.load_state_dict(content["optimizer"])
                if state is not None:
                    state.load_state_dict(content["state"])
                self.step = self.history.resumed_from = saved[0]
                self.best, self.best_score = content["best"], content["best_score"]
                self.waited, self.seconds = content["waited"], content["seconds"]
                self.history.best_step = content["best_step"]
            except (KeyError, ValueError, TypeError, RuntimeError) as error:
                reason = " ".join(str(error).split())
                raise InputError(
                    f"{self.folder / 'training_state'}: the state of another run, which does not "
                    f"fit this model, optimizer or state ({reason:.200})"
                ) from None
        if not self.fabric.is_global_zero:
            return
        for name in ("log", "evaluations"):
            path = self.folder / f"{name}.csv"
            # Rows of steps after the last save are written again.
            rows = [row for row in _read_rows(path) if row["step"] <= self.step]
            setattr(self.history, name, rows)
            self.columns[name] = self._rewrite(path, rows)
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.step + 1)

    def log(self, row: dict[str, float]) -> None:
        self.step = int(row["step"])
        seconds = self.seconds + time.perf_counter() - self.started
        row = {"step": row["step"], "seconds": round(seconds, 4), **row}
        self.history.log.append(row)
        self._append("log", self.history.log, "training")

    def evaluated(self, step: int, values: Mapping[str, float], model: nn.Module) -> None:
        if "step" in values:
            raise InputError("evaluate: the name 'step' is the loop's own")
        row = {"step": step, **{name: float(value) for name, value in values.items()}}
        self.history.evaluations.append(row)
        self._append("evaluations", self.history.evaluations, "evaluation")
        if self.history.config.patience is None or not values:
            return
        score = float(next(iter(values.values())))
        self.waited += 1
        if score > self.best_score:
            self.best_score, self.waited, self.history.best_step = score, 0, step
            self.best = {name: value.clone() for name, value in model.state_dict().items()}

    def is_over(self) -> bool:
        """Whether patience is at its end."""
        patience = self.history.config.patience
        return patience is not None and self.waited >= patience

    def save(self, model: nn.Module, optimizer: Any, state: Stateful | None) -> None:
        if self.folder is None:
            return
        if self.fabric.is_global_zero:
            content = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "state": state.state_dict() if state is not None else {},
                "best": self.best,
                "best_score": self.best_score,
                "best_step": self.history.best_step,
                "waited": self.waited,
                "seconds": self.seconds + time.perf_counter() - self.started,
            }
            save_training_state(self.folder / "training_state", self.step, content)
        self.fabric.barrier()

    def finish(self, model: nn.Module) -> None:
        if self.best is not None:
            model.load_state_dict(self.best)
        for file in self.writers.values():
            file.close()
        if self.board is not None:
            self.board.close()

    def _append(self, name: str, rows: list[dict[str, float]], tag: str) -> None:
        """Write the last row to a CSV file, all of them when there is a new column."""
        if self.folder is None or not self.fabric.is_global_zero:
            return
        path = self.folder / f"{name}.csv"
        if not set(rows[-1]) <= set(self.columns.get(name, ())):
            # A new column: what was written before gets an empty field for it.
            if name in self.writers:
                self.writers.pop(name).close()
            self.columns[name] = self._rewrite(path, rows)
        else:
            if name not in self.writers:
                # Line by line, so that a killed run's log is whole.
                self.writers[name] = path.open("a", buffering=1, encoding="utf-8", newline="")
            fields = [rows[-1].get(column, "") for column in self.columns[name]]
            csv.writer(self.writers[name], lineterminator="\n").writerow(fields)
        if self.board is not None:
            for key, value in rows[-1].items():
                if key not in ("step", "seconds"):
                    self.board.add_scalar(f"{tag}/{key}", value, rows[-1]["step"])

    @staticmethod
    def _rewrite(path: Path, rows: list[dict[str, float]]) -> list[str]:
        """Write all rows; the names of their columns."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        if columns:
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([row.get(name, "") for name in columns] for row in rows)
        if columns or path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text.getvalue())
        return columns


def _read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a log; one that was cut off in the middle is dropped with what follows."""
    if not path.is_file():
        return []
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        for entry in csv.DictReader(file):
            try:
                row = {name: float(value) for name, value in entry.items() if value != ""}
                row["step"] = int(row["step"])
            except (TypeError, ValueError, KeyError):
                break
            rows.append(row)
    return rows


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """PyTorch with `count` threads, and as before afterwards."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Ctrl-C is noted and asked for between steps, so that no half-made step is saved.

    A second Ctrl-C interrupts at once. Only the main thread can listen.
    """
    noted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield noted.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def note(signum: int, frame: Any) -> None:
        if noted.is_set():
            raise KeyboardInterrupt
        noted.set()

    signal.signal(signal.SIGINT, note)
    try:
        yield noted.is_set
    finally:
        signal.signal(signal.SIGINT, before)
