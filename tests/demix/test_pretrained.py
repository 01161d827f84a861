"""Wrapped decoders of transformers: the same as before, then modular; and as folders."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    TextGenerationPipeline,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from workingpapers.demix.checkpoint import Expert, load_model, save_model
from workingpapers.demix.configuration import DEMixConfig
from workingpapers.demix.mixture import MixtureLM
from workingpapers.demix.model import DEMixLM, LMConfig
from workingpapers.demix.posterior import DomainPosterior
from workingpapers.demix.pretrained import DEMixForCausalLM
from workingpapers.demix.protocol import ModularLM
from workingpapers.foundation.errors import InputError

NAMES = ("law", "news", "med")
TOKENS = 50
SHAPE = {"vocab_size": TOKENS, "bos_token_id": 0, "eos_token_id": 0}


def gpt2(**options: Any) -> GPT2LMHeadModel:
    shape = SHAPE | {"n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2} | options
    return GPT2LMHeadModel(GPT2Config(**shape)).eval()


def gpt_neo() -> GPTNeoForCausalLM:
    config = GPTNeoConfig(
        **SHAPE,
        max_position_embeddings=32,
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        attention_types=[[["global", "local"], 1]],
        window_size=4,
    )
    return GPTNeoForCausalLM(config).eval()


def gpt_neox() -> GPTNeoXForCausalLM:
    config = GPTNeoXConfig(
        **SHAPE,
        max_position_embeddings=32,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
    )
    return GPTNeoXForCausalLM(config).eval()


def llama(**options: Any) -> LlamaForCausalLM:
    config = LlamaConfig(
        **SHAPE,
        max_position_embeddings=32,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=24,
        **options,
    )
    return LlamaForCausalLM(config).eval()


MAKERS: dict[str, Callable[[], PreTrainedModel]] = {
    "gpt2": gpt2,
    "gpt_neo": gpt_neo,
    "gpt_neox": gpt_neox,
    "llama": llama,
}


@pytest.fixture(params=MAKERS)
def decoder(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    model = MAKERS[request.param]()
    for weight in model.parameters():
        # Biases and norms begin as zeros and ones, where mistakes do not show.
        weight.data += 0.3 * torch.randn_like(weight)
    return model


def rows(count: int = 4, length: int = 9) -> tuple[Tensor, Tensor]:
    """Tokens, and a mask that pads the first row by 3 and the third by 5 from the left."""
    tokens = torch.randint(1, TOKENS, (count, length), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens)
    mask[:1, :3] = 0
    mask[2:3, :5] = 0
    return tokens, mask


def trained(decoder: PreTrainedModel, names: tuple[str, ...] = NAMES) -> DEMixForCausalLM:
    """A modular model whose experts are different."""
    model = DEMixForCausalLM.from_decoder(decoder, names)
    generator = torch.Generator().manual_seed(2)
    for name in names:
        for weight in model.expert_parameters(name).values():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return model


def alone(model: DEMixForCausalLM, name: str, decoder: PreTrainedModel) -> PreTrainedModel:
    """The plain decoder with one expert's weights, put in by hand."""
    missing, unknown = decoder.load_state_dict(model.expert_parameters(name), strict=False)
    assert not unknown
    assert not any(".mlp." in key for key in missing)
    return decoder


def test_before_training_every_expert_says_the_same_bits_as_the_decoder(
    decoder: PreTrainedModel,
) -> None:
    before = {key: value.clone() for key, value in decoder.state_dict().items()}
    model = DEMixForCausalLM.from_decoder(decoder, NAMES)
    tokens, mask = rows()
    expected = decoder(tokens, attention_mask=mask, labels=tokens)
    for domain in (0, 2, "news", torch.ones(4, dtype=torch.long)):
        found = model(tokens, attention_mask=mask, labels=tokens, domain=domain)
        assert torch.equal(found.logits, expected.logits)
        assert torch.equal(found.loss, expected.loss)
    assert isinstance(model, ModularLM)
    assert not model.training
    assert all(torch.equal(decoder.state_dict()[key], value) for key, value in before.items())


