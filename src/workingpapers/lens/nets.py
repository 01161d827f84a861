"""The five networks that can be read as logic, all heads (classes) trained at once.

A head reads concepts in [0, 1] and fires when its logit is above 0. Whatever its kind, a network
is here a stack of affine layers whose weights have one leading index a head, so one batched
product serves all heads. `prune` cuts concepts off a head for good: what the head answers then
depends on its kept concepts alone, and a truth table over those is the whole head.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from workingpapers.foundation.errors import InputError

NetName = Literal["mu", "psi", "relu", "entropy", "tell"]
NETS: tuple[NetName, ...] = get_args(NetName)

MOST_TABLE_CONCEPTS = 20
"""A truth table over more concepts than this (2^20 rows) is refused."""

# Rows of a truth table evaluated at a time: the hidden layers of one chunk stay in the cache.
_CHUNK_BITS = 13


@dataclass(frozen=True)
class NetConfig:
    """Shape of a network. `NetConfig.of(net)` gives the settings that suit each kind."""

    net: NetName = "mu"
    hidden: tuple[int, ...] = (20, 10)
    """Sizes of the hidden layers; TELL has none."""
    fan_in: int | None = None
    """psi: inputs each neuron keeps at pruning. mu: concepts an example's explanation uses, in
    place of the rule "at least half the largest weight norm". The others have none."""
    temperature: float = 1.0
    """entropy: of the attention over concepts. tell: factor on the sums. Others: unused."""
    dropout: float = 0.0
    """Share of hidden activations dropped in training."""

    def __post_init__(self) -> None:
        if self.net not in NETS:
            raise InputError(f"net: expected one of {', '.join(NETS)}, got {self.net!r}")
        if any(not _is_count(size) for size in self.hidden):
            raise InputError(f"hidden: expected sizes of at least 1, got {self.hidden}")
        if self.net == "tell" and self.hidden:
            raise InputError(f"hidden: a tell network has no hidden layers, got {self.hidden}")
        if self.net == "psi" and self.fan_in is None:
            raise InputError("fan_in: a psi network needs one, of at least 1")
        if self.fan_in is not None and self.net not in ("psi", "mu"):
            raise InputError(f"fan_in: only psi and mu networks have one, not {self.net}")
        if self.fan_in is not None and not _is_count(self.fan_in):
            raise InputError(f"fan_in: expected at least 1, got {self.fan_in}")
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature: expected above 0, got {self.temperature}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout: expected at least 0 and below 1, got {self.dropout}")

    @classmethod
    def of(cls, net: str, **changes: Any) -> "NetConfig":
        """The settings that suit `net`, with `changes`."""
        if net not in NETS:
            raise InputError(f"net: expected one of {', '.join(NETS)}, got {net!r}")
        return cls(**{"net": net, **_SUITABLE[net], **changes})


_SUITABLE: dict[NetName, dict[str, Any]] = {
    "mu": {"hidden": (20, 10)},
    "psi": {"hidden": (10, 5), "fan_in": 4},
    "relu": {"hidden": (50, 30)},
    "entropy": {"hidden": (20, 10), "temperature": 0.7},
    "tell": {"hidden": (), "temperature": 1.0},
}


def _is_count(value: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@dataclass(frozen=True)
class Layer:
    """An affine layer of every head; a leading size of 1 means one layer that all heads share."""

    weight: Float[Tensor, "#heads fan_in fan_out"]
    bias: Float[Tensor, "#heads 1 fan_out"]

    def of_head(self, head: int) -> "Layer":
        """The layer of one head alone."""
        weight = self.weight[head : head + 1] if len(self.weight) > 1 else self.weight
        bias = self.bias[head : head + 1] if len(self.bias) > 1 else self.bias
        return Layer(weight, bias)

    def __call__(self, inputs: Float[Tensor, "_ batch fan_in"]) -> Float[Tensor, "_ batch fan_out"]:
        return torch.matmul(inputs, self.weight) + self.bias


class LogicNet(nn.Module, ABC):
    """A network of `n_heads` heads over `n_concepts` concepts.

    `mask` says which concepts each head may read: all of them until `prune` is called.
    """

    mask: Bool[Tensor, "heads concepts"]

    def __init__(self, config: NetConfig, n_concepts: int, n_heads: int) -> None:
        super().__init__()
        self.config = config
        self.n_concepts = n_concepts
        self.n_heads = n_heads
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.register_buffer("mask", torch.ones(n_heads, n_concepts, dtype=torch.bool))

    def _add_layer(self, heads: int, fan_in: int, fan_out: int, generator: torch.Generator) -> None:
        """One more layer, weights and biases uniform within 1/sqrt(fan_in)."""
        bound = 1 / math.sqrt(fan_in)
        for parameters, rows in ((self.weights, fan_in), (self.biases, 1)):
            start = torch.empty(heads, rows, fan_out).uniform_(-bound, bound, generator=generator)
            parameters.append(nn.Parameter(start))

    @abstractmethod
    def layers(self) -> Sequence[Layer]:
        """The layers that are computed: all masks, gates and scales applied to the weights."""

    @abstractmethod
    def activate(self, sums: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The activation of the hidden layers."""

    @abstractmethod
    def penalty(self, logits: Float[Tensor, "batch heads"] | None = None) -> Float[Tensor, ""]:
        """The kind's own sparsity term, summed over heads; only TELL's looks at the logits."""

    @abstractmethod
    def relevance(self) -> Float[Tensor, "heads concepts"]:
        """How much each head uses each concept, at least 0; 0 where the concept is pruned."""

    def forward(
        self, concepts: Float[Tensor, "batch concepts"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch heads"]:
        """Logits of all heads. Dropout is active only when a generator for its noise is given."""
        return self._run(self.layers(), concepts, generator).squeeze(-1).T

    def head_logits(
        self, head: int, concepts: Float[Tensor, "batch concepts"]
    ) -> Float[Tensor, "batch"]:
        """Logits of one head."""
        layers = [layer.of_head(head) for layer in self.layers()]
        return self._run(layers, concepts)[0, :, 0]

    def kept(self, head: int) -> list[int]:
        """The concepts the head reads, in ascending order."""
        return self.mask[head].nonzero().flatten().tolist()

    @torch.no_grad()
    def head_on_relevant(
        self, head: int, patterns: Float[Tensor, "batch m"] | Bool[Tensor, "batch m"]
    ) -> Float[Tensor, "batch"]:
        """Logits of one head from its kept concepts alone, the columns in the order of `kept`."""
        first, *rest = self._kept_layers(head)
        if patterns.shape[1] != len(first.weight[0]):
            expected = f"{len(first.weight[0])} columns, one a concept that head {head} keeps"
            raise InputError(f"patterns: expected {expected}, got {patterns.shape[1]}")
        chunks = patterns.split(1 << _CHUNK_BITS)
        return torch.cat([self._run([first, *rest], chunk)[0, :, 0] for chunk in chunks])

    @torch.no_grad()
    def truth_table(self, head: int) -> Bool[Tensor, "rows"]:
        """Whether the head fires on every 0/1 pattern of its m kept concepts: 2^m rows.

        Bit i of the row number is the value of the i-th kept concept. InputError if the head
        keeps more than 20 concepts.
        """
        first, *rest = self._kept_layers(head)
        weight, bias = first.weight[0], first.bias[0]
        if len(weight) > MOST_TABLE_CONCEPTS:
            raise InputError(
                f"max_concepts: head {head} keeps {len(weight)} concepts, "
                f"a truth table takes at most {MOST_TABLE_CONCEPTS}"
            )
        # The first layer is additive: the sums over the low bits serve for all high bits.
        split = min(len(weight), _CHUNK_BITS)
        low = all_patterns(split).to(weight) @ weight[:split] + bias
        high = all_patterns(len(weight) - split).to(weight) @ weight[split:]
        return torch.cat([self._finish(rest, (low + row)[None])[0, :, 0] > 0 for row in high])

    def prune(self, max_concepts: int | None = None) -> None:
        """Leave each head its most relevant concepts, at most `max_concepts` of those it reads.

        Concepts without any influence go in any case. Flipping a pruned concept never changes
        the head's logit. May be called again with a smaller number.
        """
        if max_concepts is not None and not _is_count(max_concepts):
            raise InputError(f"max_concepts: expected at least 1, got {max_concepts}")
        with torch.no_grad():
            self._prune(max_concepts)

    def _prune(self, max_concepts: int | None) -> None:
        self.mask.copy_(_largest(self.relevance(), max_concepts, dim=1))

    def local_relevance(
        self, concepts: Float[Tensor, "batch concepts"]
    ) -> Bool[Tensor, "batch heads concepts"]:
        """The concepts that the kind's own explanation of an example uses, for each head."""
        return self.mask.expand(len(concepts), -1, -1)

    def _kept_layers(self, head: int) -> list[Layer]:
        first, *rest = (layer.of_head(head) for layer in self.layers())
        return [Layer(first.weight[:, self.mask[head]], first.bias), *rest]

    def _run(
        self,
        layers: Sequence[Layer],
        concepts: Float[Tensor, "batch _"] | Bool[Tensor, "batch _"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "heads batch 1"]:
        first, *rest = layers
        return self._finish(rest, first(concepts.to(first.weight.dtype)[None]), generator)

    def _finish(
        self,
        layers: Sequence[Layer],
        sums: Float[Tensor, "_ batch _"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "heads batch 1"]:
        """What the layers above the first make of the first one's sums."""
        for layer in layers:
            values = self.activate(sums)
            if generator is not None and self.config.dropout > 0:
                kept = 1 - self.config.dropout
                values = values * torch.empty_like(values).bernoulli_(kept, generator=generator)
                values = values / kept
            sums = layer(values)
        return sums


class MuNet(LogicNet):
    """One LeakyReLU network a head, an L1 penalty on its first layer (arXiv:2108.05149)."""

    def __init__(
        self, config: NetConfig, n_concepts: int, n_heads: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, n_concepts, n_heads)
        for fan_in, fan_out in _steps(n_concepts, config.hidden):
            self._add_layer(n_heads, fan_in, fan_out, generator)

    def layers(self) -> list[Layer]:
        first, *rest = map(Layer, self.weights, self.biases)
        return [_signed(Layer(first.weight * self.mask.unsqueeze(-1), first.bias)), *rest]

    def activate(self, sums: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return functional.leaky_relu(sums)

    def penalty(self, logits: Float[Tensor, "batch heads"] | None = None) -> Float[Tensor, ""]:
        return self.weights[0].abs().sum() + self.biases[0].abs().sum()

    def relevance(self) -> Float[Tensor, "heads concepts"]:
        """Euclidean norm of the concept's weights in the first layer."""
        return (self.weights[0].detach() * self.mask.unsqueeze(-1)).norm(dim=2)

    def local_relevance(
        self, concepts: Float[Tensor, "batch concepts"]
    ) -> Bool[Tensor, "batch heads concepts"]:
        """The `fan_in` largest first-layer norms, or those of at least half the largest one."""
        norms = self.relevance()
        if self.config.fan_in is not None:
            used = _largest(norms, self.config.fan_in, dim=1)
        else:
            used = (norms > 0) & (norms >= 0.5 * norms.amax(dim=1, keepdim=True))
        return used.expand(len(concepts), -1, -1)


class EntropyNet(LogicNet):
    """One LeakyReLU network a head, behind attention over the concepts (arXiv:2106.06804)."""

    def __init__(
        self, config: NetConfig, n_concepts: int, n_heads: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, n_concepts, n_heads)
        for fan_in, fan_out in _steps(n_concepts, config.hidden):
            self._add_layer(n_heads, fan_in, fan_out, generator)

    def attention(self) -> Float[Tensor, "heads concepts"]:
        """Softmax over the kept concepts of the L1 norm of their weights, over temperature."""
        norms = self.weights[0].abs().sum(dim=2) / self.config.temperature
        return norms.masked_fill(~self.mask, -math.inf).softmax(dim=1)

    def layers(self) -> list[Layer]:
        attention = self.attention()
        scales = (attention / attention.amax(dim=1, keepdim=True)).unsqueeze(-1)
        first, *rest = map(Layer, self.weights, self.biases)
        return [_signed(Layer(first.weight * scales, first.bias)), *rest]

    def activate(self, sums: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return functional.leaky_relu(sums)

    def penalty(self, logits: Float[Tensor, "batch heads"] | None = None) -> Float[Tensor, ""]:
        """Entropy of the attention, in nats."""
        # The slope of the entropy is infinite at the attention of a pruned concept, 0.
        attention = self.attention().clamp_min(torch.finfo(self.weights[0].dtype).tiny)
        return torch.special.entr(attention).sum()

    def relevance(self) -> Float[Tensor, "heads concepts"]:
        """Attention, over the head's largest."""
        attention = self.attention().detach()
        return attention / attention.amax(dim=1, keepdim=True)

    def local_relevance(
        self, concepts: Float[Tensor, "batch concepts"]
    ) -> Bool[Tensor, "batch heads concepts"]:
        """The concepts with more than half the largest attention."""
        return (self.relevance() > 0.5).expand(len(concepts), -1, -1)


class ReluNet(LogicNet):
    """One ReLU network that all heads share, a light L1 penalty on all weights (2108.05149).

    Once pruned, the shared network is run for every head on that head's concepts alone.
    """

    def __init__(
        self, config: NetConfig, n_concepts: int, n_heads: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, n_concepts, n_heads)
        *shared, last = _steps(n_concepts, config.hidden)
        for fan_in, fan_out in shared:
            self._add_layer(1, fan_in, fan_out, generator)
        self._add_layer(n_heads, last[0], 1, generator)

    def layers(self) -> list[Layer]:
        first, *rest = map(Layer, self.weights, self.biases)
        if not self.mask.all():
            first = Layer(first.weight * self.mask.unsqueeze(-1), first.bias)
        return [_signed(first), *rest]

    def activate(self, sums: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return functional.relu(sums)

    def penalty(self, logits: Float[Tensor, "batch heads"] | None = None) -> Float[Tensor, ""]:
        return torch.stack([weight.abs().sum() for weight in self.weights]).sum()

    def relevance(self) -> Float[Tensor, "heads concepts"]:
        """Sum over all paths from the concept to the head of the product of absolute weights."""
        return _path_weights(self.layers(), self.n_heads) * self.mask

    def firing_path(
        self, concepts: Float[Tensor, "batch concepts"]
    ) -> tuple[Float[Tensor, "batch heads concepts"], Float[Tensor, "batch heads"]]:
        """Weights W(c) and biases b(c) of the affine map the network is around each example c.

        The units that are silent for c are left out: logits = W(c) c + b(c), for every head.
        """
        *hidden, last = self.layers()
        firing = []
        values = concepts.to(last.weight.dtype)[None]
        for layer in hidden:
            sums = layer(values)
            firing.append(sums > 0)
            values = self.activate(sums)
        shape = (self.n_heads, len(concepts), -1)
        slope = last.weight.transpose(1, 2).expand(shape)
        offset = last.bias.expand(shape)
        for layer, fires in zip(reversed(hidden), reversed(firing), strict=True):
            slope = slope * fires
            offset = offset + torch.matmul(slope, layer.bias.transpose(1, 2))
            slope = torch.matmul(slope, layer.weight.transpose(1, 2))
        return slope.transpose(0, 1), offset.squeeze(-1).T

    def local_relevance(
        self, concepts: Float[Tensor, "batch concepts"]
    ) -> Bool[Tensor, "batch heads concepts"]:
        """The concepts whose weight on the firing path is more than half the largest one."""
        sizes = self.firing_path(concepts)[0].detach().abs()
        return sizes > 0.5 * sizes.amax(dim=2, keepdim=True)


@dataclass(frozen=True)
class NeuronTable:
    """The truth table of one neuron of a psi network."""

    inputs: tuple[int, ...]
    """Concepts (first layer) or neurons of the layer below, in ascending order."""
    fires: Bool[Tensor, "rows"]
    """2^inputs rows; bit i of the row number is the value of `inputs[i]`."""


class PsiNet(LogicNet):
    """One sigmoid network a head, L1 on everything, every neuron pruned to one fan-in (2108.05149).

    `connections[l]` says which inputs each neuron of layer l keeps.
    """

    def __init__(
        self, config: NetConfig, n_concepts: int, n_heads: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, n_concepts, n_heads)
        for index, (fan_in, fan_out) in enumerate(_steps(n_concepts, config.hidden)):
            self._add_layer(n_heads, fan_in, fan_out, generator)
            every = torch.ones(n_heads, fan_in, fan_out, dtype=torch.bool)
            self.register_buffer(f"connections_{index}", every)

    @property
    def connections(self) -> list[Bool[Tensor, "heads fan_in fan_out"]]:
        return [self.get_buffer(f"connections_{index}") for index in range(len(self.weights))]

    def layers(self) -> list[Layer]:
        parts = zip(self.weights, self.connections, self.biases, strict=True)
        return [_signed(Layer(weight * connected, bias)) for weight, connected, bias in parts]

    def activate(self, sums: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return sums.sigmoid()

    def penalty(self, logits: Float[Tensor, "batch heads"] | None = None) -> Float[Tensor, ""]:
        everything = [*self.weights, *self.biases]
        return torch.stack([values.abs().sum() for values in everything]).sum()

    def relevance(self) -> Float[Tensor, "heads concepts"]:
        """Sum over all paths from the concept to the head of the product of absolute weights."""
        return _path_weights(self.layers(), self.n_heads)

    def _prune(self, max_concepts: int | None) -> None:
        """Concepts first, then each neuron's connections, by absolute weight, to the fan-in."""
        self.connections[0].mul_(_largest(self.relevance(), max_concepts, dim=1).unsqueeze(-1))
        for layer, connected in zip(self.layers(), self.connections, strict=True):
            connected.copy_(_largest(layer.weight.abs(), self.config.fan_in, dim=1))
        self.mask.copy_(self.relevance() > 0)
        self.connections[0].mul_(self.mask.unsqueeze(-1))

    def neuron_tables(self, head: int) -> list[list[NeuronTable]]:
        """The truth table of every neuron of a head, by layer; neurons read 0/1 inputs.

        A neuron is on when its activation is above 0.5. InputError where a neuron has more than
        20 inputs, that is before `prune`.
        """
        return [
            [
                _neuron_table(layer.weight[head, :, unit], layer.bias[head, 0, unit], joined)
                for unit, joined in enumerate(connected[head].T)
            ]
            for layer, connected in zip(self.layers(), self.connections, strict=True)
        ]

    @torch.no_grad()
    def boolean_forward(
        self, concepts: Float[Tensor, "batch concepts"]
    ) -> Bool[Tensor, "batch heads"]:
        """Which heads fire when concepts and all hidden activations are thresholded at 0.5."""
        values = (concepts > 0.5)[None]
        for layer in self.layers():
            values = layer(values.to(layer.weight.dtype)) > 0
        return values.squeeze(-1).T


class TellNet(LogicNet):
    """One threshold unit a head over the concepts and their negations (ECAI 2024).

    logit = temperature (W [x, 1 - x] + b) with W = sigmoid(gate) exp(scale), never negative, so
    that a head is a threshold function that `rules` writes out.
    """

    def __init__(
        self, config: NetConfig, n_concepts: int, n_heads: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, n_concepts, n_heads)
        self._add_layer(n_heads, 2 * n_concepts, 1, generator)
        self.scales = nn.Parameter(torch.zeros_like(self.weights[0]))

    def _literal_weights(
        self,
    ) -> tuple[Float[Tensor, "heads concepts 1"], Float[Tensor, "heads concepts 1"]]:
        """Weights of the concepts and of their negations, pruned ones at 0."""
        literals = self.weights[0].sigmoid() * self.scales.exp()
        positive, negative = literals.split(self.n_concepts, dim=1)
        kept = self.mask.unsqueeze(-1)
        return positive * kept, negative * kept

    def layers(self) -> list[Layer]:
        positive, negative = self._literal_weights()
        bias = self.biases[0] + negative.sum(dim=1, keepdim=True)
        temperature = self.config.temperature
        return [Layer((positive - negative) * temperature, bias * temperature)]

    def activate(self, sums: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return sums.sigmoid()

    def penalty(self, logits: Float[Tensor, "batch heads"] | None = None) -> Float[Tensor, ""]:
        """Sum of the gates; with logits, also how far the heads' outputs are from orthogonal."""
        size = self.weights[0].sigmoid().sum()
        if logits is None:
            return size
        outputs = functional.normalize(logits.sigmoid(), dim=0)
        overlaps = outputs.T @ outputs - torch.eye(self.n_heads).to(outputs)
        return size + torch.linalg.matrix_norm(overlaps)

    def relevance(self) -> Float[Tensor, "heads concepts"]:
        """By how much the concept moves the sum: the difference of its two literals' weights."""
        positive, negative = self._literal_weights()
        return (positive - negative).detach().abs().squeeze(-1)

    @torch.no_grad()
    def rules(self, head: int, limit: int = 100_000) -> list[dict[int, bool]]:
        """The head as a disjunction of rules, each a mapping from concept to required value.

        A rule is a minimal set of literals whose weights exceed the threshold whatever the other
        concepts are: all prime implicants of the head's function, shortest first. An empty list
        is false, one empty rule is true. InputError if there are more than `limit` rules.
        """
        positive, negative = (weights[head, :, 0].double() for weights in self._literal_weights())
        gains = (positive - negative).abs()
        # Of each concept one literal holds, so the smaller weight of the two is always there.
        threshold = -float(self.biases[0][head] + torch.minimum(positive, negative).sum())
        order = [int(concept) for concept in gains.argsort(descending=True) if gains[concept] > 0]
        steps = gains[order].tolist()
        found = _minimal_subsets(steps, threshold, limit)
        if found is None:
            raise InputError(f"limit: head {head} has more than {limit} rules")
        values = (positive > negative).tolist()
        rules = [{order[index]: values[order[index]] for index in subset} for subset in found]
        return sorted(rules, key=len)


class LearnedThresholds(nn.Module):
    """Concepts "feature above threshold" with thresholds that are learned with the network.

    Each feature gives `n_thresholds` concepts sigmoid(slope (x - t)), side by side. The slope is
    raised in training until the concepts are as good as 0 and 1.
    """

    slope: Float[Tensor, ""]

    def __init__(self, n_features: int, n_thresholds: int = 1) -> None:
        super().__init__()
        for name, value in (("n_features", n_features), ("n_thresholds", n_thresholds)):
            if not _is_count(value):
                raise InputError(f"{name}: expected at least 1, got {value}")
        self.thresholds = nn.Parameter(torch.zeros(n_features, n_thresholds))
        self.register_buffer("slope", torch.ones(()))

    def forward(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch concepts"]:
        return (self.slope * (features.unsqueeze(-1) - self.thresholds)).sigmoid().flatten(1)

    def penalty(self, concepts: Float[Tensor, "batch concepts"]) -> Float[Tensor, ""]:
        """Mean binary entropy of the concepts, in nats: 0 when all of them are 0 or 1."""
        # At 0 and 1 themselves the entropy's slope is infinite.
        inner = concepts.clamp(1e-6, 1 - 1e-6)
        return (torch.special.entr(inner) + torch.special.entr(1 - inner)).mean()


_KINDS: dict[NetName, Any] = {
    "mu": MuNet,
    "psi": PsiNet,
    "relu": ReluNet,
    "entropy": EntropyNet,
    "tell": TellNet,
}


def make_net(config: NetConfig, n_concepts: int, n_heads: int, seed: int = 0) -> LogicNet:
    """A network with random weights, the same for the same seed."""
    for name, value in (("n_concepts", n_concepts), ("n_heads", n_heads)):
        if not _is_count(value):
            raise InputError(f"{name}: expected at least 1, got {value}")
    generator = torch.Generator().manual_seed(seed)
    return _KINDS[config.net](config, n_concepts, n_heads, generator)


def all_patterns(n_bits: int) -> Bool[Tensor, "rows bits"]:
    """All 0/1 patterns: bit i of the row number stands in column i."""
    return (torch.arange(1 << n_bits).unsqueeze(1) >> torch.arange(n_bits)) % 2 == 1


def _steps(n_concepts: int, hidden: tuple[int, ...]) -> list[tuple[int, int]]:
    """Inputs and outputs of each layer of one head."""
    return list(itertools.pairwise((n_concepts, *hidden, 1)))


def _signed(layer: Layer) -> Layer:
    """As a layer over inputs from 0 to 1, a layer whose weights act on inputs from -1 to 1.

    A truth value at 1 and -1 instead of 1 and 0 has its mean near 0: training converges faster,
    and the functions that a layer can be stay the same.
    """
    return Layer(2 * layer.weight, layer.bias - layer.weight.sum(dim=1, keepdim=True))


def _largest(
    values: Float[Tensor, "*shape"], count: int | None, dim: int
) -> Bool[Tensor, "*shape"]:
    """Marks the `count` largest values along `dim`, never a 0; the first of equals wins."""
    marked = values > 0
    if count is not None:
        order = values.argsort(dim=dim, descending=True, stable=True)
        marked &= order.argsort(dim=dim) < count
    return marked


@torch.no_grad()
def _path_weights(layers: Sequence[Layer], n_heads: int) -> Float[Tensor, "heads concepts"]:
    sums = layers[-1].weight.abs()
    for layer in reversed(layers[:-1]):
        sums = torch.matmul(layer.weight.abs(), sums)
    return sums.squeeze(-1).expand(n_heads, -1)


@torch.no_grad()
def _neuron_table(
    weight: Float[Tensor, "fan_in"], bias: Float[Tensor, ""], connected: Bool[Tensor, "fan_in"]
) -> NeuronTable:
    inputs = connected.nonzero().flatten().tolist()
    if len(inputs) > MOST_TABLE_CONCEPTS:
        raise InputError(
            f"fan_in: a neuron has {len(inputs)} inputs, "
            f"a truth table takes at most {MOST_TABLE_CONCEPTS}"
        )
    sums = all_patterns(len(inputs)).to(weight) @ weight[inputs] + bias
    return NeuronTable(tuple(inputs), sums > 0)


def _minimal_subsets(
    steps: list[float], threshold: float, limit: int
) -> list[tuple[int, ...]] | None:
    """Index sets of `steps` (descending, positive) that sum to above `threshold`, minimal ones.

    None if there are more than `limit`. Indices are added in ascending order, so the last one
    added is the smallest step, and the set is minimal exactly when it was the one that mattered.
    """
    if threshold < 0:
        return [()]
    remaining = [0.0] * (len(steps) + 1)
    for index in reversed(range(len(steps))):
        remaining[index] = remaining[index + 1] + steps[index]
    found: list[tuple[int, ...]] = []
    open_sets: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    while open_sets:
        chosen, total = open_sets.pop()
        for index in range(chosen[-1] + 1 if chosen else 0, len(steps)):
            if total + remaining[index] <= threshold:
                break
            if total + steps[index] > threshold:
                found.append((*chosen, index))
                if len(found) > limit:
                    return None
            else:
                open_sets.append(((*chosen, index), total + steps[index]))
    return found
