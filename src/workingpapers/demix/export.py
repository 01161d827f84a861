"""One dense model out of a modular one, as a folder that transformers opens by itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from workingpapers.demix.model import Decoder, DEMixLM
from workingpapers.demix.protocol import ModularLM, mixing_weights
from workingpapers.foundation.checkpoints import written_whole
from workingpapers.foundation.errors import InputError, missing_package

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import GPT2Config, GPT2LMHeadModel


def export_model(
    model: ModularLM,
    tokenizer: "Tokenizer | Any | None",
    folder: Path,
    weights: Mapping[str, float] | None = None,
) -> None:
    """Write a folder for AutoModelForCausalLM and AutoTokenizer: the experts' weighted mean.

    A DEMixLM becomes a GPT2LMHeadModel, which says the same as `model.merge(weights)` up to
    rounding; a wrapped decoder becomes one of its own type. `weights` are by name and divided by
    their sum; they may be left out where there is one expert, and must be for a dense model.
    `tokenizer` is one of the package tokenizers, or of transformers. Written whole or not at all.
    InputError for a folder that is not empty, a model with domain tokens (no GPT-2 reads them), a
    tokenizer that does not fit the model, and weights as above not allowed.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: expected a new or empty folder")
    try:
        import transformers
    except ImportError as error:
        raise missing_package("transformers", "demix") from error
    if isinstance(model, DEMixLM):
        plain: Any = as_gpt2(model, weights)
        shares = _shares(model, weights) if model.experts != "none" else {}
    else:
        shares = _shares(model, weights)
        plain = model.merge(shares)
    saved = None if tokenizer is None else as_fast_tokenizer(tokenizer, model)
    before = transformers.utils.logging.is_progress_bar_enabled()
    with written_whole(folder) as partial:
        try:
            transformers.utils.logging.disable_progress_bar()
            plain.save_pretrained(partial)
            if saved is not None:
                saved.save_pretrained(partial)
        finally:
            if before:
                transformers.utils.logging.enable_progress_bar()
        (partial / "README.md").write_text(_card(plain, shares), encoding="utf-8")


def as_gpt2(model: DEMixLM, weights: Mapping[str, float] | None = None) -> "GPT2LMHeadModel":
    """The merged model as transformers' GPT-2, of the same logits up to rounding.

    `weights` as in `export_model`. InputError for a model with domain tokens.
    """
    if model.config.domain_tokens:
        raise InputError("model: expected one without domain tokens, GPT-2 reads none")
    try:
        from transformers import GPT2LMHeadModel
        from transformers.initialization import no_init_weights
    except ImportError as error:
        raise missing_package("transformers", "demix") from error
    if model.experts == "none":
        if weights:
            raise InputError("weights: expected none, the model is dense")
        dense = model
    else:
        dense = model.merge(_shares(model, weights))
    config = _gpt2_config(dense)
    with no_init_weights():
        plain = GPT2LMHeadModel(config)
    plain.tie_weights()
    state = _gpt2_weights(dense.decoder)
    plain.load_state_dict(state | {"lm_head.weight": state["transformer.wte.weight"]})
    plain.generation_config.pad_token_id = model.end_of_text
    return plain.to(dense.decoder.norm.weight.dtype).eval()


def _shares(model: ModularLM, weights: Mapping[str, float] | None) -> dict[str, float]:
    """The share of each expert, by name, of those above 0."""
    if not weights:
        if len(model.domains) > 1:
            raise InputError(
                f"weights: expected one or more, such as {model.domains[0]}=0.7,"
                f"{model.domains[1]}=0.3"
            )
        weights = {model.domains[0]: 1.0}
    pairs = zip(model.domains, mixing_weights(model.domains, weights), strict=True)
    return {name: share for name, share in pairs if share}


def _gpt2_config(model: DEMixLM) -> "GPT2Config":
    from transformers import GPT2Config

    shape = model.config
    return GPT2Config(
        vocab_size=shape.vocabulary,
        n_positions=shape.length,
        n_embd=shape.dim,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_inner=shape.hidden,
        activation_function="gelu",
        layer_norm_epsilon=model.decoder.norm.eps,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=shape.end_of_text,
        eos_token_id=shape.end_of_text,
        tie_word_embeddings=True,
    )


def _gpt2_weights(decoder: Decoder) -> dict[str, Tensor]:
    """The weights of a dense decoder by their names in GPT-2, linear maps with the input first."""
    state = {
        "transformer.wte.weight": decoder.tokens.weight,
        "transformer.wpe.weight": decoder.positions.weight,
        "transformer.ln_f.weight": decoder.norm.weight,
        "transformer.ln_f.bias": decoder.norm.bias,
    }
    for number, block in enumerate(cast("list[Any]", decoder.blocks)):
        attention, feed_forward = block.mixer, block.feed_forward
        three = (attention.query, attention.key, attention.value)
        layer = {
            "ln_1.weight": block.mixer_norm.weight,
            "ln_1.bias": block.mixer_norm.bias,
            "attn.c_attn.weight": _joined([each.weight.T for each in three]),
            "attn.c_attn.bias": _joined([each.bias for each in three]),
            "attn.c_proj.weight": attention.output.weight.T,
            "attn.c_proj.bias": attention.output.bias,
            "ln_2.weight": block.feed_forward_norm.weight,
            "ln_2.bias": block.feed_forward_norm.bias,
            "mlp.c_fc.weight": feed_forward.up_weight[0],
            "mlp.c_fc.bias": feed_forward.up_bias[0],
            "mlp.c_proj.weight": feed_forward.down_weight[0],
            "mlp.c_proj.bias": feed_forward.down_bias[0],
        }
        state |= {f"transformer.h.{number}.{name}": tensor for name, tensor in layer.items()}
    return state


def _joined(parts: list[Tensor]) -> Tensor:
    import torch

    return torch.cat(parts, -1)


def as_fast_tokenizer(tokenizer: "Tokenizer | Any", model: ModularLM) -> Any:
    """A tokenizer of the package tokenizers as transformers', with the model's end of text.

    One of transformers is given back as it is. InputError for one that does not fit the model.
    """
    from transformers import PreTrainedTokenizerFast

    if hasattr(tokenizer, "save_pretrained"):
        return tokenizer
    size = tokenizer.get_vocab_size()
    if size > model.vocabulary:
        raise InputError(f"tokenizer: has {size} tokens, expected at most {model.vocabulary}")
    end = tokenizer.id_to_token(model.end_of_text)
    if end is None:
        raise InputError(
            f"tokenizer: expected a token of number {model.end_of_text}, the model's end of a text"
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=end,
        eos_token=end,
        pad_token=end,
        model_max_length=model.context,
        clean_up_tokenization_spaces=False,
    )


def _card(plain: Any, shares: Mapping[str, float]) -> str:
    parts = ", ".join(f"{share:.4g} {name}" for name, share in shares.items())
    made = f"Its feed-forward weights are a weighted mean of domain experts: {parts}." * bool(parts)
    return (
        "---\npipeline_tag: text-generation\nlibrary_name: transformers\n---\n\n"
        f"# A {type(plain).__name__} merged from domain experts\n\n"
        f"{plain.num_parameters():,} parameters, made by `workingpapers demix export`. {made}\n"
        "The model card of the checkpoint that it comes from says what it was trained on, and "
        "under which licences.\n"
    )
