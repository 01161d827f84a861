"""Adaptive multi-resolution attention: kernel attention over means of blocks of several lengths.

Every token reads the sequence at the resolution that a router chooses for it, in time and memory
linear in the length (arXiv:2108.04962). The paper's body could not be had: each choice that its
abstract and introduction leave open is an option here.
"""

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, overload

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear, one_hot, scaled_dot_product_attention

from workingpapers.adamra.causal import (
    LARGEST_CHUNK,
    AdaMRAState,
    available,
    chunk_length,
    read_causal,
)
from workingpapers.adamra.compress import Blocks, Compressor
from workingpapers.adamra.feature_maps import ElementwiseFeatureMap, FeatureMap, make_feature_map
from workingpapers.adamra.fused import EPSILON, Groups, KeySums, RoutedReadout
from workingpapers.foundation.errors import InputError

ROUTINGS = ("top1", "straight_through", "soft", "fixed", "random", "off")
KERNELS = ("linear", "softmax")
COMPRESSORS = ("mean", "conv")

SORTED_LENGTH = 128
"""Least length at which queries are sorted by their choice: below, sorting costs what it saves.

Nor are they sorted when there are fewer tokens than channels: the sorted readout makes a matrix of
dim x dim for each resolution of each sequence.
"""


@dataclass(frozen=True)
class Routing:
    """What the router decided; with `per_head_routing` one decision a head."""

    choice: Int[Tensor, "batch length *heads"]
    """Index of the resolution that each token reads (the likeliest, where it reads several)."""
    probability: Float[Tensor, "batch length *heads rates"]
    """The router's probability of each resolution."""


