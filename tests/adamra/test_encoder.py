"""The encoder: shapes, padding, pooling, pairs, and its folder on disk."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from workingpapers.adamra.encoder import AdaMRAEncoder, EncoderConfig
from workingpapers.foundation.errors import InputError

CONFIG = EncoderConfig(vocabulary=9, classes=3, length=20, dim=16, dropout=0.0, rates=(1, 3))


def tokens(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 9, shape, generator=generator)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("attention", ["adamra", "sdpa", "linear", "linformer"])
def test_padding_changes_no_score(pooling: str, attention: str) -> None:
    torch.manual_seed(0)
    model = AdaMRAEncoder(replace(CONFIG, pooling=pooling, attention=attention)).eval()
    short = tokens(2, 11)
    padded = torch.cat([short, torch.zeros(2, 9, dtype=torch.int64)], 1)
    beside = torch.cat([padded, tokens(1, 20)])
    with torch.no_grad():
        expected = model(short)
        assert torch.allclose(model(padded), expected, atol=1e-6)
        # Beside a longer sequence the padding is really there.
        assert torch.allclose(model(beside)[:2], expected, atol=1e-5)


def test_pairs_are_classified_by_what_distinguishes_them() -> None:
    torch.manual_seed(0)
    model = AdaMRAEncoder(replace(CONFIG, pair=True, classes=2)).eval()
    pair = tokens(2, 2, 12)
    u, v = model.encode(pair[:, 0]), model.encode(pair[:, 1])
    expected = model.classifier(torch.cat([u, v, u * v, u - v], -1))
    assert torch.allclose(model(pair), expected, atol=1e-6)


def test_the_order_of_tokens_matters() -> None:
    torch.manual_seed(0)
    model = AdaMRAEncoder(CONFIG).eval()
    sequence = tokens(1, 20)
    assert not torch.allclose(model(sequence), model(sequence.flip(1)), atol=1e-4)


def test_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    model = AdaMRAEncoder(replace(CONFIG, pooling="cls"))
    model(tokens(8, 20)).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_routings_are_those_of_the_adaptive_layers() -> None:
    model = AdaMRAEncoder(CONFIG)
    model(tokens(2, 20))
    assert [routing.choice.shape for routing in model.routings()] == [(2, 20)] * 2
    assert AdaMRAEncoder(replace(CONFIG, attention="sdpa")).attentions() == []


def test_a_folder_gives_the_same_scores(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AdaMRAEncoder(CONFIG).eval()
    model.save_pretrained(tmp_path / "model")
    loaded = AdaMRAEncoder.from_pretrained(tmp_path / "model")
    assert loaded.config == CONFIG
    assert not loaded.training
    assert torch.equal(loaded(tokens(2, 20)), model(tokens(2, 20)))
    text = (tmp_path / "model" / "config.json").read_text()
    (tmp_path / "model" / "config.json").write_text(text.replace('"dim": 16', '"dim": 32'))
    with pytest.raises(InputError, match=r"model\.safetensors: not the weights of its config"):
        AdaMRAEncoder.from_pretrained(tmp_path / "model")


def test_a_longer_sequence_is_refused() -> None:
    with pytest.raises(InputError, match="expected at most 20 a sequence"):
        AdaMRAEncoder(CONFIG)(tokens(1, 21))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": 3}, "heads 3: expected a divisor of dim 16"),
        ({"rates": (4, 1)}, "expected them to grow"),
        ({"classes": 0}, "classes 0: expected at least 1"),
        ({"attention": "memory"}, "attention 'memory': expected"),
    ],
)
def test_impossible_configurations_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(CONFIG, **fields)
