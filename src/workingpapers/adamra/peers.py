"""The attentions that ours is compared with, each in a few lines and called like ours.

All take x "batch length dim" and a mask that is True at real tokens; the output is 0 at the others,
and what stands there changes nothing. Where a package is named, it gives the same numbers for the
same weights on sequences without padding (tests hold them equal).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from workingpapers.adamra.attention import (
    AdaptiveMultiResolutionAttention,
    check_heads,
    check_input,
)
from workingpapers.adamra.feature_maps import Favor
from workingpapers.foundation.errors import InputError


class SelfAttention(nn.Module, ABC):
    """The projections around a way of attending, which is all that differs between the peers."""

    def __init__(self, dim: int, heads: int, *, output_bias: bool = True) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.dim, self.heads = dim, heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=output_bias)

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length dim"]:
        """Attend; InputError for a wrong shape or type."""
        check_input(x, mask, self.dim)
        q, k, v = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        real = None if mask is None else mask[:, None, :, None]
        out = self.output(self.attend(q, k, v, real).transpose(1, 2).flatten(2))
        return out if mask is None else out * mask[..., None]

    @abstractmethod
    def attend(
        self,
        q: Float[Tensor, "batch heads length width"],
        k: Float[Tensor, "batch heads length width"],
        v: Float[Tensor, "batch heads length width"],
        real: Bool[Tensor, "batch 1 length 1"] | None,
    ) -> Float[Tensor, "batch heads length width"]:
        """What each head reads; at padding any finite number."""

    def extra_repr(self) -> str:
        return f"{self.dim}, heads={self.heads}"


def softmax_weights(
    q: Float[Tensor, "*batch queries width"],
    k: Float[Tensor, "*batch keys width"],
    allowed: Bool[Tensor, "*#batch #queries keys"] | None = None,
) -> Float[Tensor, "*batch queries keys"]:
    """Softmax of q . k / sqrt(width) over the keys that are allowed (over all where none is)."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if allowed is not None:
        # The least number rather than -inf, whose softmax over padding alone is no number.
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    return scores.softmax(-1)


class SoftmaxAttention(SelfAttention):
    """Softmax attention with its matrix of weights formed (Vaswani et al. 2017, equation 1)."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None) -> Tensor:
        return softmax_weights(q, k, None if real is None else real.transpose(-1, -2)) @ v


class FusedSoftmaxAttention(SelfAttention):
    """The same by PyTorch's scaled_dot_product_attention, in memory linear in the length."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None) -> Tensor:
        if real is None:
            return scaled_dot_product_attention(q, k, v)
        scores = torch.zeros_like(real, dtype=q.dtype)
        scores = scores.masked_fill(~real, torch.finfo(q.dtype).min).transpose(-1, -2)
        return scaled_dot_product_attention(q, k, v, attn_mask=scores)


class LinearAttention(SelfAttention):
    """Efficient attention: softmax over a query's numbers, over positions for those of the keys.

    Shen et al. 2021, section 3.2; as SelfAttention of linear-attention-transformer 0.19.1, which
    also divides by the root of the head's width.
    """

    def attend(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None) -> Tensor:
        if real is not None:
            k = k.masked_fill(~real, torch.finfo(k.dtype).min)
        state = k.softmax(-2).transpose(-1, -2) @ v
        return q.softmax(-1) @ (state * q.shape[-1] ** -0.5)


class LinformerAttention(SelfAttention):
    """Softmax attention to `projected` learned mixtures of at most `length` keys and values.

    Wang et al. 2020 (arXiv:2006.04768); keys and values have one set each, shared by the heads, as
    in LinformerSelfAttention of linformer 0.2.3. Padding counts as zeros, so that a padded sequence
    is read like a shorter one. InputError for a longer sequence.
    """

    def __init__(self, dim: int, heads: int, length: int, projected: int = 256) -> None:
        super().__init__(dim, heads)
        bound = projected**-0.5
        self.key_mixture = nn.Parameter(torch.empty(length, projected).uniform_(-bound, bound))
        self.value_mixture = nn.Parameter(torch.empty(length, projected).uniform_(-bound, bound))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None) -> Tensor:
        length, longest = q.shape[2], len(self.key_mixture)
        if length > longest:
            raise InputError(f"linformer: expected at most {longest} tokens, found {length}")
        if real is not None:
            k, v = k * real, v * real
        k = torch.einsum("bhne,nk->bhke", k, self.key_mixture[:length])
        v = torch.einsum("bhne,nk->bhke", v, self.value_mixture[:length])
        return softmax_weights(q, k) @ v


