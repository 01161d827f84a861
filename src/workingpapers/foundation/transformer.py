"""The transformer block that every sequence model here is made of, and softmax attention for it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from workingpapers.foundation.errors import InputError

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Block(nn.Module):
    """A mixer of tokens and a feed-forward network, each with a residual and a norm.

    `mixer` and `feed_forward` map "batch length dim" to the same shape. `norm_first` is pre-norm
    (the residual stream is never normalised), else post-norm as in the first Transformer.
    """

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        feed_forward: nn.Module,
        norm: Literal["layer", "rms"] = "layer",
        norm_first: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        make_norm = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}[norm]
        self.mixer, self.feed_forward = mixer, feed_forward
        self.mixer_norm, self.feed_forward_norm = make_norm(dim), make_norm(dim)
        self.norm_first = norm_first
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        *,
        mixing: Mapping[str, Any] = NOTHING,
        feeding: Mapping[str, Any] = NOTHING,
    ) -> Float[Tensor, "batch length dim"]:
        """The two mappings go to the mixer and to the feed-forward network as they are."""
        if self.norm_first:
            x = x + self.dropout(self.mixer(self.mixer_norm(x), **mixing))
            return x + self.dropout(self.feed_forward(self.feed_forward_norm(x), **feeding))
        x = self.mixer_norm(x + self.dropout(self.mixer(x, **mixing)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x, **feeding)))


class FeedForward(nn.Module):
    """Two linear layers with `activation` between them, each token by itself."""

    def __init__(
        self,
        dim: int,
        hidden: int,
        activation: Literal["gelu", "relu"] = "gelu",
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.up = nn.Linear(dim, hidden, bias=bias)
        self.activation = {"gelu": nn.GELU, "relu": nn.ReLU}[activation]()
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return self.down(self.dropout(self.activation(self.up(x))))


class KeyValueCache:
    """Keys and values of the tokens that an attention layer has read, in memory taken once.

    Room for `capacity` tokens of `batch` rows, in `heads` heads of `width`.
    """

    def __init__(
        self,
        batch: int,
        heads: int,
        capacity: int,
        width: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.keys = torch.empty(batch, heads, capacity, width, device=device, dtype=dtype)
        self.values = torch.empty_like(self.keys)
        self.length = 0
        """Tokens held."""

    def append(
        self,
        keys: Float[Tensor, "batch heads new width"],
        values: Float[Tensor, "batch heads new width"],
    ) -> tuple[Float[Tensor, "batch heads held width"], Float[Tensor, "batch heads held width"]]:
        """Add tokens; all keys and values held, as views. InputError when the room is used up."""
        end = self.length + keys.shape[2]
        if end > self.keys.shape[2]:
            raise InputError(f"cache: room for {self.keys.shape[2]} tokens, asked to hold {end}")
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def expand(self, count: int) -> None:
        """Repeat each row `count` times, next to each other."""
        self.keys = self.keys.repeat_interleave(count, 0)
        self.values = self.values.repeat_interleave(count, 0)

    def rewind(self, length: int) -> None:
        """Forget all tokens from `length` on."""
        if not 0 <= length <= self.length:
            raise InputError(f"rewind {length}: expected from 0 to the {self.length} tokens held")
        self.length = length

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep these rows, in this order; a row may be taken more than once."""
        self.keys, self.values = self.keys[rows], self.values[rows]


class Attention(nn.Module):
    """Multi-head softmax attention (Vaswani et al. 2017), of a sequence to itself or to another.

    `kv_heads` under `heads` share keys and values among groups of heads (Ainslie et al. 2023);
    `rotary` turns queries and keys by their position (Su et al. 2021), `causal` hides what follows
    a token.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        kv_heads: int | None = None,
        causal: bool = False,
        rotary: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        kv_heads = kv_heads or heads
        if dim % heads or heads % kv_heads:
            raise InputError(
                f"attention: expected kv_heads to divide heads and heads to divide dim, "
                f"found {kv_heads}, {heads} and {dim}"
            )
        width = dim // heads
        if rotary and width % 2:
            raise InputError(f"attention: rotary positions need an even head width, found {width}")
        self.heads, self.kv_heads, self.width = heads, kv_heads, width
        self.causal, self.rotary = causal, rotary
        self.query = nn.Linear(dim, dim, bias=bias)
        self.key = nn.Linear(dim, kv_heads * width, bias=bias)
        self.value = nn.Linear(dim, kv_heads * width, bias=bias)
        self.output = nn.Linear(dim, dim, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        *,
        mask: Bool[Tensor, "batch keys"] | None = None,
        source: Float[Tensor, "batch source dim"] | None = None,
        cache: KeyValueCache | None = None,
        bias: Float[Tensor, "#batch #heads #length keys"] | None = None,
    ) -> Float[Tensor, "batch length dim"]:
        """Attend to `source`, else to `x`; with a cache, to what it holds and then to this.

        `mask` is True at keys that are real tokens, `bias` is added to the scores. With a cache,
        keys are all that it holds afterwards. A query that may see no key reads zeros.
        """
        held = cache.length if cache is not None else 0
        origin = x if source is None else source
        q = self._split(self.query(x), self.heads)
        k = self._split(self.key(origin), self.kv_heads)
        v = self._split(self.value(origin), self.kv_heads)
        if self.rotary:
            q, k = _rotate(q, held), _rotate(k, held)
        if cache is not None:
            k, v = cache.append(k, v)
        queries, keys = q.shape[2], k.shape[2]
        grouped = self.kv_heads < self.heads
        if mask is None and bias is None and (not self.causal or queries == keys):
            y = scaled_dot_product_attention(q, k, v, is_causal=self.causal, enable_gqa=grouped)
            return self.output(y.transpose(1, 2).flatten(2))
        visible = torch.ones(1, 1, queries, keys, dtype=torch.bool, device=x.device)
        if self.causal:
            # A cache holds tokens before the queries: the last query sees all keys.
            visible = visible.tril(keys - queries)
        if mask is not None:
            visible = visible & mask[:, None, None]
        # Not -inf: a row that sees nothing must not become NaN.
        scores = q.new_zeros(()) if bias is None else bias
        scores = torch.where(visible, scores, torch.finfo(q.dtype).min)
        y = scaled_dot_product_attention(q, k, v, attn_mask=scores, enable_gqa=grouped)
        y = y.masked_fill(~visible.any(-1, keepdim=True), 0)
        return self.output(y.transpose(1, 2).flatten(2))

    def _split(self, x: Float[Tensor, "batch n _"], heads: int) -> Float[Tensor, "batch _ n width"]:
        return x.unflatten(-1, (heads, self.width)).transpose(1, 2)


def _rotate(
    x: Float[Tensor, "batch heads length width"], first: int
) -> Float[Tensor, "batch heads length width"]:
    """Rotary positions first, first + 1, ...: pairs of channels (i, i + width / 2) are turned."""
    half = x.shape[-1] // 2
    positions = torch.arange(first, first + x.shape[2], device=x.device, dtype=torch.float32)
    rates = 10000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = positions[:, None] * rates
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    left, right = x[..., :half], x[..., half:]
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)
