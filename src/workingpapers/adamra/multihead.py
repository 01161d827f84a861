"""The layer under the calling convention of `torch.nn.MultiheadAttention`."""

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from workingpapers.adamra.attention import AdaptiveMultiResolutionAttention
from workingpapers.foundation.errors import InputError


def as_multihead_attention(
    layer: AdaptiveMultiResolutionAttention, *, batch_first: bool = True
) -> "MultiheadForm":
    """The layer as a stand-in for `torch.nn.MultiheadAttention`, for example as the `self_attn` of
    `torch.nn.TransformerEncoderLayer`; parameters are shared.

    `batch_first=False` for models whose tensors are "length batch dim", torch's default.
    """
    return MultiheadForm(layer, batch_first)


class MultiheadForm(nn.Module):
    """A layer that is called as `torch.nn.MultiheadAttention` is.

    `in_proj_weight`, `in_proj_bias` and `out_proj` are there because torch's encoder looks at them;
    it is told that they do not form one matrix, so that it calls `forward` also in evaluation.
    """

    _qkv_same_embed_dim = False

    def __init__(self, layer: AdaptiveMultiResolutionAttention, batch_first: bool) -> None:
        super().__init__()
        self.layer = layer
        self.embed_dim, self.num_heads, self.batch_first = layer.dim, layer.heads, batch_first

    @property
    def in_proj_weight(self) -> Tensor:
        return self.layer.query.weight

    @property
    def in_proj_bias(self) -> Tensor:
        return self.layer.output.bias

    @property
    def out_proj(self) -> nn.Linear:
        return self.layer.output

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """(output, None): there is no matrix of weights to return, whatever `need_weights` says.

        `query` "batch length dim" ("length batch dim" unless batch_first), "length dim", or nested;
        `key` and `value` are the same tensor. `key_padding_mask` "batch length" is True, or -inf,
        at padding, where the output is 0. A causal layer takes the causal `attn_mask`. InputError
        for any other mask and for attention to another sequence.
        """
        if key is not query or value is not query:
            raise InputError("key, value: expected the query itself, as this is self-attention")
        self._check_attention_mask(attn_mask, is_causal, self._length(query))
        mask = None if key_padding_mask is None else ~_blocked("key_padding_mask", key_padding_mask)
        if query.is_nested:
            return self._forward_nested(query, mask), None
        if query.ndim == 2:
            return self.layer(query[None], None if mask is None else mask[None])[0], None
        if self.batch_first or query.ndim != 3:
            return self.layer(query, mask), None
        return self.layer(query.transpose(0, 1), mask).transpose(0, 1), None

    def _length(self, query: Tensor) -> int | None:
        """Tokens of a query; None where its sequences have lengths of their own."""
        if query.is_nested:
            return None
        return query.shape[1 if self.batch_first and query.ndim == 3 else 0]

    def _forward_nested(self, query: Tensor, mask: Bool[Tensor, "batch length"] | None) -> Tensor:
        """The encoder packs sequences of unlike lengths into one tensor when it evaluates."""
        if mask is not None:
            raise InputError("key_padding_mask: expected None beside a nested query")
        lengths = torch.tensor([len(item) for item in query.unbind()], device=query.device)
        x = query.to_padded_tensor(0.0)
        mask = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        return torch._nested_tensor_from_mask(self.layer(x, mask), mask)

    def _check_attention_mask(
        self, mask: Tensor | None, is_causal: bool, length: int | None
    ) -> None:
        if not self.layer.causal and (is_causal or mask is not None):
            raise InputError(
                "attn_mask: expected None, as blocks are read whole; a causal mask takes a layer "
                "with causal=True"
            )
        if mask is not None and length is not None and mask.shape[-2:] != (length, length):
            raise InputError(
                f"attn_mask: expected {length} queries and keys, found {tuple(mask.shape[-2:])}"
            )
        # As in torch, is_causal vouches for what the mask holds.
        if mask is None or is_causal:
            return
        blocked = _blocked("attn_mask", mask)
        future = torch.ones(mask.shape[-2:], dtype=torch.bool, device=mask.device).triu(1)
        if not (blocked == future).all():
            raise InputError("attn_mask: expected the causal mask, True or -inf above the diagonal")


def _blocked(name: str, mask: Tensor) -> Tensor:
    """Where a mask of torch's is True or -inf; InputError unless it is 0 elsewhere."""
    if mask.dtype == torch.bool:
        return mask
    blocked = mask == -torch.inf
    if not mask.is_floating_point() or (mask[~blocked] != 0).any():
        raise InputError(f"{name}: expected booleans, or numbers that are 0 or -inf")
    return blocked