def test_before_training_greedy_generation_is_that_of_the_decoder(
    decoder: PreTrainedModel,
) -> None:
    model = DEMixForCausalLM.from_decoder(decoder, NAMES)
    tokens, mask = rows()
    options = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    options |= {"output_logits": True, "return_dict_in_generate": True, "min_new_tokens": 8}
    expected = decoder.generate(tokens, **options)
    for domain in (1, "med", torch.full((4,), 2)):
        found = model.generate(tokens, domain=domain, **options)
        assert torch.equal(found.sequences, expected.sequences)
        assert all(map(torch.equal, found.logits, expected.logits))


@pytest.mark.parametrize(
    "domains", [[0, 0, 1, 1], [2, 0, 1, 1], [1, 0, 1, 0], [2, 2, 0, 0], [0, 2, 1, 2]]
)
def test_each_row_is_read_by_the_expert_of_its_domain(domains: list[int]) -> None:
    for make in MAKERS.values():
        torch.manual_seed(3)
        decoder = make()
        model = trained(decoder)
        tokens, mask = rows()
        found = model(tokens, attention_mask=mask, domain=torch.tensor(domains)).logits
        for domain in set(domains):
            plain = alone(model, NAMES[domain], decoder)
            expected = plain(tokens, attention_mask=mask).logits
            own = torch.tensor(domains) == domain
            assert torch.allclose(found[own], expected[own], atol=2e-5, rtol=1e-5)


def test_layers_whose_rows_are_not_aligned_are_read_right() -> None:
    """Widths of 6 and 10 numbers, which the grouped kernel does not take."""
    torch.manual_seed(0)
    decoder = gpt2(n_embd=6, n_inner=10)
    model = trained(decoder)
    tokens, mask = rows()
    found = model(tokens, attention_mask=mask, domain=torch.tensor([2, 0, 2, 2])).logits
    expected = alone(model, "med", decoder)(tokens, attention_mask=mask).logits
    assert torch.allclose(found[[0, 2, 3]], expected[[0, 2, 3]], atol=1e-5)


def test_llama_with_biases_is_read_right() -> None:
    torch.manual_seed(0)
    decoder = llama(mlp_bias=True)
    model = trained(decoder)
    tokens, mask = rows()
    found = model(tokens, attention_mask=mask, domain=torch.tensor([2, 0, 2, 2])).logits
    expected = alone(model, "med", decoder)(tokens, attention_mask=mask).logits
    assert torch.allclose(found[[0, 2, 3]], expected[[0, 2, 3]], atol=1e-5)


@pytest.mark.parametrize("domain", [1, torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])])
def test_an_expert_without_a_row_has_a_gradient_of_exactly_zero(
    decoder: PreTrainedModel, domain: int | Tensor
) -> None:
    model = trained(decoder)
    tokens, _ = rows()
    model(tokens, labels=tokens, domain=domain).loss.backward()
    there = {domain} if isinstance(domain, int) else set(domain.tolist())
    for stack in model._stacks().values():
        for expert in range(len(NAMES)):
            assert bool((stack.grad[expert] != 0).any()) == (expert in there)


def test_checkpointed_blocks_run_again_with_the_same_experts(decoder: PreTrainedModel) -> None:
    model = trained(decoder).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    tokens, _ = rows()

    def gradients() -> list[Tensor]:
        model.zero_grad()
        losses = [
            model(tokens, labels=tokens, domain=domain, use_cache=False).loss
            for domain in (torch.tensor([0, 1, 1, 2]), 2)
        ]
        # The first is gone through after the second has been read by another expert.
        sum(losses).backward()
        return [weight.grad.clone() for weight in model.parameters()]

    expected = gradients()
    model.activation_checkpointing_enable()
    assert all(map(torch.equal, gradients(), expected))


def test_beams_keep_the_domain_of_their_row() -> None:
    torch.manual_seed(0)
    decoder = gpt2()
    model = trained(decoder)
    tokens, mask = rows()
    options = {"max_new_tokens": 5, "num_beams": 3, "do_sample": False, "pad_token_id": 0}
    domains = [1, 0, 2, 2]
    found = model.generate(
        tokens, attention_mask=mask, domain=torch.tensor(domains), min_new_tokens=5, **options
    )
    for row, domain in enumerate(domains):
        plain = alone(model, NAMES[domain], decoder)
        expected = plain.generate(tokens, attention_mask=mask, min_new_tokens=5, **options)
        assert torch.equal(found[row], expected[row])


