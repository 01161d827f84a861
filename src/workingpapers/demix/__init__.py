"""Language models whose domain experts can be mixed, added and removed.

The public names are imported when they are first used, so that importing this package is quick.
Importing it also makes the Auto classes of transformers know a wrapped decoder's folder.
"""

import importlib
from typing import TYPE_CHECKING, Any

from workingpapers.demix.registration import register_auto_classes

if TYPE_CHECKING:
    from workingpapers.demix.checkpoint import load_model, save_model
    from workingpapers.demix.corpora import DomainCorpus, load_domains
    from workingpapers.demix.discovery import DomainClusterer, discover_domains
    from workingpapers.demix.export import export_model
    from workingpapers.demix.mixture import MixtureLM
    from workingpapers.demix.model import DEMixFeedForward, DEMixLM, LMConfig
    from workingpapers.demix.posterior import DomainPosterior
    from workingpapers.demix.pretrained import DEMixConfig, DEMixForCausalLM
    from workingpapers.demix.training import adapt, nearest_expert, train

_HOMES = {
    "DEMixConfig": "pretrained",
    "DEMixFeedForward": "model",
    "DEMixForCausalLM": "pretrained",
    "DEMixLM": "model",
    "DomainClusterer": "discovery",
    "DomainCorpus": "corpora",
    "DomainPosterior": "posterior",
    "LMConfig": "model",
    "MixtureLM": "mixture",
    "adapt": "training",
    "discover_domains": "discovery",
    "export_model": "export",
    "load_domains": "corpora",
    "load_model": "checkpoint",
    "nearest_expert": "training",
    "save_model": "checkpoint",
    "train": "training",
}

__all__ = [
    "DEMixConfig",
    "DEMixFeedForward",
    "DEMixForCausalLM",
    "DEMixLM",
    "DomainClusterer",
    "DomainCorpus",
    "DomainPosterior",
    "LMConfig",
    "MixtureLM",
    "adapt",
    "discover_domains",
    "export_model",
    "load_domains",
    "load_model",
    "nearest_expert",
    "save_model",
    "train",
]

register_auto_classes()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"workingpapers.demix.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
