"""The transformer block, softmax attention with its options, and the cache."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from workingpapers.foundation.errors import InputError
from workingpapers.foundation.transformer import Attention, Block, FeedForward, KeyValueCache


def reference(
    layer: Attention, x: torch.Tensor, mask: torch.Tensor | None, causal: bool
) -> torch.Tensor:
    """Attention written out, one head and one query at a time."""
    outputs = []
    group = layer.heads // layer.kv_heads
    q, k, v = layer.query(x), layer.key(x), layer.value(x)
    width = layer.width
    for b in range(x.shape[0]):
        rows = []
        for i in range(x.shape[1]):
            seen = [
                j
                for j in range(x.shape[1])
                if (mask is None or bool(mask[b, j])) and not (causal and j > i)
            ]
            heads = []
            for h in range(layer.heads):
                g = h // group
                mine, theirs = slice(h * width, (h + 1) * width), slice(g * width, (g + 1) * width)
                if not seen:
                    heads.append(torch.zeros(width, dtype=x.dtype))
                    continue
                scores = torch.stack([q[b, i, mine] @ k[b, j, theirs] for j in seen])
                weights = (scores / width**0.5).softmax(0)
                heads.append(sum(w * v[b, j, theirs] for w, j in zip(weights, seen, strict=True)))
            rows.append(torch.cat(heads))
        outputs.append(torch.stack(rows))
    return layer.output(torch.stack(outputs))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_the_sums_written_out(causal: bool, kv_heads: int, masked: bool) -> None:
    torch.manual_seed(0)
    layer = Attention(8, 4, kv_heads, causal=causal).double()
    x = torch.randn(2, 5, 8, dtype=torch.double)
    mask = torch.tensor([[True, True, False, True, False], [False] * 5]) if masked else None
    expected = reference(layer, x, mask, causal)
    assert torch.allclose(layer(x, mask=mask), expected, atol=1e-12)


@settings(max_examples=5)
@given(st.integers(1, 6), st.booleans(), st.booleans())
def test_a_cache_changes_no_output(cut: int, rotary: bool, masked: bool) -> None:
    torch.manual_seed(cut)
    layer = Attention(8, 2, causal=True, rotary=rotary).double()
    x = torch.randn(2, 7, 8, dtype=torch.double)
    mask = torch.tensor([[True] * 7, [False, False] + [True] * 5]) if masked else None
    cache = KeyValueCache(2, 2, 7, 4, dtype=torch.double)
    first = layer(x[:, :cut], mask=None if mask is None else mask[:, :cut], cache=cache)
    second = layer(x[:, cut:], mask=mask, cache=cache)
    assert torch.allclose(torch.cat([first, second], 1), layer(x, mask=mask), atol=1e-12)


def test_rotary_scores_depend_on_distance_alone() -> None:
    torch.manual_seed(0)
    layer = Attention(8, 2, rotary=True, causal=True).double()
    x = torch.randn(1, 3, 8, dtype=torch.double)
    shifted = KeyValueCache(1, 2, 8, 4, dtype=torch.double)
    layer(torch.randn(1, 5, 8, dtype=torch.double), cache=shifted)
    # The five tokens before are hidden: what is left is the same three, five places later.
    mask = torch.tensor([[False] * 5 + [True] * 3])
    assert torch.allclose(layer(x, mask=mask, cache=shifted), layer(x), atol=1e-12)


def test_attention_to_another_sequence_and_a_bias() -> None:
    torch.manual_seed(0)
    layer = Attention(8, 2).double()
    x, source = (torch.randn(2, n, 8, dtype=torch.double) for n in (3, 6))
    # A bias that hides all but the first two keys is the same as a shorter source.
    bias = torch.zeros(1, 1, 3, 6, dtype=torch.double)
    bias[..., 2:] = -1e9
    assert torch.allclose(
        layer(x, source=source, bias=bias), layer(x, source=source[:, :2]), atol=1e-9
    )


def test_the_cache_expands_rewinds_and_selects() -> None:
    cache = KeyValueCache(2, 1, 4, 1)
    tokens = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[:, None, :, None]
    cache.append(tokens, tokens)
    cache.expand(2)
    cache.rewind(1)
    cache.select(torch.tensor([3, 0]))
    keys, _ = cache.append(torch.full((2, 1, 1, 1), 9.0), torch.zeros(2, 1, 1, 1))
    assert keys[:, 0, :, 0].tolist() == [[3.0, 9.0], [1.0, 9.0]]
    with pytest.raises(InputError, match="cache: room for 4 tokens, asked to hold 5"):
        cache.append(torch.zeros(2, 1, 3, 1), torch.zeros(2, 1, 3, 1))
    with pytest.raises(InputError, match="rewind 3: expected from 0 to the 2 tokens held"):
        cache.rewind(3)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_blocks_are_their_formula(norm: str) -> None:
    torch.manual_seed(0)

    class Mixer(nn.Linear):
        def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
            return scale * super().forward(x)

    mixer, feed = Mixer(6, 6), FeedForward(6, 12, "relu")
    x = torch.randn(2, 3, 6)
    before = Block(6, mixer, feed, norm)
    y = x + 2 * mixer(before.mixer_norm(x))
    assert torch.equal(before(x, mixing={"scale": 2.0}), y + feed(before.feed_forward_norm(y)))
    after = Block(6, mixer, feed, norm, norm_first=False)
    y = after.mixer_norm(x + mixer(x))
    assert torch.equal(after(x), after.feed_forward_norm(y + feed(y)))


def test_impossible_heads_are_refused() -> None:
    with pytest.raises(InputError, match="expected kv_heads to divide heads"):
        Attention(8, 4, 3)
    with pytest.raises(InputError, match="rotary positions need an even head width, found 3"):
        Attention(6, 2, rotary=True)