def test_token_logprobs_are_those_of_the_single_experts(decoder: PreTrainedModel) -> None:
    model = trained(decoder)
    tokens, _ = rows()
    previous = torch.tensor([0, 3, 4, 5])
    found = model.token_logprobs(tokens, ["med", 0], previous=previous)
    read = torch.cat([previous[:, None], tokens[:, :-1]], 1)
    for number, name in enumerate(["med", "law"]):
        logits = alone(model, name, decoder)(read).logits.double()
        expected = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
        assert torch.allclose(found[number].double(), expected, atol=1e-4)
    first = model.token_logprobs(tokens)
    assert first.shape == (3, 4, 9)
    assert torch.equal(first, model.token_logprobs(tokens, previous=torch.zeros_like(previous)))


def test_token_logprobs_in_small_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = trained(gpt2(attn_pdrop=0.5, resid_pdrop=0.5)).train()
    tokens, _ = rows()
    whole = model.token_logprobs(tokens)
    monkeypatch.setattr("workingpapers.demix.pretrained._READ_AT_ONCE", 1)
    monkeypatch.setattr("workingpapers.demix.pretrained.LOGITS_AT_ONCE", 7 * TOKENS)
    assert torch.allclose(model.token_logprobs(tokens), whole, atol=1e-5)
    assert model.training


def test_a_reader_remembers(decoder: PreTrainedModel) -> None:
    model = trained(decoder)
    tokens = rows(1, 12)[0][0]
    reader = model.reader(["med", "law"])
    found = torch.cat([reader.read(part) for part in tokens.split([1, 6, 1, 4])], 1)
    assert reader.held == 12
    for number, name in enumerate(["med", "law"]):
        expected = alone(model, name, decoder)(tokens[None]).logits[0].log_softmax(-1)
        assert torch.allclose(found[number], expected, atol=5e-5)
    with pytest.raises(InputError, match=r"^tokens: asked to read 33, expected at most 32$"):
        reader.read(torch.ones(21, dtype=torch.long))


def test_experts_come_and_go(decoder: PreTrainedModel) -> None:
    model = trained(decoder)
    tokens, _ = rows()
    before = [model(tokens, domain=name).logits for name in NAMES]
    experts = {name: model.expert_parameters(name) for name in NAMES}
    model.add_expert("copy", init="med")
    assert torch.equal(model(tokens, domain="copy").logits, before[2])
    model.add_expert("middle")
    key = next(iter(experts["law"]))
    four = [experts[name][key] for name in (*NAMES, "med")]
    middle = model.expert_parameters("middle")[key]
    assert torch.allclose(middle, torch.stack(four).mean(0), atol=1e-6)
    model.add_expert("new", init="random", seed=1)
    model.add_expert("again", init="random", seed=1)
    model.add_expert("other", init="random", seed=2)
    new, again, other = (model.expert_parameters(name) for name in ("new", "again", "other"))
    assert all(torch.equal(new[key], again[key]) for key in new)
    assert not torch.equal(new[key], other[key])
    assert all(torch.equal(new[key], torch.zeros_like(new[key])) for key in new if "bias" in key)
    model.remove_expert("news")
    model.rename_expert("med", "medicine")
    assert model.domains == ("law", "medicine", "copy", "middle", "new", "again", "other")
    assert torch.equal(model(tokens, domain="medicine").logits, before[2])
    model.select_experts(["medicine", "law"])
    assert torch.equal(model(tokens, domain=0).logits, before[2])
    model.remove_expert("law")
    assert torch.equal(model(tokens).logits, before[2])
    with pytest.raises(InputError, match=r"^experts: expected at least one to be left$"):
        model.remove_expert("medicine")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_merging_keeps_the_precision(dtype: torch.dtype) -> None:
    model = trained(gpt2()).to(dtype)
    one = model.merge({NAMES[1]: 1.0})
    assert one.dtype == dtype
    tokens, _ = rows()
    assert torch.equal(one(tokens).logits, model(tokens, domain=1).logits)


def test_random_experts_begin_as_the_decoder_did() -> None:
    torch.manual_seed(0)
    decoder = gpt2(n_embd=64, n_layer=8)
    model = DEMixForCausalLM.from_decoder(decoder, ["a"])
    model.add_expert("b", init="random")
    for key, weight in model.expert_parameters("b").items():
        if key.endswith("weight"):
            assert float(weight.std()) == pytest.approx(
                float(decoder.state_dict()[key].std()), rel=0.05
            )


