"""Losses, and the schedule of every network: learn with the penalty, prune step by step, tune."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from workingpapers.foundation.errors import InputError
from workingpapers.lens.nets import (
    NETS,
    LearnedThresholds,
    LogicNet,
    NetConfig,
    NetName,
    make_net,
)

Style = Literal["iff", "if", "only_if"]
Objective = Literal["classes", "binary", "multilabel", "mutual_information"]
Progress = Callable[[int], None]
Rows = tuple[Float[Tensor, "held concepts"], Float[Tensor, "held heads"]]

WIDTHS = (20, 16, 12, 9, 5)
"""What `select_width` tries, the widest first."""

# A narrower network is preferred to one whose validation score is better by no more than this.
_WIDTH_TOLERANCE = 0.005


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained. `TrainingConfig.of(net)` gives the settings that suit each kind."""

    learning_rate: float = 2e-2
    epochs: int = 600
    """Full-batch steps: a quarter before the first pruning, a quarter between the prunings, half
    after the last. Where nothing is pruned, the second quarter is not used."""
    l1: float = 5e-3
    """Weight of the network's own sparsity term before the last pruning."""
    weight_decay: float = 0.1
    style: Style = "iff"
    style_weight: float = 0.2
    """if, only_if: weight of the kind of error that the style forgives; in (0, 1]."""
    objective: Objective = "binary"
    prunings: int = 4
    """The width shrinks geometrically from all concepts to the wanted ones in so many steps."""
    patience: int | None = None
    """Epochs without a better validation score after which fine-tuning ends."""
    evaluate_every: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "prunings", "evaluate_every"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name}: expected at least 1, got {value!r}")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"patience: expected at least 1, got {self.patience}")
        for name in ("learning_rate", "l1", "weight_decay"):
            value = getattr(self, name)
            if not 0 <= value < math.inf or (name == "learning_rate" and value == 0):
                least = "above 0" if name == "learning_rate" else "of at least 0"
                raise InputError(f"{name}: expected a number {least}, got {value}")
        if self.style not in get_args(Style):
            raise InputError(f"style: expected {', '.join(get_args(Style))}, got {self.style!r}")
        if not 0 < self.style_weight <= 1:
            raise InputError(f"style_weight: expected in (0, 1], got {self.style_weight}")
        if self.objective not in get_args(Objective):
            expected = ", ".join(get_args(Objective))
            raise InputError(f"objective: expected {expected}, got {self.objective!r}")

    @classmethod
    def of(cls, net: str, **changes: Any) -> "TrainingConfig":
        """The settings that suit a kind of network, with `changes`."""
        if net not in NETS:
            raise InputError(f"net: expected one of {', '.join(NETS)}, got {net!r}")
        return cls(**{**_SUITABLE.get(net, {}), **changes})


_SUITABLE: dict[str, dict[str, Any]] = {
    "psi": {"l1": 1e-4, "weight_decay": 0.0},
    "relu": {"l1": 1e-4},
    "entropy": {"l1": 1e-3, "weight_decay": 0.01},
    "tell": {"l1": 1e-4, "weight_decay": 0.0},
}


@dataclass(frozen=True)
class History:
    """What a training did."""

    losses: tuple[float, ...]
    """The loss, penalty included, at each epoch."""
    scores: tuple[float, ...]
    """The validation accuracy at each evaluation after the last pruning."""
    best_score: float
    """The validation accuracy of the weights that were kept; nan without validation rows."""
    seconds: float
    widths: Mapping[int, float] = field(default_factory=dict)
    """The validation accuracy at each width that was tried."""

    @property
    def epochs(self) -> int:
        return len(self.losses)