class NystromAttention(SelfAttention):
    """Softmax attention by way of `landmarks` means of neighbouring queries and keys.

    Xiong et al. 2021 (arXiv:2102.03902), with `iterations` steps towards the pseudo-inverse and a
    convolution of the values over 33 tokens; as NystromAttention of nystrom-attention 0.0.14. The
    length decides what is a landmark, so padding a sequence further changes what it reads; a length
    that `landmarks` does not divide is padded in front. The iteration starts from one number for
    the whole batch.
    """

    def __init__(self, dim: int, heads: int, landmarks: int = 64, iterations: int = 6) -> None:
        super().__init__(dim, heads)
        self.landmarks, self.iterations = landmarks, iterations
        self.residual = nn.Conv2d(heads, heads, (33, 1), padding=(16, 0), groups=heads, bias=False)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None) -> Tensor:
        missing = -q.shape[2] % self.landmarks
        if missing and real is None:
            real = q.new_ones(len(q), 1, q.shape[2], 1, dtype=torch.bool)
        if real is not None:
            real = pad(real, (0, 0, missing, 0))
            q, k, v = (pad(each, (0, 0, missing, 0)) * real for each in (q, k, v))
            counts = real.unflatten(2, (self.landmarks, -1)).sum(3)
            q_mean, k_mean = (self._sums(each) / counts.clamp_min(1) for each in (q, k))
            marked = counts > 0
            keys, marks = real.transpose(-1, -2), marked.transpose(-1, -2)
            to_marks = softmax_weights(q, k_mean, real & marks)
            among_marks = softmax_weights(q_mean, k_mean, marked & marks)
            from_marks = softmax_weights(q_mean, k, marked & keys)
        else:
            size = q.shape[2] // self.landmarks
            q_mean, k_mean = self._sums(q) / size, self._sums(k) / size
            to_marks = softmax_weights(q, k_mean)
            among_marks = softmax_weights(q_mean, k_mean)
            from_marks = softmax_weights(q_mean, k)
        inverse = pseudo_inverse(among_marks, self.iterations)
        out = (to_marks @ inverse) @ (from_marks @ v) + self.residual(v)
        return out[:, :, missing:]

    def _sums(
        self, x: Float[Tensor, "batch heads length width"]
    ) -> Float[Tensor, "batch heads landmarks width"]:
        return x.unflatten(2, (self.landmarks, -1)).sum(3)


def pseudo_inverse(
    weights: Float[Tensor, "*batch n n"], iterations: int
) -> Float[Tensor, "*batch n n"]:
    """Third-order iteration towards the Moore-Penrose inverse of matrices whose rows sum to 1.

    Razavi et al. 2014, as Xiong et al. 2021 start and stop it.
    """
    eye = torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)
    inverse = weights.transpose(-1, -2) / weights.sum(-2).max()
    for _ in range(iterations):
        product = weights @ inverse
        inner = 15 * eye - product @ (7 * eye - product)
        inverse = inverse @ (13 * eye - product @ inner) / 4
    return inverse


