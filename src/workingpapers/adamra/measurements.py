"""The tasks behind the claims: what is trained, timed and checked for one variant and seed."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workingpapers.adamra.attention import AdaptiveMultiResolutionAttention
from workingpapers.adamra.baselines import baselines
from workingpapers.adamra.classify import (
    Batches,
    as_tensor,
    classification_loss,
    predict,
)
from workingpapers.adamra.encoder import AdaMRAEncoder, EncoderConfig
from workingpapers.adamra.protocols import protocol_for
from workingpapers.adamra.scaling import (
    Comparison,
    measure_pairs,
    measure_scaling,
)
from workingpapers.adamra.tasks import Examples, LongRangeTask, open_task
from workingpapers.foundation.memory import peak_since, return_free_memory, watch_memory
from workingpapers.foundation.training import TrainConfig, count_parameters, fit

Record = dict[str, Any]

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "multi-resolution": {},
    "single resolution": {"rates": (1,), "routing": "off"},
    "fixed": {"routing": "fixed"},
    "random": {"routing": "random"},
    # Trained with every token at the resolution that the trained router chose most.
    "collapsed": {},
    "a choice a head": {"per_head_routing": True},
    "feature map elu": {"feature_map": "elu"},
    "coarse": {"rates": (4, 16)},
    "coarse, softmax": {"rates": (4, 16), "kernel": "softmax"},
    "vanilla": {"attention": "sdpa"},
}
"""The networks that are compared, by what distinguishes them from the first."""


SHARES_EVERY = 25
"""Steps between two looks at what the router does in training."""


@dataclass(frozen=True)
class VariantTask:
    """One network trained on one task with one seed."""

    task: str
    variant: str
    seed: int
    steps: int
    batch: int
    learning_rate: float
    warmup: int
    train: int | None = None
    """Examples; None: all there are."""
    test: int | None = None
    length: int | None = None
    forced: int | None = None
    feature_map: str = "relu"
    dim: int = 32
    depth: int = 2
    heads: int = 2
    feed_forward: int = 64
    data: str | None = None
    """Where the public files of the task lie; None: it is generated or embedded."""
    validate: bool = False
    """Score on validation data, as settings are chosen."""


def protocol_task(name: str, variant: str, seed: int, data: Path | None = None) -> VariantTask:
    """A task at full size, by the compact protocol of Long Range Arena's followers."""
    settings = protocol_for(name, "compact")
    return VariantTask(
        name,
        variant,
        seed,
        settings.steps,
        settings.batch,
        settings.learning_rate,
        settings.warmup,
        train=settings.train,
        test=settings.test,
        length=settings.length,
        dim=settings.dim,
        depth=settings.depth,
        heads=settings.heads,
        feed_forward=settings.feed_forward,
        data=None if data is None else str(data),
    )


def encoder_config(task: VariantTask, source: LongRangeTask) -> EncoderConfig:
    """The variant's network, its feed-forward layers widened to as many parameters as the first's.

    What is missing of a whole hidden unit is left out.
    """
    first = EncoderConfig(
        vocabulary=source.vocabulary,
        classes=len(source.class_names),
        length=source.length,
        dim=task.dim,
        depth=task.depth,
        heads=task.heads,
        feed_forward=task.feed_forward,
        pair=source.pair,
        dropout=0.0,
        feature_map=task.feature_map,
    )
    config = replace(first, **VARIANTS[task.variant])
    spare = _parameters(first) - _parameters(config)
    unit = task.depth * (2 * task.dim + 1)
    # The classifier of pairs has its own hidden layer, which would widen too.
    unit += (4 * task.dim + 1 + len(source.class_names)) if source.pair else 0
    return replace(config, feed_forward=config.feed_forward + max(0, round(spare / unit)))


