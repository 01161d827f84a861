"""Compression of a sequence into blocks: what the keys and values of a resolution are made of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Blocks:
    """The blocks of one resolution: block j covers the tokens j c to (j + 1) c - 1."""

    values: Float[Tensor, "batch blocks dim"]
    """Mean of the block's real tokens; 0 where there is none."""
    weights: Float[Tensor, "batch blocks"] | None
    """Real tokens of the block / c; None: all 1."""

    @property
    def mass(self) -> Float[Tensor, "batch blocks"]:
        """The weights, also where all are 1."""
        return self.values.new_ones(self.values.shape[:2]) if self.weights is None else self.weights


class Compressor(nn.Module):
    """Means over blocks of `rates` tokens: plain, or of tokens scaled by learned numbers ("conv").

    The learned numbers, one for each place in a block and each channel, begin at 1, where both are
    the same: a depthwise convolution whose kernel and stride are the rate.
    """

    def __init__(self, dim: int, rates: Sequence[int], learned: bool) -> None:
        super().__init__()
        self.rates = tuple(rates)
        # Sums of the coarsest resolution that fits into this one, rather than of all tokens.
        self.finer = [
            max((i for i in range(index) if rate % rates[i] == 0), default=None)
            for index, rate in enumerate(rates)
        ]
        self.scales = nn.ParameterList(torch.ones(rate, dim) for rate in rates) if learned else None

    def forward(
        self, x: Float[Tensor, "batch length dim"], mask: Bool[Tensor, "batch length"] | None
    ) -> list[Blocks]:
        """The blocks of each resolution, finest first; x is 0 where the mask is False."""
        if mask is not None:
            real = mask.to(x.dtype)
        sums: list[Tensor] = []
        counts: list[Tensor] = []
        blocks = []
        length = x.shape[1]
        for index, rate in enumerate(self.rates):
            finer = self.finer[index]
            if self.scales is not None:
                sums.append(_block_sums(_scaled(x, self.scales[index]), rate))
            elif finer is None:
                sums.append(_block_sums(x, rate))
            else:
                sums.append(_block_sums(sums[finer], rate // self.rates[finer]))
            if mask is not None:
                counts.append(_block_sums(real[..., None], rate)[..., 0])
                count = counts[-1]
                values = sums[-1] / count.clamp_min(1)[..., None] if rate > 1 else sums[-1]
                blocks.append(Blocks(values, count / rate))
            elif length % rate == 0:
                blocks.append(Blocks(sums[-1] / rate if rate > 1 else sums[-1], None))
            else:
                count = x.new_full((math.ceil(length / rate),), rate)
                count[-1] = length % rate
                weights = (count / rate).expand(x.shape[0], -1)
                blocks.append(Blocks(sums[-1] / count[:, None], weights))
        return blocks

    def scaled_step(
        self, x_t: Float[Tensor, "batch dim"], index: int, position: int
    ) -> Float[Tensor, "batch dim"]:
        """What the token at `position` adds to its block of the resolution `index`."""
        if self.scales is None:
            return x_t
        return x_t * self.scales[index][position % self.rates[index]]


def _block_sums(
    x: Float[Tensor, "batch length dim"], rate: int
) -> Float[Tensor, "batch blocks dim"]:
    """Sums over blocks of `rate`; the last block may be shorter."""
    if rate == 1:
        return x
    whole = x.shape[1] // rate * rate
    sums = x[:, :whole].unflatten(1, (-1, rate)).sum(2)
    if whole == x.shape[1]:
        return sums
    return torch.cat([sums, x[:, whole:].sum(1, keepdim=True)], 1)


def _scaled(
    x: Float[Tensor, "batch length dim"], scale: Float[Tensor, "rate dim"]
) -> Float[Tensor, "batch length dim"]:
    """Tokens times the numbers of their place in a block."""
    repeats = math.ceil(x.shape[1] / len(scale))
    return x * scale.repeat(repeats, 1)[: x.shape[1]]
