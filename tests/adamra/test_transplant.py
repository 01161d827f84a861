"""Transplants are held equal to attention written out by hand, and to the models they come from."""

import copy
import sys

import pytest
import torch
from safetensors.torch import load_file

from workingpapers.adamra.transplant import EncoderSelfAttention, key_padding, replace_attention
from workingpapers.foundation.errors import InputError, MissingPackageError

BOTH = pytest.mark.parametrize("implementation", ["eager", "sdpa"])
FAMILIES = pytest.mark.parametrize("family", ["Bert", "Roberta", "ViT"])
SAME = {"rates": (1,), "routing": "off", "kernel": "softmax"}
"""Options with which the layer computes what the model's own attention does."""

TOKENS = torch.randint(5, 40, (3, 11), generator=torch.Generator().manual_seed(0))
PADDING = torch.arange(11) < torch.tensor([11, 7, 2])[:, None]
IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def transformers():
    # Small models: what threads would gain, their meeting costs.
    torch.set_num_threads(1)
    return pytest.importorskip("transformers")


@pytest.fixture
def build(transformers):
    """A small model of random weights, in evaluation: build("BertModel", hidden_size=8, ...)."""

    def build(name, implementation="sdpa", config=None, keywords=None, **changes):
        torch.manual_seed(0)
        family = next(known for known in ("Bert", "Roberta", "ViT") if name.startswith(known))
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
        sizes |= {"intermediate_size": 24, "initializer_range": 0.4}
        if family == "ViT":
            sizes |= {"image_size": 8, "patch_size": 2}
        else:
            sizes |= {"vocab_size": 40, "max_position_embeddings": 40}
        config = config or getattr(transformers, f"{family}Config")(**(sizes | changes))
        config._attn_implementation = implementation
        model = getattr(transformers, name)(config, **(keywords or {})).eval()
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.data.add_(torch.randn_like(parameter), alpha=0.3)
        return model

    return build


def inputs(model):
    if model.main_input_name == "pixel_values":
        return {"pixel_values": IMAGES}
    return {"input_ids": TOKENS, "attention_mask": PADDING.long()}


def kernel_attention(x, real, weights, heads, rates):
    """Kernel attention with every weight of it written out, as a mean over the resolutions."""

    def project(name, tokens):
        projected = tokens @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        return projected.unflatten(-1, (heads, -1)).transpose(0, 1)

    outputs = []
    for item, mask in zip(x, real, strict=True):
        read = 0
        for rate in rates:
            spans = zip(item.split(rate), mask.split(rate), strict=True)
            blocks = [tokens[seen] for tokens, seen in spans if seen.any()]
            means = torch.stack([block.mean(0) for block in blocks])
            sizes = torch.tensor([float(len(block)) for block in blocks])
            q, k = project("query", item).relu() + 0.001, project("key", means).relu() + 0.001
            share = (q @ k.transpose(1, 2)) * sizes
            share = share / share.sum(-1, keepdim=True)
            read = read + share @ project("value", means) / len(rates)
        joined = read.transpose(0, 1).flatten(1)
        outputs.append(joined @ weights["output.weight"].T + weights["output.bias"])
    return torch.stack(outputs) * real[..., None]


@pytest.mark.parametrize("rates", [(1,), (1, 3)])
@pytest.mark.parametrize("form", ["none", "Boolean", "additive"])
@FAMILIES
def test_a_transplanted_layer_is_kernel_attention_with_the_models_weights(
    build, family, form, rates
):
    model = build(f"{family}Model")
    place = (model.layers if family == "ViT" else model.encoder.layer)[1]
    state = place.attention.state_dict()
    old = {"query": "self.query", "key": "self.key", "value": "self.value"}
    old["output"] = "output.dense"
    if family == "ViT":
        old = {name: f"{name[0]}_proj" for name in old}
    weights = {
        f"{name}.{kind}": state[f"{path}.{kind}"].clone()
        for name, path in old.items()
        for kind in ("weight", "bias")
    }
    x = torch.randn(3, 11, 16)
    real = PADDING if form != "none" else torch.ones_like(PADDING)
    mask = real[:, None, None].expand(-1, 1, 11, -1)
    mask = {
        "none": None,
        "Boolean": mask,
        "additive": torch.where(mask, 0.0, torch.finfo(torch.float32).min),
    }[form]
    expected = kernel_attention(x, real, weights, 4, rates)
    replace_attention(model, rates, routing="off")
    found, attention_weights = place.attention(x, mask)
    assert attention_weights is None
    if family != "ViT":
        # What is left of the module beyond: dropout, the residual connection and LayerNorm.
        expected = place.attention.output.LayerNorm(expected + x)
        assert isinstance(place.attention.output.dense, torch.nn.Identity)
    torch.testing.assert_close(found, expected)