class PerformerAttention(SelfAttention):
    """Softmax attention approximated with positive orthogonal random features.

    Choromanski et al. 2021, lemma 1; as SelfAttention of performer-pytorch 1.1.4, with its
    width * log(width) features and 1e-4 added to each. They are drawn when the layer is made, from
    PyTorch's generator, and stay.
    """

    projection: Tensor

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads)
        seed = int(torch.randint(2**31, ()))
        self.register_buffer("projection", Favor(dim // heads, seed=seed).projection)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None) -> Tensor:
        # Factors common to all keys, or to a query's features, cancel in the quotient.
        queries, shift = self._exponents(q)
        queries = (queries - shift.amax(-1, keepdim=True).detach()).exp() + 1e-4
        keys, shift = self._exponents(k)
        least = torch.finfo(k.dtype).min
        if real is not None:
            shift = shift.masked_fill(~real, least)
        keys = keys - shift.amax((-2, -1), keepdim=True).detach()
        if real is not None:
            keys = keys.masked_fill(~real, least)
        keys = keys.exp() + 1e-4
        if real is not None:
            keys = keys * real
        norm = (queries @ keys.sum(-2)[..., None]).clamp_min(torch.finfo(q.dtype).tiny)
        return queries @ (keys.transpose(-1, -2) @ v) / norm

    def _exponents(
        self, x: Float[Tensor, "batch heads length width"]
    ) -> tuple[
        Float[Tensor, "batch heads length features"], Float[Tensor, "batch heads length features"]
    ]:
        """Logarithms of the features, and the projections whose largest is taken from them."""
        x = x * x.shape[-1] ** -0.25
        projected = x @ self.projection.T
        return projected - x.square().sum(-1, keepdim=True) / 2, projected


class LocalAttention(SelfAttention):
    """Softmax attention to the tokens at most `window` away, with rotary positions.

    The sliding window of Beltagy et al. 2020, section 3.1, each window of queries beside itself and
    its two neighbours; as LocalMHA of local-attention 1.11.2, whose rotation takes a query to stand
    one window further right.
    InputError for heads of odd width.
    """

    near: Tensor
    turns: Tensor

    def __init__(self, dim: int, heads: int, window: int = 128) -> None:
        super().__init__(dim, heads, output_bias=False)
        width = dim // heads
        if width % 2:
            raise InputError(f"local: expected heads of even width, found {width}")
        self.window = window
        places = torch.arange(3 * window)
        distance = places - window - places[:window, None]
        self.register_buffer("near", distance.abs() <= window, persistent=False)
        angles = places[:, None] * 10000.0 ** (-torch.arange(0, width, 2) / width)
        turns = torch.stack([angles.cos(), angles.sin()])
        self.register_buffer("turns", turns, persistent=False)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None) -> Tensor:
        length, window = q.shape[2], self.window
        missing = -length % window
        if real is None:
            real = q.new_ones(len(q), 1, length, 1, dtype=torch.bool)
        q = pad(q, (0, 0, 0, missing)).unflatten(2, (-1, window))
        k, v, real = (
            pad(each, (0, 0, window, missing + window)).unfold(2, 3 * window, window)
            for each in (k, v, real)
        )
        q = self._rotate(q, self.turns[:, 2 * window :])
        k = self._rotate(k.transpose(-1, -2), self.turns)
        out = softmax_weights(q, k, self.near & real) @ v.transpose(-1, -2)
        return out.flatten(2, 3)[:, :, :length]

    @staticmethod
    def _rotate(
        x: Float[Tensor, "*batch places width"], turns: Float[Tensor, "2 places half"]
    ) -> Float[Tensor, "*batch places width"]:
        """Turn the pairs of channels (i, i + width / 2)."""
        cos, sin = turns.to(x.dtype)
        left, right = x.chunk(2, -1)
        return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)


ATTENTIONS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "adamra": lambda dim, heads, length: AdaptiveMultiResolutionAttention(dim, heads),
    "adamra-coarse": lambda dim, heads, length: AdaptiveMultiResolutionAttention(
        dim, heads, (4, 16, 32)
    ),
    "softmax": lambda dim, heads, length: SoftmaxAttention(dim, heads),
    "sdpa": lambda dim, heads, length: FusedSoftmaxAttention(dim, heads),
    "linear": lambda dim, heads, length: LinearAttention(dim, heads),
    "linformer": LinformerAttention,
    "nystrom": lambda dim, heads, length: NystromAttention(dim, heads),
    "performer": lambda dim, heads, length: PerformerAttention(dim, heads),
    "local": lambda dim, heads, length: LocalAttention(dim, heads),
}
"""Makers of a layer from (dim, heads, longest sequence), by name."""


def make_attention(
    name: str, dim: int, heads: int, length: int, rates: Sequence[int] | None = None
) -> nn.Module:
    """The attention called `name` for sequences of at most `length` tokens.

    `rates` replaces the (1, 4, 16) of "adamra"; the others have none. InputError for an unknown
    name and for what the layer refuses.
    """
    if name not in ATTENTIONS:
        raise InputError(f"attention {name!r}: expected {', '.join(ATTENTIONS)}")
    if name == "adamra" and rates is not None:
        return AdaptiveMultiResolutionAttention(dim, heads, rates)
    return ATTENTIONS[name](dim, heads, length)