class AdaptiveMultiResolutionAttention(nn.Module):
    """Self-attention in which every query chooses the resolution it reads; cost linear in length.

    `dim` channels in `heads` heads; `rates` are the compression rates c_1 < ... < c_R.
    `feature_map`: relu (the most accurate in our measurements), elu, softmax or favor.
    `kernel="softmax"`: softmax attention over the compressed keys instead, for comparisons.
    `compressor`: mean, or conv (learned). `routing`: top1, straight_through, soft (all resolutions,
    weighted), fixed (head h reads resolution h mod R), random (top1, but the choice is drawn) or
    off (all resolutions, equally). `share_kv`: one projection to keys and values for all
    resolutions. `bias` is that of the projections to queries, keys and values. InputError for
    options that do not go together.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 8,
        rates: Sequence[int] = (1, 4, 16),
        *,
        feature_map: str = "relu",
        kernel: str = "linear",
        compressor: str = "mean",
        routing: str = "top1",
        per_head_routing: bool = False,
        share_kv: bool = False,
        causal: bool = False,
        dropout: float = 0.0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        check_rates(rates, causal)
        for name, value, known in (
            ("routing", routing, ROUTINGS),
            ("kernel", kernel, KERNELS),
            ("compressor", compressor, COMPRESSORS),
        ):
            if value not in known:
                raise InputError(f"{name} {value!r}: expected {', '.join(known)}")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout {dropout}: expected from 0 to below 1")
        self.phi = make_feature_map(feature_map, dim // heads)
        if causal and (kernel != "linear" or not isinstance(self.phi, ElementwiseFeatureMap)):
            raise InputError("causal: expected kernel 'linear' and feature_map 'elu' or 'relu'")
        self.dim, self.heads, self.rates = dim, heads, tuple(int(rate) for rate in rates)
        self.kernel, self.routing, self.causal = kernel, routing, causal
        self.per_head_routing = per_head_routing and routing not in ("fixed", "off")
        self.forced: int | None = None
        """Index of the resolution that every token has to read, whatever the router says."""
        self.readout: Literal["auto", "sorted", "dense"] = "auto"
        """Queries grouped by their choice, or each resolution evaluated for all of them."""
        self.compressor = Compressor(dim, self.rates, compressor == "conv")
        projections = 1 if share_kv else len(self.rates)
        self.query = nn.Linear(dim, dim, bias=bias)
        self.key = nn.ModuleList(nn.Linear(dim, dim, bias=bias) for _ in range(projections))
        self.value = nn.ModuleList(nn.Linear(dim, dim, bias=bias) for _ in range(projections))
        self.output = nn.Linear(dim, dim)
        self.router: nn.Linear | None = None
        if routing not in ("fixed", "off"):
            self.router = nn.Linear(dim, (heads if self.per_head_routing else 1) * len(self.rates))
        self.dropout = nn.Dropout(dropout)
        self._last: tuple[Routing, Tensor | None] | None = None

    @overload
    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        mask: Bool[Tensor, "batch length"] | None = None,
        *,
        return_routing: Literal[False] = False,
    ) -> Float[Tensor, "batch length dim"]: ...

    @overload
    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        mask: Bool[Tensor, "batch length"] | None = None,
        *,
        return_routing: Literal[True],
    ) -> tuple[Float[Tensor, "batch length dim"], Routing]: ...

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        return_routing: bool = False,
    ) -> Tensor | tuple[Tensor, Routing]:
        """Attend; `mask` is True at real tokens, and the output is 0 at the others.

        Returns the routing too when asked. InputError for a wrong shape or type. Blocks are counted
        from the first place: padding belongs after the tokens (before them, it shifts the blocks).
        """
        check_input(x, mask, self.dim)
        if mask is not None:
            # Not times 0: what stands at padding must not matter, also where it is no number.
            x = x.masked_fill(~mask[..., None], 0.0)
        blocks = self.compressor(x, mask)
        allowed = available(blocks, self.rates, x.shape[1]) if self.causal else None
        routing = self._route(x, allowed)
        self._last = _detached(routing), mask
        if not self.causal and self._sorts(x):
            out = self._read_sorted(x, blocks, routing, mask)
        else:
            read = self._read_causal if self.causal else self._read_dense
            out = self.output(read(x, blocks, self._shares(routing)))
            if mask is not None:
                out = out.masked_fill(~mask[..., None], 0.0)
        out = self.dropout(out)
        return (out, routing) if return_routing else out

    # ---- routing

    def _route(
        self,
        x: Float[Tensor, "batch length dim"],
        allowed: Bool[Tensor, "batch length rates"] | None,
    ) -> Routing:
        """The router's probabilities and the choice; without a router all are equally likely."""
        if self.router is None:
            logits = x.new_zeros(*x.shape[:2], len(self.rates))
        else:
            # In float32, as Switch Transformer's router: rounding must not decide what is read.
            weight, bias = _widened(self.router.weight), _widened(self.router.bias)
            with torch.autocast(x.device.type, enabled=False):
                logits = linear(_widened(x), weight, bias)
        if self.per_head_routing:
            logits = logits.unflatten(-1, (self.heads, -1))
            allowed = allowed[:, :, None] if allowed is not None else None
        if allowed is not None:
            logits = logits.masked_fill(~allowed, -torch.inf)
        probability = logits.softmax(-1)
        if self.forced is not None:
            if not 0 <= self.forced < len(self.rates):
                raise InputError(
                    f"forced {self.forced}: expected the index of one of the rates {self.rates}"
                )
            choice = torch.full(logits.shape[:-1], self.forced, device=x.device)
        elif self.routing == "random":
            draws = torch.rand_like(logits, requires_grad=False)
            choice = draws.masked_fill(logits == -torch.inf, -1.0).argmax(-1)
        else:
            # argmax takes the first of equals: the finest resolution.
            choice = logits.argmax(-1)
        return Routing(choice, probability)

    def _gate(self, routing: Routing) -> Float[Tensor, "batch length *heads"]:
        """The factor of what a token reads: its probability gives the router a gradient."""
        if self.router is None:
            return torch.ones_like(routing.probability[..., 0])
        p = routing.probability.gather(-1, routing.choice[..., None])[..., 0]
        return 1 + (p - p.detach()) if self.routing == "straight_through" else p

    def _shares(self, routing: Routing) -> Float[Tensor, "#batch #heads length rates"]:
        """The factor of each resolution in what each head of a token reads."""
        if self.forced is None and self.routing in ("soft", "off"):
            shares = routing.probability
        elif self.forced is None and self.routing == "fixed":
            bound = torch.arange(self.heads, device=routing.choice.device) % len(self.rates)
            shares = one_hot(bound, len(self.rates)).to(routing.probability.dtype)
            return shares[None, :, None].expand(1, -1, routing.choice.shape[1], -1)
        else:
            chosen = one_hot(routing.choice, len(self.rates)).to(routing.probability.dtype)
            shares = chosen * self._gate(routing)[..., None]
        return shares.transpose(1, 2) if self.per_head_routing else shares[:, None]

    def routing_shares(self) -> Float[Tensor, " rates"]:
        """Shares of real tokens (or heads of them) that chose each resolution, in the last call."""
        routing, mask = self.last_routing()
        return routing_shares(routing, mask)

    def routing_entropy(self) -> float:
        """Mean entropy, in nats, of the router's probabilities at real tokens, in the last call."""
        routing, mask = self.last_routing()
        p = routing.probability if mask is None else routing.probability[mask]
        return float(torch.special.entr(p).sum(-1).mean())

    def last_routing(self) -> tuple[Routing, Tensor | None]:
        """The routing of the last call, without gradient, and its mask."""
        if self._last is None:
            raise InputError("routing: expected a forward pass before its statistics are asked for")
        return self._last

    # ---- reading

    def _sorts(self, x: Float[Tensor, "batch length dim"]) -> bool:
        """Whether queries are grouped by what they chose; InputError if that is asked in vain."""
        can = (
            isinstance(self.phi, ElementwiseFeatureMap)
            and self.kernel == "linear"
            and not self.per_head_routing
            and (self.forced is not None or self.routing in ("top1", "straight_through", "random"))
            # In half precision sums must be kept in float32, which the dense readout sees to.
            and x.dtype in (torch.float32, torch.float64)
            and not torch.is_autocast_enabled(x.device.type)
        )
        if self.readout == "sorted" and not can:
            raise InputError(
                "readout 'sorted': expected one choice a token, kernel 'linear' with feature_map "
                "'elu' or 'relu', and no half precision"
            )
        long = x.shape[1] >= max(SORTED_LENGTH, self.dim)
        return can and (self.readout == "sorted" or (self.readout == "auto" and long))

    def _read_sorted(
        self,
        x: Float[Tensor, "batch length dim"],
        blocks: list[Blocks],
        routing: Routing,
        mask: Bool[Tensor, "batch length"] | None,
    ) -> Float[Tensor, "batch length dim"]:
        """Output of the layer, one matrix product for the tokens of an item that chose alike."""
        assert isinstance(self.phi, ElementwiseFeatureMap)
        matrices, norms = [], []
        output = self.output.weight.T.unflatten(0, (self.heads, -1))
        for index, entry in enumerate(blocks):
            key, value = self._projections(index)
            sums, norm = KeySums.apply(entry.values, key.weight, key.bias, entry.weights, self.phi)
            norm = norm.unflatten(1, (self.heads, -1))
            values = value.weight.unflatten(0, (self.heads, -1)).transpose(1, 2)
            state = sums.unflatten(1, (self.heads, -1)) @ values
            if value.bias is not None:
                state = state + norm[..., None] * value.bias.unflatten(0, (self.heads, 1, -1))
            matrices.append((state @ output).flatten(1, 2))
            norms.append(norm.flatten(1))
        order, groups = _sorted_by_choice(routing.choice, len(blocks), mask)
        out = RoutedReadout.apply(
            x.flatten(0, 1),
            self.query.weight,
            self.query.bias,
            self._gate(routing).flatten(),
            torch.stack(matrices, 1).flatten(0, 1),
            torch.stack(norms, 1).flatten(0, 1),
            self.output.bias,
            order,
            groups,
            self.heads,
            self.phi,
        )
        return out.unflatten(0, x.shape[:2])

    def _read_dense(
        self,
        x: Float[Tensor, "batch length dim"],
        blocks: list[Blocks],
        shares: Float[Tensor, "#batch #heads length rates"],
    ) -> Float[Tensor, "batch length dim"]:
        """What the heads read, each resolution evaluated for every token."""
        q, pairs = self._split(self.query(x)), self._keys_and_values(blocks)
        total = torch.zeros_like(q)
        with torch.autocast(x.device.type, enabled=False):
            if self.kernel == "linear":
                q = self.phi.queries(_widened(q))
            for index, (entry, (k, v)) in enumerate(zip(blocks, pairs, strict=True)):
                if self.kernel == "linear":
                    read = _kernel_attention(q, _widened(k), _widened(v), entry.mass, self.phi)
                else:
                    read = _softmax_attention(q, k, v, entry.weights)
                total = total + shares[..., index, None] * read
        return total.transpose(1, 2).flatten(2).to(x.dtype)

    def _read_causal(
        self,
        x: Float[Tensor, "batch length dim"],
        blocks: list[Blocks],
        shares: Float[Tensor, "#batch #heads length rates"],
    ) -> Float[Tensor, "batch length dim"]:
        q, pairs = self._split(self.query(x)), self._keys_and_values(blocks)
        with torch.autocast(x.device.type, enabled=False):
            keys = [
                self.phi(_widened(k)) * entry.mass[:, None, :, None]
                for entry, (k, _) in zip(blocks, pairs, strict=True)
            ]
            values = [_widened(v) for _, v in pairs]
            read = read_causal(self.phi(_widened(q)), keys, values, shares, self.rates)
        return read.transpose(1, 2).flatten(2).to(x.dtype)

    def _keys_and_values(
        self, blocks: list[Blocks]
    ) -> list[
        tuple[
            Float[Tensor, "batch heads blocks width"],
            Float[Tensor, "batch heads blocks width"],
        ]
    ]:
        """Keys and values of each resolution."""
        pairs = []
        for index, entry in enumerate(blocks):
            key, value = self._projections(index)
            pairs.append((self._split(key(entry.values)), self._split(value(entry.values))))
        return pairs

    def _projections(self, index: int) -> tuple[nn.Linear, nn.Linear]:
        """The projections to keys and values of a resolution."""
        index = min(index, len(self.key) - 1)
        key, value = self.key[index], self.value[index]
        assert isinstance(key, nn.Linear)
        assert isinstance(value, nn.Linear)
        return key, value

    def _split(self, x: Float[Tensor, "batch n dim"]) -> Float[Tensor, "batch heads n width"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    # ---- streaming

    def init_state(self, batch: int, device: torch.device | str | None = None) -> AdaMRAState:
        """The state of a causal layer that has read nothing."""
        if not self.causal:
            raise InputError("init_state: expected a layer with causal=True")
        weight = _widened(self.output.weight)
        width = self.dim // self.heads

        def zeros(*shape: int) -> tuple[Tensor, ...]:
            return tuple(
                weight.new_zeros(batch, *shape, device=device or weight.device) for _ in self.rates
            )

        return AdaMRAState(
            0, zeros(self.dim), zeros(self.heads, width, width), zeros(self.heads, width)
        )

    def step(
        self, x_t: Float[Tensor, "batch dim"], state: AdaMRAState
    ) -> tuple[Float[Tensor, "batch dim"], AdaMRAState]:
        """The output for the next token, in constant time and memory, and the state after it.

        Equals `forward` on the tokens so far. The dropout of a layer in training applies.
        """
        if not self.causal:
            raise InputError("step: expected a layer with causal=True")
        if x_t.ndim != 2 or x_t.shape != state.partial[0].shape:
            expected = tuple(state.partial[0].shape)
            raise InputError(f"x_t: expected the shape {expected}, found {tuple(x_t.shape)}")
        position = state.position + 1
        partial, sums, norms = list(state.partial), list(state.sums), list(state.norms)
        for index, rate in enumerate(self.rates):
            partial[index] = partial[index] + self.compressor.scaled_step(x_t, index, position - 1)
            if position % rate:
                continue
            key, value = self._projections(index)
            block = (partial[index] / rate).to(x_t.dtype)
            k = self.phi(_widened(key(block).unflatten(-1, (self.heads, -1))))
            v = _widened(value(block).unflatten(-1, (self.heads, -1)))
            sums[index] = sums[index] + k[..., :, None] * v[..., None, :]
            norms[index] = norms[index] + k
            partial[index] = torch.zeros_like(partial[index])
        rates = torch.tensor(self.rates, device=x_t.device)
        allowed = (rates <= position).expand(len(x_t), 1, -1)
        shares = self._shares(self._route(x_t[:, None], allowed))[:, :, 0]
        q = self.phi(_widened(self.query(x_t).unflatten(-1, (self.heads, -1))))
        y = torch.zeros_like(q)
        for index in range(len(self.rates)):
            with torch.autocast(x_t.device.type, enabled=False):
                read = (q[..., None, :] @ sums[index])[..., 0, :]
            divisor = (q * norms[index]).sum(-1, keepdim=True).clamp_min(EPSILON)
            y = y + shares[..., index, None] * (read / divisor)
        out = self.dropout(self.output(y.flatten(1).to(x_t.dtype)))
        return out, AdaMRAState(position, tuple(partial), tuple(sums), tuple(norms))

    def extra_repr(self) -> str:
        return f"{self.dim}, heads={self.heads}, rates={self.rates}, routing={self.routing!r}"


def routing_shares(
    routing: Routing, mask: Bool[Tensor, "batch length"] | None = None
) -> Float[Tensor, " rates"]:
    """Shares of real tokens that chose each resolution; they sum to 1."""
    choice = routing.choice if mask is None else routing.choice[mask]
    counts = torch.bincount(choice.flatten(), minlength=routing.probability.shape[-1])
    return counts.to(routing.probability.dtype) / max(choice.numel(), 1)


def balance_loss(
    routing: Routing, mask: Bool[Tensor, "batch length"] | None = None
) -> Float[Tensor, ""]:
    """R sum_r share_r mean probability_r: 1 when balanced, R when all choose one (Switch, eq. 4).

    Not part of a default training; times 0.01 it is usual in mixtures of experts.
    """
    probability = routing.probability if mask is None else routing.probability[mask]
    rates = probability.shape[-1]
    probability = probability.reshape(-1, rates)
    mean = probability.sum(0) / max(len(probability), 1)
    return rates * (routing_shares(routing, mask) * mean).sum()


def check_heads(dim: int, heads: int) -> None:
    """InputError unless `heads` divides `dim`."""
    if dim < 1 or heads < 1 or dim % heads:
        raise InputError(f"heads {heads}: expected a divisor of dim {dim}")


def check_rates(rates: Sequence[int], causal: bool = False) -> None:
    """InputError unless the rates are whole numbers from 1 on that grow, with 1 when causal."""
    listed = f"rates {tuple(rates)}"
    if len(rates) == 0 or not all(_is_rate(rate) for rate in rates):
        raise InputError(f"{listed}: expected one or more whole numbers of at least 1")
    if any(low >= high for low, high in pairwise(rates)):
        raise InputError(f"{listed}: expected them to grow, each once")
    if causal and 1 not in rates:
        raise InputError(f"{listed}: expected 1 among them when causal: the first tokens need it")
    if causal and chunk_length(rates) > LARGEST_CHUNK:
        common = math.lcm(*rates)
        raise InputError(
            f"{listed}: expected a common multiple of at most {LARGEST_CHUNK} when causal, "
            f"found {common}"
        )


def _is_rate(rate: Any) -> bool:
    return isinstance(rate, numbers.Real) and float(rate).is_integer() and 1 <= float(rate) < 2**31


def check_input(x: Tensor, mask: Tensor | None, dim: int) -> None:
    """InputError unless x is "batch length dim", not empty, and the mask is its Boolean mask."""
    if x.ndim != 3 or x.shape[2] != dim:
        raise InputError(f"x: expected the shape (batch, length, {dim}), found {tuple(x.shape)}")
    if x.shape[1] == 0:
        raise InputError("x: expected at least one token, found length 0")
    if not x.is_floating_point():
        raise InputError(f"x: expected floating-point numbers, found {x.dtype}")
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise InputError(f"mask: expected booleans, True at real tokens, found {mask.dtype}")
    if mask.shape != x.shape[:2]:
        raise InputError(
            f"mask: expected the shape {tuple(x.shape[:2])}, found {tuple(mask.shape)}"
        )


def _detached(routing: Routing) -> Routing:
    return Routing(routing.choice, routing.probability.detach())


def _widened(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """In float32 at least, as sums over a long sequence must be."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _kernel_attention(
    q: Float[Tensor, "batch heads length features"],
    k: Float[Tensor, "batch heads blocks width"],
    v: Float[Tensor, "batch heads blocks width"],
    mass: Float[Tensor, "batch blocks"],
    phi: FeatureMap,
) -> Float[Tensor, "batch heads length width"]:
    """q S / q z, where `q` are features already."""
    weights = mass[:, None].to(k.dtype)
    keys = phi.keys(k, weights) * weights[..., None]
    state, norm = keys.transpose(-1, -2) @ v, keys.sum(-2)
    return (q @ state) / (q @ norm[..., None]).clamp_min(EPSILON)


def _softmax_attention(
    q: Float[Tensor, "batch heads length width"],
    k: Float[Tensor, "batch heads blocks width"],
    v: Float[Tensor, "batch heads blocks width"],
    weights: Float[Tensor, "batch blocks"] | None,
) -> Float[Tensor, "batch heads length width"]:
    """Softmax attention in which a block counts by its weight."""
    if weights is None:
        return scaled_dot_product_attention(q, k, v)
    # The least number rather than -inf, whose softmax over padding alone is no number.
    bias = weights.log().clamp_min(torch.finfo(q.dtype).min).to(q.dtype)
    return scaled_dot_product_attention(q, k, v, attn_mask=bias[:, None, None])


def _sorted_by_choice(
    choice: Int[Tensor, "batch length"], rates: int, mask: Bool[Tensor, "batch length"] | None
) -> tuple[Int[Tensor, " rows"], Groups]:
    """The real tokens sorted by (item, choice), and where each group lies among them."""
    batch = len(choice)
    group = (choice + rates * torch.arange(batch, device=choice.device)[:, None]).flatten()
    if mask is not None:
        real = mask.flatten().nonzero()[:, 0]
        order = real[group[real].argsort(stable=True)]
        counts = torch.bincount(group[real], minlength=batch * rates)
    else:
        order = group.argsort(stable=True)
        counts = torch.bincount(group, minlength=batch * rates)
    ends = counts.cumsum(0).tolist()
    spans = enumerate(pairwise([0, *ends]))
    return order, [(index, first, last) for index, (first, last) in spans if last > first]