@BOTH
@pytest.mark.parametrize(
    "name",
    [
        "BertModel",
        "BertForSequenceClassification",
        "BertForMaskedLM",
        "RobertaModel",
        "RobertaForTokenClassification",
        "ViTModel",
        "ViTForImageClassification",
    ],
)
def test_softmax_over_every_token_leaves_the_model_what_it_was(build, name, implementation):
    model = build(name, implementation)
    attentions = model.config.num_hidden_layers
    before = model(**inputs(model), output_hidden_states=True)
    assert replace_attention(model, **SAME) is model
    after = model(**inputs(model), output_hidden_states=True)
    replaced = [module for module in model.modules() if isinstance(module, EncoderSelfAttention)]
    assert len(replaced) == attentions
    for old, new in zip(before.hidden_states, after.hidden_states, strict=True):
        real = ... if "ViT" in name else PADDING
        torch.testing.assert_close(new[real], old[real], rtol=1e-4, atol=1e-5)
    if name == "BertForSequenceClassification":
        torch.testing.assert_close(after.logits, before.logits, rtol=1e-4, atol=1e-5)


@BOTH
def test_padding_is_never_read(build, implementation):
    model = replace_attention(build("BertModel", implementation), (1, 4), routing="soft")
    whole = model(**inputs(model)).last_hidden_state
    short = model(input_ids=TOKENS[1:2, :7]).last_hidden_state
    torch.testing.assert_close(whole[1:2, :7], short)


@FAMILIES
def test_every_parameter_has_a_gradient(build, family):
    model = replace_attention(build(f"{family}Model", keywords={"add_pooling_layer": False}))
    values = model.train()(**inputs(model)).last_hidden_state
    # The mean of what LayerNorm gives out does not depend on what it was given.
    (values * torch.randn(values.shape[1:])).sum().backward()
    layers = [module.adamra for module in model.modules() if hasattr(module, "adamra")]
    chosen = torch.stack([layer.routing_shares() for layer in layers])
    assert (chosen > 0).all()
    without = [name for name, one in model.named_parameters() if one.grad is None]
    assert not without
    assert all(one.grad.abs().max() > 0 for one in model.parameters())


@FAMILIES
def test_a_saved_transplant_loads_into_a_fresh_one(transformers, build, family, tmp_path):
    name = f"{family}For{'Image' if family == 'ViT' else 'Sequence'}Classification"
    plain = getattr(transformers, name)
    options = {"feature_map": "favor", "kernel": "softmax", "compressor": "conv"}
    model = replace_attention(build(name), (1, 2), **options)
    model.save_pretrained(tmp_path)

    class Transplant(plain):
        def __init__(self, config):
            super().__init__(config)
            replace_attention(self, **config.adamra)

    loaded, report = Transplant.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert loaded.config.adamra == {"rates": [1, 2], **options}
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    assert torch.equal(loaded(**inputs(model)).logits, model(**inputs(model)).logits)
    if family != "ViT":
        # In a ViT's file transformers gives other names to the layers.
        fresh = replace_attention(build(name), (1, 2), **options)
        fresh.load_state_dict(load_file(tmp_path / "model.safetensors"))
        assert torch.equal(fresh(**inputs(model)).logits, model(**inputs(model)).logits)


def test_the_configuration_tells_what_changed_and_only_of_this_model(build):
    plain = build("BertForSequenceClassification", num_labels=5)
    before = copy.deepcopy(plain.config.to_dict())
    assert before["attention_probs_dropout_prob"] == 0.1
    model = replace_attention(
        build("BertForSequenceClassification", config=plain.config), (1, 4), routing="soft"
    )
    assert plain.config.to_dict() == before
    assert model.config._attn_implementation == "sdpa"
    assert model.config.to_dict() == before | {
        "adamra": {"rates": [1, 4], "routing": "soft"},
        "attention_probs_dropout_prob": 0.0,
    }
    configs = [module.config for module in model.modules() if hasattr(module, "config")]
    assert len(configs) > 3
    assert all(config is model.config for config in configs)


def test_type_mode_and_what_was_frozen_are_kept(build):
    model = build("ViTModel", qkv_bias=False).to(torch.bfloat16).train()
    model.layers[0].attention.requires_grad_(False)
    replace_attention(model)
    first, second = (layer.attention.adamra for layer in model.layers)
    assert first.query.bias is None
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.layers[0].attention.training
    trainable = {name for name, one in first.named_parameters() if one.requires_grad}
    assert trainable == {"router.weight", "router.bias"}
    assert all(one.requires_grad for one in second.parameters())
    model.eval()(pixel_values=IMAGES)
    assert not first.training