def test_merging_is_the_weighted_mean(decoder: PreTrainedModel) -> None:
    model = trained(decoder)
    tokens, _ = rows()
    one = model.merge({"news": 2.0, "law": 0.0})
    assert type(one) is type(decoder)
    assert torch.equal(one(tokens).logits, model(tokens, domain="news").logits)
    two = model.merge({"news": 3.0, "law": 1.0}).state_dict()
    news, law = model.expert_parameters("news"), model.expert_parameters("law")
    for key in news:
        assert torch.allclose(two[key], 0.75 * news[key] + 0.25 * law[key], atol=1e-6)
    for key, weight in model.shared_parameters().items():
        assert torch.equal(two[key], weight)
    with pytest.raises(InputError, match=r"'sports': expected one of law, news, med$"):
        model.merge({"sports": 1.0})
    with pytest.raises(InputError, match=r"^weight news=-1.0: expected a number of at least 0$"):
        model.merge({"news": -1.0})
    with pytest.raises(InputError, match=r"^weights: expected one above 0$"):
        model.merge({"news": 0.0})


def test_tokens_can_be_added(decoder: PreTrainedModel) -> None:
    model = trained(decoder)
    model.resize_token_embeddings(TOKENS + 3)
    assert model.vocabulary == TOKENS + 3
    tokens = torch.full((1, 3), TOKENS + 2)
    assert model(tokens, domain=0).logits.shape == (1, 3, TOKENS + 3)
    assert model.merge({"law": 1})(tokens).logits.shape == (1, 3, TOKENS + 3)


def test_what_is_wrong_is_said() -> None:
    torch.manual_seed(0)
    model = trained(gpt2())
    tokens, _ = rows()
    with pytest.raises(InputError, match=r"^domain: expected one of law, news, med, found none$"):
        model(tokens)
    with pytest.raises(InputError, match=r"^domain: expected one of law, news, med, found none$"):
        model.generate(tokens, max_new_tokens=2)
    with pytest.raises(InputError, match=r"^domain 'sports': expected one of law, news, med$"):
        model(tokens, domain="sports")
    with pytest.raises(InputError, match=r"^domain 3: expected one of law, news, med$"):
        model(tokens, domain=3)
    with pytest.raises(InputError, match=r"^domain: expected numbers from 0 to 2$"):
        model(tokens, domain=torch.full((4,), 3))
    with pytest.raises(InputError, match=r"^domain: expected one number a row, 4, got 3$"):
        model(tokens, domain=torch.zeros(3, dtype=torch.long))
    with pytest.raises(InputError, match=r"^init 'sports': expected mean, random or law, news"):
        model.add_expert("new", init="sports")
    with pytest.raises(InputError, match=r"^domain 'Law': there is one of this name$"):
        model.add_expert("Law")
    with pytest.raises(InputError, match=r"^domains: expected one or more names$"):
        DEMixForCausalLM.from_decoder(gpt2(), [])
    with pytest.raises(InputError, match=r"^decoder: expected a model with a head for language"):
        DEMixForCausalLM.from_decoder(GPT2Model(gpt2().config), ["a"])
    bert = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, is_decoder=True)
    of_three = "expected a decoder of type gpt2, gpt_neox, gpt_neo or llama, found 'bert'$"
    with pytest.raises(InputError, match=r"^decoder: " + of_three):
        DEMixForCausalLM.from_decoder(BertLMHeadModel(bert), ["a"])
    with pytest.raises(InputError, match=r"^backbone: " + of_three):
        DEMixConfig(backbone=bert.to_dict(), domains=["a"])
    endless = trained(gpt2(bos_token_id=None, eos_token_id=None))
    with pytest.raises(
        InputError, match=r"^config: expected a bos_token_id or eos_token_id from 0"
    ):
        endless.token_logprobs(tokens)