def classification_loss(
    logits: Float[Tensor, "rows heads"],
    targets: Float[Tensor, "rows heads"],
    weights: Float[Tensor, " rows"],
    style: Style = "iff",
    style_weight: float = 0.2,
) -> Float[Tensor, ""]:
    """Weighted mean over rows of the heads' binary cross-entropy, summed over heads.

    "if" counts misses only `style_weight` times (formula -> class: no false alarm), "only_if"
    false alarms only so often (class -> formula: no miss).
    """
    if style == "iff":
        loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    else:
        # Linear in the target: one row with a mean target counts as much as the rows it stands for.
        misses = targets * functional.softplus(-logits)
        false_alarms = (1 - targets) * functional.softplus(logits)
        if style == "if":
            loss = style_weight * misses + false_alarms
        else:
            loss = misses + style_weight * false_alarms
    return (loss.sum(dim=1) * weights).sum() / weights.sum()


def cluster_probabilities(logits: Float[Tensor, "rows heads"]) -> Float[Tensor, "rows heads"]:
    """p(cluster | row): a softmax of the heads' activations, sharp enough for a certain answer.

    The factor log(0.99 (r - 1) / 0.01) gives a cluster that alone fires a probability of 0.99.
    """
    heads = logits.shape[1]
    return (math.log(0.99 * max(heads - 1, 1) / 0.01) * logits.sigmoid()).softmax(dim=1)


def mutual_information(
    logits: Float[Tensor, "rows heads"], weights: Float[Tensor, " rows"] | None = None
) -> Float[Tensor, ""]:
    """H(cluster) - H(cluster | row) in nats; log(heads) for a certain and even partition."""
    chances = cluster_probabilities(logits)
    shares = torch.ones(len(logits), device=logits.device) if weights is None else weights
    shares = (shares / shares.sum()).unsqueeze(1)
    marginal = torch.special.entr((chances * shares).sum(dim=0)).sum()
    return marginal - (torch.special.entr(chances) * shares).sum()


def accuracy(
    logits: Float[Tensor, "rows heads"],
    targets: Float[Tensor, "rows heads"],
    weights: Float[Tensor, " rows"],
    objective: Objective,
) -> float:
    """Weighted share of right answers: of the largest logit for exclusive classes, or of heads."""
    if objective == "classes":
        right = targets.gather(1, logits.argmax(dim=1, keepdim=True))[:, 0]
    else:
        fired = (logits > 0).to(targets.dtype)
        right = (fired * targets + (1 - fired) * (1 - targets)).mean(dim=1)
    return float((right * weights).sum() / weights.sum())


def train(
    net: LogicNet,
    concepts: Float[Tensor, "rows concepts"],
    targets: Float[Tensor, "rows heads"] | None,
    validation: Rows | None,
    config: TrainingConfig,
    *,
    max_concepts: int | None = None,
    progress: Progress | None = None,
) -> History:
    """Train `net` in place: with its penalty, pruned in steps to `max_concepts` a head, tuned.

    `targets` are 0 and 1, a column a head; None for the mutual-information objective. After the
    last pruning the epoch with the best validation accuracy, then loss, is kept; without
    validation rows, the last. `progress` is called with 1 after each epoch. Equal arguments give
    equal weights, bit for bit; the global random state is neither read nor changed.
    """
    run = _Run(net, concepts, targets, validation, config, progress)
    with _one_thread():
        run.learn()
        run.prune(max_concepts)
        run.tune()
    return run.history()


