"""Training domain experts, and training one alone."""

import copy
import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from workingpapers.demix.corpora import BlockSampler, DomainCorpus, blocks
from workingpapers.demix.model import DEMixLM, LMConfig
from workingpapers.demix.pretrained import DEMixForCausalLM
from workingpapers.demix.training import (
    adapt,
    held_out_rows,
    nearest_expert,
    next_token_loss,
    parameter_groups,
    peak_learning_rate,
    time_step,
    train,
    train_config,
)
from workingpapers.foundation.errors import InputError
from workingpapers.foundation.training import TrainConfig

SHAPE = LMConfig(vocabulary=24, length=6, dim=8, layers=2, heads=2)
KINDS = ("ffn", "all", "none")
CONFIG = TrainConfig(steps=3, learning_rate=0.02, weight_decay=0.3)


def corpus(name: str, least: int = 0, most: int = 24) -> DomainCorpus:
    tokens = np.random.default_rng(least).integers(least, most, 200).astype(np.uint16)
    return DomainCorpus(name, tokens, tokens, tokens, {}, {})


CORPORA = [corpus("a", 0, 8), corpus("b", 8, 16), corpus("c", 16, 24)]
NEW = corpus("new", 4, 12)


def modular(kind: str) -> Any:
    torch.manual_seed(0)
    names = [each.name for each in CORPORA]
    if kind == "gpt2":
        config = GPT2Config(
            vocab_size=24, n_positions=6, n_embd=8, n_layer=2, n_head=2, bos_token_id=0,
            eos_token_id=0,
        )  # fmt: skip
        return DEMixForCausalLM.from_decoder(GPT2LMHeadModel(config), names)
    if kind == "llama":
        config = LlamaConfig(
            vocab_size=24, max_position_embeddings=6, hidden_size=8, num_hidden_layers=2,
            num_attention_heads=2, intermediate_size=16, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        return DEMixForCausalLM.from_decoder(LlamaForCausalLM(config), names)
    return DEMixLM(SHAPE, names, experts=kind)


def digests(model: Any) -> dict[str, str]:
    """SHA-256 of the shared weights and of each expert, bit for bit."""
    parts = {"shared weights": model.shared_parameters()}
    parts |= {name: model.expert_parameters(name) for name in model.domains}
    return {
        name: hashlib.sha256(
            b"".join(tensor.numpy().tobytes() for tensor in tensors.values())
        ).hexdigest()
        for name, tensors in parts.items()
    }


@pytest.mark.parametrize("kind", ["ffn", "all", "gpt2", "llama"])
def test_training_changes_all_and_adapting_one_expert_only(kind: str) -> None:
    model = modular(kind)
    first = digests(model)
    assert first["a"] == first["b"] == first["c"]
    history = train(model, CORPORA, CONFIG)
    trained = digests(model)
    assert len(history.log) == 3
    # Whole models as experts share nothing.
    changed = {name for name in first if first[name] != trained[name]}
    assert changed == {"a", "b", "c"} | ({"shared weights"} if kind != "all" else set())
    assert len({trained["a"], trained["b"], trained["c"]}) == 3

    model.add_expert("new", "b")
    begun = digests(model)
    adapt(model, "new", NEW, CONFIG, rows=2)
    adapted = digests(model)
    assert adapted.pop("new") != begun.pop("new")
    # Weight decay of .3 would show in whatever the optimizer had in its hands.
    assert adapted == begun == trained
    assert all(weight.requires_grad for weight in model.parameters())


def test_adapting_is_training_with_everything_else_held() -> None:
    model = modular("ffn")
    model.add_expert("new", "b")
    slow = copy.deepcopy(model)
    adapt(model, "new", NEW, CONFIG, rows=2)

    optimizer = torch.optim.AdamW(parameter_groups(slow), lr=0.02, weight_decay=0.3)
    sampler = BlockSampler([NEW], 6, 2, 0)
    old = [slow.expert_parameters(name) for name in ("a", "b", "c")]
    kept = copy.deepcopy([slow.shared_parameters(), *old])
    for step in range(3):
        for group in optimizer.param_groups:
            group["lr"] = CONFIG.learning_rate_at(step)
        rows = torch.from_numpy(sampler(step)).flatten(0, 1)
        optimizer.zero_grad()
        next_token_loss(slow, (rows, torch.full((2,), 3))).backward()
        for name, weight in slow.named_parameters():
            if ".feed_forward." not in name:
                weight.grad = torch.zeros_like(weight)
        nn.utils.clip_grad_norm_(slow.parameters(), 1.0)
        optimizer.step()
        for live, before in zip(
            [slow.shared_parameters(), *(slow.expert_parameters(n) for n in "abc")],
            kept,
            strict=True,
        ):
            for key, tensor in before.items():
                live[key].copy_(tensor)
    for key, weight in slow.expert_parameters("new").items():
        assert torch.allclose(model.expert_parameters("new")[key], weight, atol=1e-6), key


def test_a_wrapped_decoder_has_the_loss_of_the_decoder() -> None:
    torch.manual_seed(0)
    model = modular("gpt2").eval()
    single = DEMixForCausalLM.from_decoder(model.merge({"a": 1.0}).eval(), ["a"])
    for each in single.modules():
        if isinstance(each, nn.Dropout):
            each.p = 0.0
    # A row of five tokens and the one before leaves room for labels, which are shifted.
    rows = torch.from_numpy(BlockSampler(CORPORA[:1], 5, 2, 0)(0)).flatten(0, 1)
    expected = single(rows, labels=rows, domain=0).loss.detach()
    history = train(single, CORPORA[:1], TrainConfig(steps=1), length=5)
    assert history.log[0]["loss"] == pytest.approx(float(expected), rel=1e-6)
    assert not single.training


def test_one_step_reads_the_same_rows_for_experts_and_the_dense_model() -> None:
    """Every expert begins alike, so the first loss is the dense model's."""
    histories = [train(modular(kind), CORPORA, TrainConfig(steps=1)) for kind in KINDS]
    losses = [history.log[0]["loss"] for history in histories]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_weight_decay_spares_biases_and_norms_also_stacked_ones() -> None:
    for kind in (*KINDS, "gpt2", "llama"):
        model = modular(kind)
        decayed, spared = (
            {id(weight) for weight in group["params"]} for group in parameter_groups(model)
        )
        assert not decayed & spared
        for name, weight in model.named_parameters():
            vector = name.endswith("bias") or "norm" in name or ".ln_" in name
            assert (id(weight) in spared) == vector, name


def test_defaults_are_the_papers_and_adapt_slowly() -> None:
    config = train_config(768, steps=100)
    assert (config.betas, config.weight_decay, config.schedule) == ((0.9, 0.95), 0.1, "linear")
    assert (config.warmup, config.clip, config.learning_rate) == (8, 0.1, 5e-4)
    assert train_config(2048, steps=100, adapting=True).learning_rate == pytest.approx(5e-5)
    # Narrow models learn faster, the wider the slower.
    assert [peak_learning_rate(dim) for dim in (16, 64, 256, 640)] == [8e-3, 8e-3, 2e-3, 8e-4]
    assert peak_learning_rate(64, adapting=True) == 2e-3
    changed = train_config(64, steps=10, clip=None, seed=3, learning_rate=1.0)
    assert (changed.clip, changed.seed, changed.learning_rate) == (0.1, 3, 1.0)
    assert train_config(64, seconds=3.0).steps is None


def test_subnormal_numbers_are_0_while_training_only() -> None:
    seen = []

    def tell(steps: int) -> None:
        seen.append(bool(torch.tensor(1e-39) * 0.5))

    for before in (True, False):
        torch.set_flush_denormal(before)
        train(modular("ffn"), CORPORA, TrainConfig(steps=1), progress=tell)
        assert bool(torch.tensor(1e-39) * 0.5) != before
    assert seen == [False, False]


def test_timing_a_step_changes_nothing() -> None:
    model = modular("gpt2")
    before = digests(model)
    assert time_step(model, CORPORA, CONFIG, repeats=1) > 0
    assert digests(model) == before


def test_the_nearest_expert_and_the_rows_that_tell() -> None:
    model = modular("ffn")
    train(model, CORPORA, TrainConfig(steps=30, learning_rate=0.02))
    rows, previous = held_out_rows(CORPORA[1], 6, 10)
    assert rows.shape == (10, 6)
    every, before = blocks(CORPORA[1].dev, 6)
    # Evenly spread over the 33 blocks.
    chosen = [0, 3, 6, 9, 13, 16, 19, 23, 26, 29]
    assert rows.tolist() == every[chosen].tolist()
    assert previous.tolist() == before[chosen].tolist()
    assert nearest_expert(model, rows, previous) == "b"
    assert nearest_expert(model, held_out_rows(CORPORA[2], 6)[0]) == "c"


def test_what_does_not_fit_is_refused() -> None:
    model = modular("ffn")
    with pytest.raises(InputError, match=r"corpora \('b', 'a'\): expected the model's domains"):
        train(model, [CORPORA[1], CORPORA[0]], CONFIG)
    with pytest.raises(InputError, match="length 7: expected at most 6, the model's"):
        train(model, CORPORA, CONFIG, length=7)
    with pytest.raises(InputError, match="length 7: expected at most 6, the model's"):
        adapt(model, "a", NEW, CONFIG, length=7)
    with pytest.raises(InputError, match="domain 'new': expected one of a, b, c"):
        adapt(model, "new", NEW, CONFIG)
    short = DomainCorpus("a", NEW.train[:6], NEW.dev, NEW.test, {}, {}, source="letters")
    with pytest.raises(InputError, match="letters: domain 'a' has 6 tokens in its part 'train'"):
        adapt(model, "a", short, CONFIG)
