"""The config of a decoder of transformers whose feed-forward networks are domain experts."""

import importlib
from dataclasses import field
from typing import Any, ClassVar, no_type_check

from workingpapers.foundation.errors import InputError, missing_package

try:
    from transformers.configuration_utils import PreTrainedConfig, SubConfigSpec
    from transformers.models.auto.configuration_auto import AutoConfig
except ImportError as error:
    raise missing_package("transformers", "demix") from error

DECODERS = ("gpt2", "gpt_neox", "gpt_neo", "llama")
"""Types of transformers' decoders whose feed-forward networks can become experts."""


# transformers' own __init__ takes more than the signature that run-time checks would see.
@no_type_check
class DEMixConfig(PreTrainedConfig):
    """The config of the wrapped decoder, `backbone`, and the names of the experts, `domains`.

    `backbone` is one of transformers' own configs, or its JSON; without one it is GPT-2's default.
    InputError for a backbone of a type that is not in DECODERS.
    """

    model_type = "demix"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "backbone": SubConfigSpec(config_class=AutoConfig, model_type="gpt2")
    }

    backbone: Any = None
    domains: list[str] = field(default_factory=list)

    def __post_init__(self, **kwargs: Any) -> None:
        """Called by transformers after the fields are set, with what is no field."""
        if isinstance(self.backbone, dict):
            check_type(self.backbone.get("model_type", "gpt2"), "backbone")
        elif self.backbone is not None:
            # Else it is set to None for both.
            kwargs.setdefault("attn_implementation", self.backbone._attn_implementation)
        super().__post_init__(**kwargs)
        check_type(self.backbone.model_type, "backbone")
        # AutoModelForCausalLM looks for the model's class when it has the config.
        importlib.import_module("workingpapers.demix.pretrained")

    def get_text_config(self, decoder: Any = None, encoder: Any = None) -> PreTrainedConfig:
        """The backbone's config: caches, embeddings and the like are made by it."""
        return self.backbone


def check_type(model_type: Any, where: str) -> None:
    """InputError, one line that names the types allowed, for any other."""
    if model_type not in DECODERS:
        raise InputError(
            f"{where}: expected a decoder of type gpt2, gpt_neox, gpt_neo or llama, "
            f"found {model_type!r:.80}"
        )


AutoConfig.register(DEMixConfig.model_type, DEMixConfig, exist_ok=True)
