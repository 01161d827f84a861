"""Merged models as plain folders of transformers."""

import math
import os
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    pipeline,
)

from workingpapers.demix.export import export_model
from workingpapers.demix.mixture import MixtureLM
from workingpapers.demix.model import DEMixLM, LMConfig
from workingpapers.demix.pretrained import DEMixForCausalLM
from workingpapers.foundation.errors import InputError

END = "<|endoftext|>"
TEXT = "It was the best of times, it was the worst of times. Über die Brücke, 12 € a day."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Byte pairs with the end of a text, as our own training makes them, but in any place."""
    bytes_first = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = bytes_first, decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=290, initial_alphabet=alphabet, special_tokens=["<|first|>", END]
    )
    made.train_from_iterator([TEXT], trainer)
    return made


def our_model(tokenizer: Tokenizer, mode: str, **options: bool) -> DEMixLM:
    torch.manual_seed(0)
    config = LMConfig(
        vocabulary=tokenizer.get_vocab_size() + 3,
        length=48,
        dim=16,
        layers=2,
        heads=4,
        hidden=24,
        end_of_text=tokenizer.token_to_id(END),
        **options,
    )
    model = DEMixLM(config, ["news", "law"], experts=mode)
    for weight in model.parameters():
        # Experts, biases and norms that are all different from one another.
        weight.data += 0.2 * torch.randn_like(weight)
    return model


WEIGHTS = {"news": 3.0, "law": 1.0}


@pytest.mark.parametrize("mode", ["ffn", "all", "none"])
def test_the_folder_says_what_the_merged_model_says(
    tokenizer: Tokenizer, mode: str, tmp_path: Path
) -> None:
    model = our_model(tokenizer, mode)
    weights = None if mode == "none" else WEIGHTS
    folder = tmp_path / "new" / "out"
    export_model(model, tokenizer, folder, weights)
    dense = model if weights is None else model.merge(weights)
    plain = AutoModelForCausalLM.from_pretrained(folder)
    assert type(plain) is GPT2LMHeadModel
    tokens = torch.randint(0, model.vocabulary, (3, 48), generator=torch.Generator().manual_seed(1))
    expected = dense(tokens)
    assert expected.std() > 0.1
    assert torch.allclose(plain(tokens).logits, expected, atol=1e-5)

    reader = AutoTokenizer.from_pretrained(folder)
    text = f"{TEXT}{END} and on"
    assert reader(text).input_ids == tokenizer.encode(text).ids
    assert reader.decode(reader(TEXT).input_ids) == TEXT
    assert reader.eos_token == reader.bos_token == END
    assert reader.model_max_length == 48
    assert plain.generation_config.eos_token_id == tokenizer.token_to_id(END)
    card = (folder / "README.md").read_text()
    assert ("0.75 news, 0.25 law" in card) == (weights is not None)


@pytest.mark.parametrize("mode", ["ffn", "none"])
def test_perplexity_is_that_of_transformers_on_the_folder(
    tokenizer: Tokenizer, mode: str, tmp_path: Path
) -> None:
    model = our_model(tokenizer, mode)
    export_model(model, tokenizer, tmp_path, None if mode == "none" else WEIGHTS)
    dense = model if mode == "none" else model.merge(WEIGHTS)
    ours = MixtureLM(dense, tokenizer, experts=[0]).score(TEXT).perplexity

    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    reader = AutoTokenizer.from_pretrained(tmp_path)
    ids = torch.tensor([[reader.bos_token_id, *reader(TEXT).input_ids]])
    assert ids.shape[1] <= 48
    with torch.no_grad():
        theirs = math.exp(plain(ids, labels=ids).loss)
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_transformers_goes_on_with_a_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = our_model(tokenizer, "ffn")
    export_model(model, tokenizer, tmp_path, WEIGHTS)
    write = pipeline("text-generation", model=str(tmp_path))
    found = write("It was the", max_new_tokens=6, min_new_tokens=6, do_sample=False)
    ids = tokenizer.encode("It was the").ids
    dense = model.merge(WEIGHTS)
    for _ in range(6):
        logits = dense(torch.tensor([ids]))[0, -1]
        logits[model.end_of_text] = -torch.inf
        ids.append(int(logits.argmax()))
    assert found[0]["generated_text"] == tokenizer.decode(ids)


def test_a_wrapped_decoder_goes_back_to_its_own_type(tokenizer: Tokenizer, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
        bos_token_id=1,
        eos_token_id=1,
    )
    model = DEMixForCausalLM.from_decoder(LlamaForCausalLM(config).eval(), ["news", "law"])
    model.add_expert("other", init="random")
    export_model(model, tokenizer, tmp_path / "out", {"law": 1, "other": 1})
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(plain) is LlamaForCausalLM
    tokens = torch.arange(10)[None]
    expected = model.merge({"law": 0.5, "other": 0.5})(tokens).logits
    assert torch.equal(plain(tokens).logits, expected)
    reader = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert reader(TEXT).input_ids == tokenizer.encode(TEXT).ids
    export_model(model, reader, tmp_path / "again", {"law": 1, "other": 1})
    again = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert again(TEXT).input_ids == tokenizer.encode(TEXT).ids


def test_the_folder_has_the_modes_of_new_files(tokenizer: Tokenizer, tmp_path: Path) -> None:
    export_model(our_model(tokenizer, "none"), tokenizer, tmp_path / "out")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "file").touch()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "new").stat().st_mode
    for path in (tmp_path / "out").iterdir():
        assert path.stat().st_mode == (tmp_path / "new" / "file").stat().st_mode
    assert sorted(os.listdir(tmp_path)) == ["new", "out"]


def test_what_cannot_be_exported_is_refused(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = our_model(tokenizer, "ffn")
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"^weights: expected one or more, such as news=0.7,law="):
        export_model(model, tokenizer, out)
    with pytest.raises(InputError, match=r"^domain 'sports': expected one of news, law$"):
        export_model(model, tokenizer, out, {"sports": 1})
    with pytest.raises(InputError, match=r"^weight law=-1.0: expected a number of at least 0$"):
        export_model(model, tokenizer, out, {"law": -1.0})
    with pytest.raises(InputError, match=r"^weights: expected none, the model is dense$"):
        export_model(our_model(tokenizer, "none"), tokenizer, out, WEIGHTS)
    with pytest.raises(InputError, match=r"^model: expected one without domain tokens"):
        export_model(our_model(tokenizer, "none", domain_tokens=True), tokenizer, out)
    small = DEMixLM(LMConfig(vocabulary=9, length=8, dim=8, layers=1, heads=1), ["a"])
    with pytest.raises(InputError, match=r"^tokenizer: has \d+ tokens, expected at most 9$"):
        export_model(small, tokenizer, out)
    other = LMConfig(vocabulary=400, length=8, dim=8, layers=1, heads=1, end_of_text=399)
    with pytest.raises(InputError, match=r"^tokenizer: expected a token of number 399"):
        export_model(DEMixLM(other, ["a"]), tokenizer, out)
    (tmp_path / "file").touch()
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match=f"^{taken}: expected a new or empty folder$"):
            export_model(model, tokenizer, taken, WEIGHTS)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("workingpapers.demix.export._card", fail)
    with pytest.raises(KeyboardInterrupt):
        export_model(model, tokenizer, out, WEIGHTS)
    assert os.listdir(tmp_path) == ["file"]
