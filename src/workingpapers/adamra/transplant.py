"""Adaptive multi-resolution attention in the place of the attention of a pretrained encoder."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workingpapers.adamra.attention import AdaptiveMultiResolutionAttention
from workingpapers.foundation.errors import InputError, missing_package

OPTIONS = (
    "feature_map",
    "kernel",
    "compressor",
    "routing",
    "per_head_routing",
    "share_kv",
    "dropout",
)
"""Options of the layer that a transplant may choose; the model decides the others."""

LARGEST_PADDING = -1000.0
"""An additive mask holds 0 for a real token, and for padding a number that no score outweighs."""

Model = TypeVar("Model", bound=nn.Module)


def replace_attention(model: Model, rates: Sequence[int] = (1, 4, 16), **options: Any) -> Model:
    """Swap every self-attention of a BERT, RoBERTa or ViT of transformers, with any head, for ours.

    The model is changed in place and returned. Each resolution begins with the model's projections
    to queries, keys and values; the output projection moves into the layer; a router is drawn from
    torch's generator. Kernel attention is no softmax attention: train before use. Only
    `rates=(1,)`, routing="off" and kernel="softmax" together compute what the model did.

    `options` are those of `AdaptiveMultiResolutionAttention` named in `OPTIONS`. The model gets a
    configuration of its own, in which `adamra` holds rates and options, and the dropout of
    attention probabilities, which are never formed, is 0. A subclass whose `__init__` ends with
    `replace_attention(self, **config.adamra)` loads with `from_pretrained` what was saved.

    InputError for other architectures, decoders, and attention that the layer cannot stand for;
    the model is then as it was.
    """
    for name in options:
        if name not in OPTIONS:
            raise InputError(f"option {name!r}: expected {', '.join(OPTIONS)}")
    places = list(_places(model))
    if not places:
        raise InputError(
            f"model {type(model).__name__}: expected its own attention, found none: has it been "
            "replaced before?"
        )
    layers = [_layer(place, rates, options) for place in places]
    former: Any = model.config
    config = copy.deepcopy(former)
    config.adamra = {"rates": [int(rate) for rate in rates], **options}
    config.attention_probs_dropout_prob = 0.0
    for place, layer in zip(places, layers, strict=True):
        attention = EncoderSelfAttention(layer, config).train(place.holder.training)
        setattr(place.holder, place.name, attention)
        if place.after is not None:
            place.after.dense = nn.Identity()
    # A configuration may serve several models: those whose attention stays must not read of ours.
    for module in model.modules():
        if getattr(module, "config", None) is former:
            module.config = config
    return model


class EncoderSelfAttention(nn.Module):
    """A layer behind the calling convention of the self-attention of transformers' encoders."""

    def __init__(self, layer: AdaptiveMultiResolutionAttention, config: Any) -> None:
        super().__init__()
        # Not a subclass of the layer: in a ViT the weights would be called attention.query.*,
        # which transformers renames when it loads a checkpoint.
        self.adamra = layer
        self.config = config

    def forward(
        self,
        hidden_states: Float[Tensor, "batch length dim"],
        attention_mask: object = None,
        **arguments: object,
    ) -> tuple[Float[Tensor, "batch length dim"], None]:
        """Attend; there are no attention weights to return.

        InputError for a mask of another kind than padding, and for what only attention weights, a
        decoder or a causal reading could serve.
        """
        _check_config(self.config)
        for name, expected in _UNSERVED.items():
            if arguments.get(name) is not None and arguments[name] is not False:
                raise InputError(f"{name}: {expected}")
        batch, length = hidden_states.shape[:2]
        return self.adamra(hidden_states, key_padding(attention_mask, batch, length)), None


_UNSERVED = {
    "output_attentions": "expected False: the layer forms no attention weights",
    "head_mask": "expected None: the layer cannot mask heads",
    "encoder_hidden_states": "expected None: the layer reads its own sequence only",
    "past_key_values": "expected None: the layer of an encoder keeps no cache",
    "is_causal": "expected False: the layer reads the whole sequence",
}
"""Arguments that the layer cannot serve, and what it expects of them."""


def key_padding(mask: object, batch: int, length: int) -> Bool[Tensor, "batch length"] | None:
    """The padding mask, True at real tokens, in a mask of transformers; None where all are real.

    Such a mask is "batch 1 length length" over queries and keys: Boolean and True at real keys
    (SDPA), or a number that is added to the scores, 0 at real keys (eager). InputError for another
    form, and where queries differ in the keys that they may read.
    """
    if mask is None:
        return None
    if (
        not isinstance(mask, Tensor)
        or not (mask.dtype == torch.bool or mask.is_floating_point())
        or mask.ndim != 4
        or mask.shape[0] not in (1, batch)
        or mask.shape[2] not in (1, length)
        or mask.shape[3] != length
    ):
        found = (
            f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        )
        raise InputError(
            f"attention_mask: expected booleans or floats ({batch}, 1, {length}, {length}), "
            f"found {found}"
        )
    # Extremes rather than comparisons, which would need a second mask of that size.
    low, high = mask.amin((1, 2)), mask.amax((1, 2))
    if not torch.equal(low, high):
        raise InputError("attention_mask: expected padding alone, found queries that differ in it")
    real = high if mask.dtype == torch.bool else high == 0
    if mask.dtype != torch.bool and not bool((real | (high <= LARGEST_PADDING)).all()):
        raise InputError(
            f"attention_mask: expected 0 or at most {LARGEST_PADDING:g}, found other numbers"
        )
    return real.expand(batch, -1)