def initial_model(task: VariantTask, source: LongRangeTask) -> AdaMRAEncoder:
    """The untrained network, with the first variant's weights where shapes allow."""
    weights: dict[str, Tensor] = {}
    for variant in dict.fromkeys(("multi-resolution", task.variant)):
        torch.manual_seed(task.seed)
        model = AdaMRAEncoder(encoder_config(replace(task, variant=variant), source))
        own = model.state_dict()
        same = {k: v for k, v in weights.items() if k in own and v.shape == own[k].shape}
        model.load_state_dict(same, strict=False)
        weights = own
    return model


def _parameters(config: EncoderConfig) -> int:
    with torch.device("meta"):
        return count_parameters(AdaMRAEncoder(config))


def train_variant(task: VariantTask) -> Record:
    """Test accuracy of the variant, its cost, and what its router does."""
    source = open_task(task.task, Path(task.data) if task.data else None, length=task.length)
    train = source.sample("train", task.train, task.seed)
    test = source.sample("validation" if task.validate else "test", task.test, task.seed)
    model = initial_model(task, source)
    for layer in model.attentions():
        layer.forced = task.forced
    before = _choices(model, test)
    shares: list[list[list[float]]] = []

    def note_shares(_: nn.Module, step: int) -> None:
        if step % SHARES_EVERY == 0:
            shares.append(_shares(model))

    return_free_memory()
    before_fit = watch_memory()
    started = time.process_time()
    history = fit(
        model,
        classification_loss,
        Batches(train, task.batch, task.seed),
        TrainConfig(
            learning_rate=task.learning_rate,
            schedule="cosine",
            warmup=task.warmup,
            steps=task.steps,
            seed=task.seed,
        ),
        after_update=note_shares,
    )
    seconds = time.process_time() - started
    memory = peak_since(before_fit)
    correct = predict(model, test.tokens).argmax(1) == test.labels
    after = _choices(model, test)
    return {
        "accuracy": float(correct.mean()),
        "loss": float(np.mean([row["loss"] for row in history.log[-20:]])),
        "steps": task.steps,
        "parameters": count_parameters(model),
        "cpu_seconds": seconds,
        "examples_per_second": task.steps * task.batch / seconds,
        "peak_mb": memory,
        "shares": _shares(model),
        "shares_by_step": shares,
        "moved": float((before != after).mean()) if after.size else None,
        "entropy": [layer.routing_entropy() for layer in model.attentions()],
    }


@torch.no_grad()
def _choices(model: AdaMRAEncoder, examples: Examples, count: int = 32) -> np.ndarray:
    """Which resolution each token of some examples picks, in each adaptive layer."""
    if not model.attentions():
        return np.empty(0)
    model.eval()
    model(as_tensor(examples.tokens[:count]))
    return torch.stack([routing.choice for routing in model.routings()]).numpy()


def _shares(model: AdaMRAEncoder) -> list[list[float]]:
    """Share of tokens at each resolution in each adaptive layer, in the last call."""
    return [layer.routing_shares().tolist() for layer in model.attentions()]


# ---- cost


@dataclass(frozen=True)
class StepTask:
    """CPU time of an update of one variant over that of another, on one task."""

    task: VariantTask
    other: str
    rounds: int = 8


def compare_steps(task: StepTask) -> Record:
    """The ratio: median over rounds in which both take an update in turn."""
    source = open_task(task.task.task, length=task.task.length)
    examples = source.sample("train", task.task.train, 0)
    batch_at = Batches(examples, task.task.batch, 0)
    models = [
        AdaMRAEncoder(encoder_config(replace(task.task, variant=name), source))
        for name in (task.task.variant, task.other)
    ]
    ratios = []
    for index in range(task.rounds + 1):
        times = []
        for model in models:
            started = time.process_time()
            classification_loss(model, batch_at(index))[0].backward()
            times.append(time.process_time() - started)
            model.zero_grad()
        ratios.append(times[0] / times[1])
    return {"ratio": float(np.median(ratios[1:]))}


@dataclass(frozen=True)
class PairTask:
    """Attentions whose steps at one length are taken in turn; the first is the one compared."""

    names: tuple[str, ...]
    length: int
    repeats: int