def test_other_architectures_and_decoders_are_refused(transformers, build):
    encoders = "expected an encoder that is a BERT, RoBERTa or ViT of transformers"
    sizes = {"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 8}
    others = (
        transformers.GPT2Model(transformers.GPT2Config(**sizes, num_attention_heads=1)),
        transformers.LlamaModel(transformers.LlamaConfig(**sizes, num_attention_heads=1)),
        torch.nn.TransformerEncoderLayer(8, 1),
    )
    for other in others:
        with pytest.raises(InputError) as refused:
            replace_attention(other)
        assert str(refused.value) == f"model {type(other).__name__}: {encoders}"
    for changes in ({"is_decoder": True}, {"is_decoder": True, "add_cross_attention": True}):
        with pytest.raises(InputError) as refused:
            replace_attention(build("RobertaModel", **changes))
        assert str(refused.value) == (
            f"model: {encoders}, found a decoder (is_decoder or add_cross_attention)"
        )


def test_attention_that_the_layer_cannot_stand_for_is_refused(build):
    def refusal(model, **options):
        before = model.state_dict().keys()
        with pytest.raises(InputError) as refused:
            replace_attention(model, **options)
        assert model.state_dict().keys() == before
        return str(refused.value)

    assert refusal(build("BertModel", position_embedding_type="relative_key")) == (
        "position_embedding_type: expected 'absolute', found 'relative_key'"
    )
    assert refusal(build("BertModel", "eager", output_attentions=True)) == (
        "output_attentions: expected False: the layer forms no attention weights"
    )
    assert refusal(build("BertModel", "flex_attention")) == (
        "attn_implementation: expected eager or sdpa, found flex_attention"
    )
    assert refusal(build("ViTModel", head_dim=8)) == (
        "model: expected heads that make up the 16 channels of a token"
    )
    adapted = build("ViTModel")
    adapted.layers[1].attention.v_proj = torch.nn.Sequential(torch.nn.Linear(16, 16))
    assert refusal(adapted) == (
        "model: expected plain linear projections, found Sequential: merge adapters and load "
        "without quantization first"
    )
    assert refusal(replace_attention(build("BertModel"))) == (
        "model BertModel: expected its own attention, found none: has it been replaced before?"
    )
    assert refusal(build("BertModel"), causal=True) == (
        "option 'causal': expected feature_map, kernel, compressor, routing, per_head_routing, "
        "share_kv, dropout"
    )
    assert refusal(build("BertModel"), routing="best").startswith("routing 'best': expected top1,")
    assert refusal(build("BertModel"), rates=(4, 1)).startswith("rates (4, 1): expected them to")


def test_requests_that_the_layer_cannot_serve_are_refused(build):
    model = replace_attention(build("BertModel", "eager"), (1,))
    for name, value, expected in (
        ("output_attentions", True, "expected False: the layer forms no attention weights"),
        ("head_mask", torch.ones(2, 4), "expected None: the layer cannot mask heads"),
        ("is_causal", True, "expected False: the layer reads the whole sequence"),
    ):
        with pytest.raises(InputError) as refused:
            model(TOKENS, **{name: value})
        assert str(refused.value) == f"{name}: {expected}"
    model(TOKENS, output_attentions=False, head_mask=None)
    model.config.output_attentions = True
    with pytest.raises(InputError, match=r"^output_attentions: expected False"):
        model(TOKENS)
    attention = replace_attention(build("BertModel"), (1,)).encoder.layer[0].attention
    with pytest.raises(InputError) as refused:
        attention(torch.zeros(1, 3, 16), past_key_values={})
    assert str(refused.value) == (
        "past_key_values: expected None: the layer of an encoder keeps no cache"
    )


def test_masks_that_are_not_padding_are_refused(build):
    model = replace_attention(build("BertModel"), (1,))
    causal = torch.ones(11, 11).tril().bool().expand(3, 1, -1, -1)
    for mask in (causal, torch.where(causal, 0.0, -torch.inf)):
        with pytest.raises(InputError) as refused:
            model(TOKENS, attention_mask=mask)
        assert str(refused.value) == (
            "attention_mask: expected padding alone, found queries that differ in it"
        )
    with pytest.raises(InputError) as refused:
        model(TOKENS, attention_mask=torch.full((3, 1, 11, 11), -0.5))
    assert str(refused.value) == (
        "attention_mask: expected 0 or at most -1000, found other numbers"
    )
    for mask, found in (
        (PADDING, "torch.bool (3, 11)"),
        (torch.ones(3, 1, 11, 11, dtype=torch.int64), "torch.int64 (3, 1, 11, 11)"),
        (torch.ones(3, 1, 11, 12), "torch.float32 (3, 1, 11, 12)"),
        ("padding", "str"),
    ):
        with pytest.raises(InputError) as refused:
            key_padding(mask, 3, 11)
        assert str(refused.value) == (
            f"attention_mask: expected booleans or floats (3, 1, 11, 11), found {found}"
        )


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("padding", ["least", -torch.inf, -10_000.0])
def test_an_additive_mask_of_any_usual_number_is_padding(kind, padding):
    least = torch.finfo(kind).min if padding == "least" else padding
    mask = torch.where(PADDING, 0.0, least).to(kind)[:, None, None]
    assert torch.equal(key_padding(mask, 3, 11), PADDING)
    assert torch.equal(key_padding(mask[1:2], 3, 11), PADDING[1:2].expand(3, -1))
    assert key_padding(None, 3, 11) is None


def test_a_missing_transformers_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingPackageError) as missing:
        replace_attention(torch.nn.Linear(2, 2))
    assert str(missing.value) == (
        "transformers is not installed: pip install 'workingpapers[adamra]' brings it"
    )