def test_folders_that_hold_no_whole_decoder_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(InputError, match=r"expected the folder of a decoder, found no config.json"):
        DEMixForCausalLM.from_decoder(tmp_path, ["a"])
    gpt2().save_pretrained(tmp_path / "whole")
    model = DEMixForCausalLM.from_decoder(str(tmp_path / "whole"), ["a"])
    assert model.domains == ("a",)
    GPT2Model(gpt2().config).config.save_pretrained(tmp_path / "bare")
    with pytest.raises(InputError, match=r"bare: not a decoder that can be opened"):
        DEMixForCausalLM.from_decoder(tmp_path / "bare", ["a"])
    larger = gpt2(n_layer=3).config
    larger.save_pretrained(tmp_path / "whole")
    with pytest.raises(InputError, match=r"whole: the weights .*h\.2\..* are missing$"):
        DEMixForCausalLM.from_decoder(tmp_path / "whole", ["a"])
    file = tmp_path / "whole" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"whole: not a decoder that can be opened"):
        DEMixForCausalLM.from_decoder(tmp_path / "whole", ["a"])
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(
        InputError, match=r"bert: config.json: expected a decoder of type gpt2, gpt_neo"
    ):
        DEMixForCausalLM.from_decoder(tmp_path / "bert", ["a"])


@pytest.mark.parametrize("prior", ["uniform", "updating"])
def test_a_mixture_writes_with_the_probabilities_that_it_scores(
    decoder: PreTrainedModel, prior: str
) -> None:
    mixture = MixtureLM(trained(decoder), posterior=DomainPosterior(prior))
    steps = list(mixture.generate_tokens([3, 4], max_tokens=20, seed=1))
    scored = mixture.score([3, 4, *(step.token for step in steps)])
    assert len(steps) > 3
    assert scored.logprobs[2:].tolist() == pytest.approx([step.logprob for step in steps], abs=1e-5)