def compare_attentions(task: PairTask) -> Record:
    """By name: CPU time over the first's (median of rounds), seconds and peak memory."""
    found = measure_pairs(task.names, task.length, repeats=task.repeats)
    return {
        each.measurement.name: {
            "ratio": float(np.median(each.ratios)),
            "cpu_seconds": each.measurement.cpu_seconds,
            "peak_mb": _own_memory(each),
            "length": task.length,
        }
        for each in found
    }


def _own_memory(each: Comparison) -> float:
    """Peak memory less the gradients of the parameters."""
    return each.measurement.peak_mb - each.measurement.gradients_mb


@dataclass(frozen=True)
class GrowthTask:
    """One attention at growing lengths."""

    name: str
    lengths: tuple[int, ...]
    repeats: int = 3


def measure_growth(task: GrowthTask) -> Record:
    """CPU seconds and peak memory (less the gradients of the parameters) at each length."""
    found = measure_scaling([task.name], task.lengths, repeats=task.repeats)
    failed = next((each.failed for each in found if each.failed), "")
    if failed:
        raise RuntimeError(f"{task.name}: {failed}")
    return {
        "name": task.name,
        "lengths": [each.length for each in found],
        "cpu_seconds": [each.cpu_seconds for each in found],
        "peak_mb": [each.peak_mb - each.gradients_mb for each in found],
    }


# ---- identities


@dataclass(frozen=True)
class IdentityTask:
    """Random layers and inputs for the identities that need no training."""

    seed: int
    length: int = 300


def check_identities(task: IdentityTask) -> Record:
    """Largest differences: sorted against dense readout, steps against forward, with padding."""
    generator = torch.Generator().manual_seed(task.seed)
    torch.manual_seed(task.seed)
    x = torch.randn(2, task.length, 32, generator=generator)
    layer = AdaptiveMultiResolutionAttention(32, 4)
    outputs = []
    for readout in ("sorted", "dense"):
        layer.readout = readout
        outputs.append(layer(x))
    padded = torch.cat([x, torch.randn(2, 23, 32, generator=generator)], 1)
    mask = torch.arange(padded.shape[1]).expand(2, -1) < task.length
    causal = AdaptiveMultiResolutionAttention(32, 4, causal=True)
    state = causal.init_state(2)
    size = state.bytes()
    steps = []
    with torch.no_grad():
        expected = causal(x)
        for position in range(task.length):
            y, state = causal.step(x[:, position], state)
            steps.append(y)
    return {
        "sorted": _difference(*outputs),
        "padding": _difference(layer(padded, mask)[:, : task.length], outputs[1]),
        "step": _difference(torch.stack(steps, 1), expected),
        "state_growth": float(state.bytes() - size),
    }


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).detach().abs().max())


@dataclass(frozen=True)
class LongTask:
    """A forward pass over a very long sequence."""

    length: int = 131_072
    dim: int = 64


def measure_long_forward(task: LongTask) -> Record:
    """Peak memory in GiB of a forward pass without gradients, in a process of its own."""
    (found,) = measure_scaling(
        ["adamra"], [task.length], task.dim, task.dim // 32, backward=False, repeats=1
    )
    if found.failed:
        raise RuntimeError(found.failed)
    return {"gib": found.peak_mb / 1024, "cpu_seconds": found.cpu_seconds}


# ---- baselines


@dataclass(frozen=True)
class BaselineTask:
    """What can be had on a task without a network."""

    task: str
    seed: int
    train: int | None = None
    test: int | None = None
    length: int | None = None


def score_baselines(task: BaselineTask) -> Record:
    """Accuracy of each shallow baseline on the test data of the networks."""
    source = open_task(task.task, length=task.length)
    train = source.sample("train", task.train, task.seed)
    test = source.sample("test", task.test, task.seed)
    return dict(baselines(source, train, test))
