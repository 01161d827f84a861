"""The causal form: a token reads the blocks that ended at or before it, in chunks or step by step.

The paper does not have this form. A token's choice is restricted to the resolutions that have a
block by then; the finest one, of rate 1, always has.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from workingpapers.adamra.compress import Blocks
from workingpapers.adamra.fused import EPSILON

CHUNK = 64
"""Least length of the chunks inside which products are explicit."""
LARGEST_CHUNK = 4096


@dataclass(frozen=True)
class AdaMRAState:
    """All that a causal layer keeps of the tokens it has read: its size does not depend on them."""

    position: int
    """Tokens read."""
    partial: tuple[Float[Tensor, "batch dim"], ...]
    """Sum of the tokens of the unfinished block, a resolution each."""
    sums: tuple[Float[Tensor, "batch heads width width"], ...]
    """Sum of phi(k) v^T over the finished blocks."""
    norms: tuple[Float[Tensor, "batch heads width"], ...]
    """Sum of phi(k) over the finished blocks."""

    def bytes(self) -> int:
        """Memory of the tensors."""
        tensors = (*self.partial, *self.sums, *self.norms)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def available(
    blocks: Sequence[Blocks], rates: Sequence[int], length: int
) -> Bool[Tensor, "batch length rates"]:
    """Which resolutions have a block with a real token that ended at or before each token.

    The finest, of rate 1, always counts as one: before the first real token it reads zeros.
    """
    ended = torch.arange(1, length + 1, device=blocks[0].values.device)
    found = []
    for entry, rate in zip(blocks, rates, strict=True):
        has_any = pad(entry.mass.cumsum(1) > 0, (1, 0))
        found.append(has_any[:, ended // rate] if rate > 1 else torch.ones_like(has_any[:, 1:]))
    return torch.stack(found, -1)


def read_causal(
    queries: Float[Tensor, "batch heads length width"],
    keys: Sequence[Float[Tensor, "batch heads _ width"]],
    values: Sequence[Float[Tensor, "batch heads _ width"]],
    weights: Float[Tensor, "#batch #heads length rates"],
    rates: Sequence[int],
) -> Float[Tensor, "batch heads length width"]:
    """Weighted sum over resolutions of the kernel attention to finished blocks.

    `queries` and `keys` are features, keys times their block's weight. Inside a chunk the products
    are explicit, between chunks there are running sums, so that memory is that of one state a
    chunk, not one a token.
    """
    length = queries.shape[2]
    chunk = chunk_length(rates)
    chunks = math.ceil(length / chunk)
    spare = chunks * chunk - length
    q = pad(queries, (0, 0, 0, spare)).unflatten(2, (chunks, chunk))
    w = pad(weights, (0, 0, 0, spare)).unflatten(2, (chunks, chunk))
    ended = torch.arange(1, chunk + 1, device=queries.device)
    total = torch.zeros_like(q)
    for index, rate in enumerate(rates):
        # Only whole blocks count; those beyond the end are zeros.
        whole, inside = length // rate, chunk // rate
        shape = (0, 0, 0, chunks * inside - whole)
        k = pad(keys[index][:, :, :whole], shape).unflatten(2, (chunks, inside))
        v = pad(values[index][:, :, :whole], shape).unflatten(2, (chunks, inside))
        before = _sums_before(k.transpose(-1, -2) @ v)
        norms = _sums_before(k.sum(-2))
        scores = q @ k.transpose(-1, -2)
        scores = scores * (rate * ended[None, :inside] <= ended[:, None])
        numerator = q @ before + scores @ v
        divisor = (q @ norms[..., None])[..., 0] + scores.sum(-1)
        total = total + w[..., index, None] * (numerator / divisor.clamp_min(EPSILON)[..., None])
    return total.flatten(2, 3)[:, :, :length]


def chunk_length(rates: Sequence[int]) -> int:
    """The least multiple of all rates that is not under CHUNK."""
    common = math.lcm(*rates)
    return common * math.ceil(CHUNK / common)


def _sums_before(
    x: Float[Tensor, "batch heads chunks ..."],
) -> Float[Tensor, "batch heads chunks ..."]:
    """Sums over the chunks before each chunk."""
    return torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, :-1].cumsum(2)], 2)
