"""Adaptive multi-resolution attention: attend over long sequences in linear time.

The public names are imported when they are first used, so that importing this package is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workingpapers.adamra.attention import (
        AdaptiveMultiResolutionAttention,
        Routing,
        balance_loss,
        routing_shares,
    )
    from workingpapers.adamra.causal import AdaMRAState
    from workingpapers.adamra.encoder import AdaMRAEncoder, EncoderConfig
    from workingpapers.adamra.multihead import as_multihead_attention
    from workingpapers.adamra.scaling import measure_scaling
    from workingpapers.adamra.tasks import open_task
    from workingpapers.adamra.transplant import replace_attention

_HOMES = {
    "AdaMRAEncoder": "encoder",
    "AdaMRAState": "causal",
    "AdaptiveMultiResolutionAttention": "attention",
    "EncoderConfig": "encoder",
    "Routing": "attention",
    "as_multihead_attention": "multihead",
    "balance_loss": "attention",
    "measure_scaling": "scaling",
    "open_task": "tasks",
    "replace_attention": "transplant",
    "routing_shares": "attention",
}

__all__ = [
    "AdaMRAEncoder",
    "AdaMRAState",
    "AdaptiveMultiResolutionAttention",
    "EncoderConfig",
    "Routing",
    "as_multihead_attention",
    "balance_loss",
    "measure_scaling",
    "open_task",
    "replace_attention",
    "routing_shares",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"workingpapers.adamra.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