def test_the_package_registers_its_type_when_transformers_comes(tmp_path: Path) -> None:
    """In a new process: before transformers is imported, and without importing it."""
    DEMixConfig(backbone=gpt2().config, domains=["a", "b"]).save_pretrained(tmp_path)
    program = """
        import sys
        import workingpapers.demix
        assert not {"transformers", "torch", "numpy"} & set(sys.modules), "heavy"
        from transformers import AutoConfig, AutoModelForCausalLM
        assert "workingpapers.demix.pretrained" not in sys.modules
        config = AutoConfig.from_pretrained(sys.argv[1])
        print(type(config).__name__, config.backbone.model_type, *config.domains)
        print(type(AutoModelForCausalLM.from_config(config)).__name__)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["DEMixConfig gpt2 a b", "DEMixForCausalLM"]


def test_a_folder_gives_back_the_same_model(decoder: PreTrainedModel, tmp_path: Path) -> None:
    model = trained(decoder)
    model.generation_config.max_length = 17
    model.save_pretrained(tmp_path)
    found = DEMixForCausalLM.from_pretrained(tmp_path)
    auto = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(auto) is DEMixForCausalLM
    tokens, mask = rows()
    for name in NAMES:
        expected = model(tokens, attention_mask=mask, domain=name).logits
        for other in (found, auto):
            assert torch.equal(other(tokens, attention_mask=mask, domain=name).logits, expected)
    assert not found.training
    assert found.domains == NAMES
    assert found.generation_config.max_length == 17
    assert found.state_dict().keys() == model.state_dict().keys()
    there = model.config.backbone.to_dict() | {"dtype": "float32"}
    assert found.config.backbone.to_dict() == there
    assert sorted(path.name for path in tmp_path.rglob("*.safetensors")) == [
        "law.safetensors",
        "med.safetensors",
        "news.safetensors",
        "shared.safetensors",
    ]
    tied = decoder.config.tie_word_embeddings
    assert ("lm_head.weight" in load_file(tmp_path / "shared.safetensors")) != tied
    # The two together are the decoder, whole and under its own names.
    experts = load_file(tmp_path / "experts" / "med.safetensors")
    whole = load_file(tmp_path / "shared.safetensors") | experts
    assert whole.keys() == dict(decoder.named_parameters()).keys()


def test_some_experts_are_read_from_their_files_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = trained(gpt2())
    model.save_pretrained(tmp_path)
    (tmp_path / "experts" / "news.safetensors").unlink()
    some = AutoModelForCausalLM.from_pretrained(tmp_path, experts=["med", "law"])
    assert some.domains == ("med", "law")
    tokens, _ = rows()
    assert torch.equal(some(tokens, domain=0).logits, model(tokens, domain="med").logits)
    with pytest.raises(InputError, match=r"news.safetensors: the file is missing$"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_without_us_no_folder_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    trained(gpt2()).save_pretrained(tmp_path)
    # As it is where the package has not been imported.
    monkeypatch.delitem(CONFIG_MAPPING._extra_content, "demix")
    for auto in (AutoConfig, AutoModelForCausalLM):
        with pytest.raises(ValueError, match=r"model type `demix`"):
            auto.from_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"model\.safetensors"):
        GPT2LMHeadModel.from_pretrained(tmp_path)


def test_the_weights_have_the_type_asked_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = trained(llama().to(torch.bfloat16))
    assert model.dtype == torch.bfloat16
    model.save_pretrained(tmp_path)
    for options, expected in (({}, torch.bfloat16), ({"dtype": "float32"}, torch.float32)):
        for load in (AutoModelForCausalLM, DEMixForCausalLM):
            assert load.from_pretrained(tmp_path, **options).dtype == expected
    eager = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    assert eager.decoder.config._attn_implementation == "eager"
    tokens, _ = rows()
    assert model.token_logprobs(tokens).dtype == torch.float32


def test_a_folder_keeps_its_tokenizer_and_where_experts_come_from(tmp_path: Path) -> None:
    torch.manual_seed(0)
    words = {"<|endoftext|>": 0, "law": 1, "is": 2, "new": 3}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = Whitespace()
    known = [Expert("law", None, 100), Expert("news", "law", 20), Expert("med")]
    save_model(tmp_path, trained(gpt2()), tokenizer, experts=known, card="# Mine")
    model, found, manifest = load_model(tmp_path, ["news"])
    assert model.domains == ("news",)
    assert found.encode("law is new").ids == [1, 2, 3]
    assert manifest.experts == (Expert("news", "law", 20),)
    assert "# Mine" in (tmp_path / "README.md").read_text()
    reader = AutoTokenizer.from_pretrained(tmp_path)
    assert reader("law is new").input_ids == [1, 2, 3]
    assert reader.eos_token == "<|endoftext|>"
    write = TextGenerationPipeline(
        model=AutoModelForCausalLM.from_pretrained(tmp_path), tokenizer=reader
    )
    text = write("law is", max_new_tokens=3, do_sample=False, domain="news")[0]["generated_text"]
    assert text.startswith("law is")


def test_a_folder_is_not_written_over_by_mistake(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = trained(gpt2())
    model.save_pretrained(tmp_path, is_main_process=False)
    assert not any(tmp_path.iterdir())
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"the folder is not empty"):
        model.save_pretrained(tmp_path)
    other = trained(gpt2())
    state = {key: value + 1 for key, value in other.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=state, overwrite=True)
    found = DEMixForCausalLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = trained(gpt2())
    model.save_pretrained(tmp_path / "whole")
    with pytest.raises(InputError, match=r"^from_pretrained: knows no argument 'device_map'$"):
        DEMixForCausalLM.from_pretrained(tmp_path / "whole", device_map="auto")
    with pytest.raises(InputError, match=r"'sports': expected one of law, news, med$"):
        DEMixForCausalLM.from_pretrained(tmp_path / "whole", experts=["sports"])
    with pytest.raises(InputError, match=r"nowhere: expected the folder of a model"):
        DEMixForCausalLM.from_pretrained(tmp_path / "nowhere")
    save_model(tmp_path / "ours", DEMixLM(LMConfig(9, 8, 8, 1, 1), ["a"]))
    with pytest.raises(InputError, match=r"ours: holds a DEMixLM, expected a DEMixForCausalLM$"):
        DEMixForCausalLM.from_pretrained(tmp_path / "ours")
    config = tmp_path / "whole" / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"n_embd": 16', '"n_embd": 32'))
    with pytest.raises(InputError, match=r"whole: shared weights: the tensor .* expected \("):
        DEMixForCausalLM.from_pretrained(tmp_path / "whole")
    config.write_text(text.replace('"model_type": "gpt2"', '"model_type": "bert"'))
    with pytest.raises(InputError, match=r"whole: backbone: expected a decoder of type gpt2, "):
        DEMixForCausalLM.from_pretrained(tmp_path / "whole")
    config.write_text("{")
    with pytest.raises(InputError, match=r"whole: not a wrapped decoder that can be opened"):
        DEMixForCausalLM.from_pretrained(tmp_path / "whole")
    config.unlink()
    with pytest.raises(InputError, match=r"config.json: the file is missing$"):
        DEMixForCausalLM.from_pretrained(tmp_path / "whole")