def select_width(
    net: LogicNet,
    concepts: Float[Tensor, "rows concepts"],
    targets: Float[Tensor, "rows heads"],
    validation: Rows | None,
    config: TrainingConfig,
    *,
    widths: Sequence[int] = WIDTHS,
    progress: Progress | None = None,
) -> History:
    """Train `net` in place at the width that validation chooses.

    Each width starts from the network of the one above it. The narrowest is taken whose accuracy
    is within 0.005 of the best. Without validation rows the widest is.
    """
    run = _Run(net, concepts, targets, validation, config, progress)
    found: dict[int, tuple[float, dict[str, Tensor]]] = {}
    with _one_thread():
        run.learn()
        for width in sorted(set(widths), reverse=True):
            run.prune(width)
            run.tune()
            found[width] = (run.best_score, copy.deepcopy(net.state_dict()))
            if math.isnan(run.best_score):
                break
    best = max(score for score, _ in found.values())
    chosen = min(
        (width for width, (score, _) in found.items() if score >= best - _WIDTH_TOLERANCE),
        default=max(found),
    )
    run.best_score, state = found[chosen]
    net.load_state_dict(state)
    return run.history({width: score for width, (score, _) in found.items()})


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for layers as small as these: more cost time, and could change the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Run:
    """One training: the rows, merged where they are equal, and what was seen so far."""

    def __init__(
        self,
        net: LogicNet,
        concepts: Float[Tensor, "rows concepts"],
        targets: Float[Tensor, "rows heads"] | None,
        validation: Rows | None,
        config: TrainingConfig,
        progress: Progress | None,
    ) -> None:
        self.net = net
        self.config = config
        self.progress = progress
        self.concepts = concepts
        self.targets = targets
        self.validation = validation
        self.generator = torch.Generator(device=concepts.device).manual_seed(config.seed)
        self.losses: list[float] = []
        self.scores: list[float] = []
        self.best_score = math.nan
        self.began = time.perf_counter()

    def history(self, widths: Mapping[int, float] | None = None) -> History:
        return History(
            tuple(self.losses),
            tuple(self.scores),
            self.best_score,
            time.perf_counter() - self.began,
            widths or {},
        )

    def learn(self) -> None:
        """The first half, with the penalty; a quarter of all epochs is left to the prunings."""
        epochs = self.config.epochs // 2
        if self.config.prunings > 1:
            epochs -= self.config.epochs // 4
        self._phase(max(1, epochs), self.config.l1, keep_best=False)

    def prune(self, max_concepts: int | None) -> None:
        """Cut down to the wanted width, learning on between the cuts."""
        steps = self.config.prunings
        now = int(self.net.mask.sum(dim=1).max())
        wanted = now if max_concepts is None else max_concepts
        if isinstance(wanted, int) and 1 <= wanted < now:
            for step in range(1, steps):
                self.net.prune(max(wanted, round(now * (wanted / now) ** (step / steps))))
                epochs = max(1, self.config.epochs // (4 * max(1, steps - 1)))
                self._phase(epochs, self.config.l1, keep_best=False)
        self.net.prune(max_concepts)

    def tune(self) -> None:
        """The second half, without the penalty."""
        self._phase(max(1, self.config.epochs // 2), 0.0, keep_best=True)

    def _phase(self, epochs: int, penalty: float, *, keep_best: bool) -> None:
        config = self.config
        rows, targets, weights = self._merged()
        optimizer = torch.optim.AdamW(
            self.net.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        best: tuple[tuple[float, float], dict[str, Tensor]] | None = None
        since_best = 0
        for epoch in range(epochs):
            if keep_best:
                # A cosine down to a hundredth: the last epochs settle in one place.
                share = 0.5 * (1 + math.cos(math.pi * epoch / epochs))
                optimizer.param_groups[0]["lr"] = config.learning_rate * (0.01 + 0.99 * share)
            optimizer.zero_grad()
            logits = self.net(rows, self.generator)
            loss = self._loss(logits, targets, weights)
            if penalty:
                loss = loss + penalty * self.net.penalty(logits)
            loss.backward()
            optimizer.step()
            self.losses.append(float(loss.detach()))
            if self.progress is not None:
                self.progress(1)
            last = epoch == epochs - 1
            if keep_best and self.validation is not None:
                if not last and (epoch + 1) % config.evaluate_every:
                    continue
                rank = self._evaluate()
                if best is None or rank >= best[0]:
                    best, since_best = (rank, copy.deepcopy(self.net.state_dict())), 0
                else:
                    since_best += config.evaluate_every
                if config.patience is not None and since_best >= config.patience:
                    break
        if best is not None:
            self.best_score = best[0][0]
            self.net.load_state_dict(best[1])

    def _loss(
        self,
        logits: Float[Tensor, "rows heads"],
        targets: Float[Tensor, "rows heads"] | None,
        weights: Float[Tensor, " rows"],
    ) -> Float[Tensor, ""]:
        if targets is None:
            return -mutual_information(logits, weights) / math.log(max(2, logits.shape[1]))
        config = self.config
        return classification_loss(logits, targets, weights, config.style, config.style_weight)

    @torch.no_grad()
    def _evaluate(self) -> tuple[float, float]:
        """Validation accuracy and, for ties, the loss with its sign turned."""
        assert self.validation is not None
        rows, targets = self.validation
        logits = self.net(rows)
        weights = torch.ones(len(rows), device=rows.device)
        score = accuracy(logits, targets, weights, self.config.objective)
        loss = float(self._loss(logits, targets, weights))
        self.scores.append(score)
        if self.config.style != "iff":
            # A style asks for one kind of error only: the loss knows which, accuracy does not.
            return (-loss, score)
        return score, -loss

    def _merged(
        self,
    ) -> tuple[
        Float[Tensor, "merged concepts"],
        Float[Tensor, "merged heads"] | None,
        Float[Tensor, "merged"],
    ]:
        """Rows that the network cannot tell apart as one row with a weight and a mean target."""
        rows = self.concepts * self.net.mask.any(dim=0)
        distinct, inverse = torch.unique(rows, dim=0, return_inverse=True)
        weights = torch.zeros(len(distinct), device=rows.device, dtype=rows.dtype)
        weights.index_add_(0, inverse, torch.ones(len(rows), device=rows.device, dtype=rows.dtype))
        if self.targets is None:
            return distinct, None, weights
        sums = torch.zeros(
            len(distinct), self.targets.shape[1], device=rows.device, dtype=rows.dtype
        )
        sums.index_add_(0, inverse, self.targets)
        return distinct, sums / weights.unsqueeze(1), weights


def learn_thresholds(
    features: Float[Tensor, "rows features"],
    targets: Float[Tensor, "rows heads"],
    n_thresholds: int = 1,
    *,
    net: NetName = "mu",
    epochs: int = 800,
    seed: int = 0,
) -> Float[Tensor, "features thresholds"]:
    """Thresholds of real features that serve a network best, learned together with it.

    Concepts sigmoid(slope (x - t)) stand in front of the network; the slope rises from 4 to 40
    standard deviations while a binary-entropy penalty pushes the concepts to 0 and 1. Returned in
    the features' own units, ascending for each feature. (After TELL, ECAI 2024.)
    """
    mean, scale = features.mean(dim=0), features.std(dim=0).clamp_min(1e-12)
    rows = ((features - mean) / scale).float()
    low, high = torch.quantile(rows, torch.tensor([0.01, 0.99]), dim=0).unsqueeze(-1)
    front = LearnedThresholds(features.shape[1], n_thresholds)
    levels = torch.linspace(0, 1, n_thresholds + 2)[1:-1]
    with torch.no_grad():
        front.thresholds.copy_(torch.quantile(rows, levels, dim=0).T)
    network = make_net(NetConfig.of(net), features.shape[1] * n_thresholds, targets.shape[1], seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam([*front.parameters(), *network.parameters()], lr=1e-2)
    weights = torch.ones(len(rows))
    with _one_thread():
        for epoch in range(epochs):
            front.slope.fill_(4.0 * 10.0 ** (epoch / max(1, epochs - 1)))
            optimizer.zero_grad()
            concepts = front(rows)
            loss = classification_loss(network(concepts, generator), targets, weights)
            loss = loss + 1e-3 * network.penalty() + 1e-3 * front.penalty(concepts)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                # Outside of the data every concept is constant, where the entropy is least.
                front.thresholds.clamp_(low, high)
    return (front.thresholds.detach() * scale.unsqueeze(1) + mean.unsqueeze(1)).sort(dim=1).values
