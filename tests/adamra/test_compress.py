"""Blocks against a loop over tokens, with and without masks, ragged ends and learned scales."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv1d

from workingpapers.adamra.compress import Blocks, Compressor


def slow_blocks(
    x: Tensor, mask: Tensor, rate: int, scale: Tensor | None
) -> tuple[list[list[Tensor]], list[list[float]]]:
    """Means of real tokens and shares of them, token by token."""
    values, weights = [], []
    for item, real in zip(x, mask, strict=True):
        means, shares = [], []
        for start in range(0, len(item), rate):
            places = [i for i in range(start, min(start + rate, len(item))) if real[i]]
            total = torch.zeros(x.shape[2], dtype=x.dtype)
            for i in places:
                total = total + item[i] * (1 if scale is None else scale[i - start])
            means.append(total / max(len(places), 1))
            shares.append(len(places) / rate)
        values.append(means)
        weights.append(shares)
    return values, weights


def compress(compressor: Compressor, x: Tensor, mask: Tensor | None) -> list[Blocks]:
    return compressor(x if mask is None else x * mask[..., None], mask)


@settings(max_examples=15, deadline=None)
@given(
    rates=st.sets(st.integers(1, 7), min_size=1, max_size=3),
    length=st.integers(1, 15),
    learned=st.booleans(),
    masked=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_blocks_are_means_of_real_tokens(
    rates: set[int], length: int, learned: bool, masked: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    compressor = Compressor(3, sorted(rates), learned).double()
    if compressor.scales is not None:
        for parameter in compressor.scales:
            torch.nn.init.normal_(parameter)
    x = torch.randn(2, length, 3, dtype=torch.float64)
    mask = torch.rand(2, length) < 0.6 if masked else None
    real = torch.ones(2, length, dtype=torch.bool) if mask is None else mask
    for index, (rate, blocks) in enumerate(
        zip(sorted(rates), compress(compressor, x, mask), strict=True)
    ):
        scale = compressor.scales[index] if compressor.scales is not None else None
        values, weights = slow_blocks(x, real, rate, scale)
        expected = torch.stack([torch.stack(means) for means in values])
        assert torch.allclose(blocks.values, expected, rtol=0, atol=1e-12)
        assert torch.equal(blocks.mass, torch.tensor(weights, dtype=torch.float64))
        assert torch.equal((blocks.mass * rate).sum(1), real.sum(1).double())


def test_weights_are_left_out_where_all_are_one() -> None:
    x = torch.randn(2, 8, 3)
    assert [blocks.weights is None for blocks in Compressor(3, (1, 3, 4), False)(x, None)] == [
        True,
        False,
        True,
    ]


def test_mask_of_real_tokens_alone_changes_nothing() -> None:
    x, compressor = torch.randn(2, 10, 3), Compressor(3, (1, 2, 6), False)
    full = torch.ones(2, 10, dtype=torch.bool)
    for one, other in zip(compressor(x, None), compressor(x, full), strict=True):
        assert torch.allclose(one.values, other.values)
        assert torch.equal(one.mass, other.mass)


def test_order_inside_a_block_does_not_matter() -> None:
    x, compressor = torch.randn(1, 12, 3), Compressor(3, (1, 4), False)
    permuted = x[:, [2, 0, 3, 1, 4, 5, 6, 7, 11, 10, 9, 8]]
    fine, coarse = compressor(x, None)
    fine_permuted, coarse_permuted = compressor(permuted, None)
    assert torch.allclose(coarse.values, coarse_permuted.values, rtol=0, atol=1e-6)
    assert not torch.allclose(fine.values, fine_permuted.values)


def test_learned_scales_begin_as_the_mean_and_are_a_depthwise_convolution() -> None:
    torch.manual_seed(0)
    x, learned = torch.randn(2, 12, 3), Compressor(3, (1, 4), True)
    for one, other in zip(learned(x, None), Compressor(3, (1, 4), False)(x, None), strict=True):
        assert torch.allclose(one.values, other.values, rtol=0, atol=1e-6)
    assert learned.scales is not None
    torch.nn.init.normal_(learned.scales[1])
    kernel = learned.scales[1].T[:, None]
    convolved = conv1d(x.transpose(1, 2), kernel, stride=4, groups=3).transpose(1, 2) / 4
    assert torch.allclose(learned(x, None)[1].values, convolved, rtol=0, atol=1e-6)


@pytest.mark.parametrize("learned", [False, True])
def test_steps_add_up_to_the_block(learned: bool) -> None:
    torch.manual_seed(0)
    x, compressor = torch.randn(2, 9, 3), Compressor(3, (1, 3), learned)
    if compressor.scales is not None:
        torch.nn.init.normal_(compressor.scales[1])
    added = sum(compressor.scaled_step(x[:, i], 1, i) for i in range(3, 6))
    assert torch.allclose(added / 3, compressor(x, None)[1].values[:, 1], rtol=0, atol=1e-6)