@dataclass(frozen=True)
class _Place:
    """An attention to be replaced: attribute `name` of `holder`, and its projections."""

    holder: nn.Module
    name: str
    heads: int
    query: nn.Module
    key: nn.Module
    value: nn.Module
    output: nn.Module
    after: nn.Module | None
    """The module beyond the attention whose `dense` is the output projection."""


def _places(model: nn.Module) -> Iterator[_Place]:
    """The attentions that are still the model's own; InputError unless the model is one of ours."""
    try:
        from transformers import BertPreTrainedModel, RobertaPreTrainedModel, ViTPreTrainedModel
        from transformers.models.bert.modeling_bert import BertAttention, BertSelfAttention
        from transformers.models.roberta.modeling_roberta import (
            RobertaAttention,
            RobertaSelfAttention,
        )
        from transformers.models.vit.modeling_vit import ViTAttention, ViTLayer
    except ImportError as error:
        raise missing_package("transformers", "adamra") from error
    if not isinstance(model, (BertPreTrainedModel, RobertaPreTrainedModel, ViTPreTrainedModel)):
        raise InputError(
            f"model {type(model).__name__}: expected an encoder that is a BERT, RoBERTa or ViT of "
            "transformers"
        )
    _check_config(model.config)
    for module in model.modules():
        if isinstance(module, (BertAttention, RobertaAttention)):
            inner, after = module.self, module.output
            if isinstance(inner, (BertSelfAttention, RobertaSelfAttention)):
                heads = inner.num_attention_heads
                projections = inner.query, inner.key, inner.value, after.dense
                yield _Place(module, "self", heads, *projections, after)
        elif isinstance(module, ViTLayer) and isinstance(module.attention, ViTAttention):
            inner = module.attention
            projections = inner.q_proj, inner.k_proj, inner.v_proj, inner.o_proj
            yield _Place(module, "attention", inner.num_attention_heads, *projections, None)


def _check_config(config: Any) -> None:
    """InputError for a decoder, and for attention that the layer cannot stand for."""
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        raise InputError(
            "model: expected an encoder that is a BERT, RoBERTa or ViT of transformers, found a "
            "decoder (is_decoder or add_cross_attention)"
        )
    positions = getattr(config, "position_embedding_type", "absolute")
    if positions not in (None, "absolute"):
        raise InputError(f"position_embedding_type: expected 'absolute', found {positions!r}")
    if config.output_attentions:
        raise InputError(f"output_attentions: {_UNSERVED['output_attentions']}")
    # Others hand masks of other forms to the attention, or none in spite of padding.
    if config._attn_implementation not in ("eager", "sdpa"):
        raise InputError(
            f"attn_implementation: expected eager or sdpa, found {config._attn_implementation}"
        )


def _layer(
    place: _Place, rates: Sequence[int], options: dict[str, Any]
) -> AdaptiveMultiResolutionAttention:
    """A layer with the weights of the attention that it replaces."""
    query, key = _linear(place.query), _linear(place.key)
    value, output = _linear(place.value), _linear(place.output)
    dim = query.in_features
    if any(linear.weight.shape != (dim, dim) for linear in (query, key, value, output)):
        raise InputError(f"model: expected heads that make up the {dim} channels of a token")
    # On the CPU whatever the device of the model: the random draws are then the same.
    with torch.device("cpu"):
        layer = AdaptiveMultiResolutionAttention(
            dim, place.heads, rates, bias=query.bias is not None, **options
        )
    layer.to(query.weight.device, query.weight.dtype)
    _copy(query, layer.query)
    _copy(output, layer.output)
    for keys, values in zip(layer.key, layer.value, strict=True):
        _copy(key, _linear(keys))
        _copy(value, _linear(values))
    return layer


def _linear(module: nn.Module) -> nn.Linear:
    """The module, if its weight is the matrix that it multiplies by; else InputError."""
    if type(module) is not nn.Linear:
        raise InputError(
            f"model: expected plain linear projections, found {type(module).__name__}: merge "
            "adapters and load without quantization first"
        )
    return module


def _copy(source: nn.Linear, target: nn.Linear) -> None:
    """Copy weight and bias; what was frozen stays frozen."""
    for old, new in zip(source.parameters(), target.parameters(), strict=True):
        new.data.copy_(old.data)
        new.requires_grad_(old.requires_grad)
