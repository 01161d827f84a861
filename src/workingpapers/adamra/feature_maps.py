"""Feature maps phi with which kernel attention replaces exp(q . k) by phi(q) . phi(k)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workingpapers.foundation.errors import InputError


class FeatureMap(nn.Module, ABC):
    """Maps queries and keys, "... width", to features, "... features", of which all are >= 0."""

    @abstractmethod
    def queries(self, q: Float[Tensor, "... width"]) -> Float[Tensor, "... features"]:
        """Features of queries."""

    @abstractmethod
    def keys(
        self, k: Float[Tensor, "... keys width"], weights: Float[Tensor, "*#batch keys"]
    ) -> Float[Tensor, "... keys features"]:
        """Features of keys; keys of weight 0 are padding."""


class ElementwiseFeatureMap(FeatureMap):
    """A map of each number by itself, whose derivative follows from its value.

    The derivative lets the fused operations keep phi alone, and a causal layer needs features
    that do not depend on other positions.
    """

    @abstractmethod
    def map_(self, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """phi of the values; may overwrite them."""

    @abstractmethod
    def derivative(self, features: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """phi' where phi has the values `features`."""

    def queries(self, q: Float[Tensor, "... width"]) -> Float[Tensor, "... features"]:
        return self(q)

    def keys(
        self, k: Float[Tensor, "... keys width"], weights: Float[Tensor, "*#batch keys"]
    ) -> Float[Tensor, "... keys features"]:
        return self(k)


class Elu(ElementwiseFeatureMap):
    """elu(x) + 1 (Katharopoulos et al. 2020, equation 7)."""

    def forward(self, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return nn.functional.elu(values) + 1

    def map_(self, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return nn.functional.elu_(values).add_(1)

    def derivative(self, features: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return features.clamp(max=1)


class Relu(ElementwiseFeatureMap):
    """max(x, 0) + 0.001, the simplest of Performer's maps (Choromanski et al. 2021)."""

    floor = 1e-3

    def forward(self, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return values.relu() + self.floor

    def map_(self, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return values.relu_().add_(self.floor)

    def derivative(self, features: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return (features > self.floor).to(features.dtype)


class Softmax(FeatureMap):
    """Softmax over a query's numbers, and over positions for each number of the keys.

    Efficient attention (Shen et al. 2021, section 3.2).
    """

    def queries(self, q: Float[Tensor, "... width"]) -> Float[Tensor, "... features"]:
        return q.softmax(-1)

    def keys(
        self, k: Float[Tensor, "... keys width"], weights: Float[Tensor, "*#batch keys"]
    ) -> Float[Tensor, "... keys features"]:
        # Divided by its sum, so that every feature's normaliser is 1 and so is a query's.
        weights = weights[..., None]
        k = k.masked_fill(weights == 0, -torch.inf)
        largest = k.amax(-2, keepdim=True).detach()
        k = (k - largest.nan_to_num(neginf=0.0)).exp()
        return k / (k * weights).sum(-2, keepdim=True).clamp_min(torch.finfo(k.dtype).tiny)


class Favor(FeatureMap):
    """Positive random features of the softmax kernel (Choromanski et al. 2021, lemma 1).

    The rows of the projection are orthogonal in groups of `width`; they are drawn once, from
    `seed`, and saved with the weights.
    """

    projection: Tensor

    def __init__(self, width: int, features: int | None = None, seed: int = 0) -> None:
        super().__init__()
        features = features or max(width, int(width * math.log(max(width, 3))))
        generator = torch.Generator().manual_seed(seed)
        rows = []
        for _ in range(math.ceil(features / width)):
            square = torch.randn(width, width, generator=generator)
            # Signs as of R's diagonal: without them directions are not uniform, estimates biased.
            q, r = torch.linalg.qr(square)
            rows.append((q * r.diagonal().sign()).T)
        lengths = torch.randn(features, width, generator=generator).norm(dim=1, keepdim=True)
        self.register_buffer("projection", torch.cat(rows)[:features] * lengths)

    def _exponents(self, x: Float[Tensor, "... width"]) -> Float[Tensor, "... features"]:
        x = x * x.shape[-1] ** -0.25
        projected = x @ self.projection.T.to(x.dtype)
        return projected - x.square().sum(-1, keepdim=True) / 2

    def queries(self, q: Float[Tensor, "... width"]) -> Float[Tensor, "... features"]:
        # A factor common to a query's features cancels in its normaliser.
        exponents = self._exponents(q)
        exponents = exponents - exponents.amax(-1, keepdim=True).detach()
        return (exponents.exp() + 1e-6) / math.sqrt(len(self.projection))

    def keys(
        self, k: Float[Tensor, "... keys width"], weights: Float[Tensor, "*#batch keys"]
    ) -> Float[Tensor, "... keys features"]:
        # So does a factor common to all keys; padding must not decide it.
        exponents = self._exponents(k).masked_fill(weights[..., None] == 0, -torch.inf)
        largest = exponents.amax((-2, -1), keepdim=True).detach().nan_to_num(neginf=0.0)
        return ((exponents - largest).exp() + 1e-6) / math.sqrt(len(self.projection))


FEATURE_MAPS = ("elu", "relu", "softmax", "favor")


def make_feature_map(name: str, width: int) -> FeatureMap:
    """The map called `name` for heads of `width`; InputError for another name."""
    makers: dict[str, Callable[[], FeatureMap]] = {
        "elu": Elu,
        "relu": Relu,
        "softmax": Softmax,
        "favor": lambda: Favor(width),
    }
    if name not in makers:
        raise InputError(f"feature_map {name!r}: expected {', '.join(FEATURE_MAPS)}")
    return makers[name]()
