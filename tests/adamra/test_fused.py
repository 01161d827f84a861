"""The fused products: their formulas term by term, and their derivatives in double precision."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from workingpapers.adamra.attention import AdaptiveMultiResolutionAttention
from workingpapers.adamra.feature_maps import ElementwiseFeatureMap, Elu, Relu
from workingpapers.adamra.fused import EPSILON, KeySums, RoutedReadout

with_map = pytest.mark.parametrize("phi", [Elu(), Relu()], ids=["elu", "relu"])
with_bias = pytest.mark.parametrize("biased", [False, True], ids=["", "bias"])
HEADS, FEATURES, DIM = 2, 4, 3
ORDER = torch.tensor([3, 0, 4, 1, 6])
GROUPS = [(0, 0, 2), (2, 2, 5)]
"""Of seven tokens the third and the sixth are padding, and no token chose the second group."""


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def keys(biased: bool, weighted: bool) -> tuple[Tensor | None, ...]:
    torch.manual_seed(0)
    weights = torch.tensor([[1, 0.5, 0], [1, 1, 0.25]], dtype=torch.float64)
    return (
        random(2, 3, DIM),
        random(FEATURES, DIM),
        random(FEATURES) if biased else None,
        weights if weighted else None,
    )


def readout(biased: bool) -> tuple[Tensor | None, ...]:
    torch.manual_seed(0)
    norms = torch.rand(3, FEATURES, dtype=torch.float64, requires_grad=True)
    return (
        random(7, DIM),
        random(FEATURES, DIM),
        random(FEATURES) if biased else None,
        torch.rand(7, dtype=torch.float64, requires_grad=True),
        random(3, FEATURES, DIM),
        norms,
        random(DIM),
    )


@with_map
@with_bias
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
def test_key_sums(phi: ElementwiseFeatureMap, biased: bool, weighted: bool) -> None:
    blocks, weight, bias, weights = keys(biased, weighted)
    sums, norms = KeySums.apply(blocks, weight, bias, weights, phi)
    for item in range(2):
        total, norm = torch.zeros_like(sums[item]), torch.zeros_like(norms[item])
        for j in range(3):
            features = phi(weight @ blocks[item, j] + (0 if bias is None else bias))
            w = 1 if weights is None else weights[item, j]
            total = total + w * torch.outer(features, blocks[item, j])
            norm = norm + w * features
        assert torch.allclose(sums[item], total, rtol=0, atol=1e-12)
        assert torch.allclose(norms[item], norm, rtol=0, atol=1e-12)
    assert gradcheck(lambda *inputs: KeySums.apply(*inputs, phi), (blocks, weight, bias, weights))


@with_map
@with_bias
def test_routed_readout(phi: ElementwiseFeatureMap, biased: bool) -> None:
    inputs = readout(biased)
    x, weight, bias, probability, matrices, norms, output_bias = inputs
    out = RoutedReadout.apply(*inputs, ORDER, GROUPS, HEADS, phi)
    expected = torch.zeros_like(out)
    for group, first, last in GROUPS:
        for token in ORDER[first:last].tolist():
            features = phi(weight @ x[token] + (0 if bias is None else bias))
            read = torch.zeros(DIM, dtype=torch.float64)
            for head in range(HEADS):
                part = slice(head * FEATURES // HEADS, (head + 1) * FEATURES // HEADS)
                divisor = max(features[part] @ norms[group, part], EPSILON)
                read = read + features[part] @ matrices[group, part] / divisor
            expected[token] = probability[token] * read + output_bias
    assert torch.allclose(out, expected, rtol=0, atol=1e-12)
    assert gradcheck(lambda *args: RoutedReadout.apply(*args, ORDER, GROUPS, HEADS, phi), inputs)


def test_tokens_left_out_are_zero_and_give_no_gradient() -> None:
    inputs = readout(True)
    out = RoutedReadout.apply(*inputs, ORDER, GROUPS, HEADS, Elu())
    out.sum().backward()
    assert (out[[2, 5]] == 0).all()
    assert (inputs[0].grad[[2, 5]] == 0).all()
    assert (inputs[3].grad[[2, 5]] == 0).all()
    assert (inputs[4].grad[1] == 0).all()
    assert (inputs[5].grad[1] == 0).all()


def test_no_token_at_all() -> None:
    inputs = readout(True)
    out = RoutedReadout.apply(*inputs, torch.zeros(0, dtype=torch.long), [], HEADS, Elu())
    out.sum().backward()
    assert (out == 0).all()
    assert all((tensor.grad == 0).all() for tensor in inputs)


def test_frozen_inputs_get_no_gradient_and_change_no_other() -> None:
    inputs = readout(True)
    RoutedReadout.apply(*inputs, ORDER, GROUPS, HEADS, Elu()).sum().backward()
    frozen = [inputs[0].detach(), *inputs[1:]]
    expected = inputs[1].grad.clone()
    inputs[1].grad = None
    RoutedReadout.apply(*frozen, ORDER, GROUPS, HEADS, Elu()).sum().backward()
    assert torch.equal(inputs[1].grad, expected)
    blocks, weight, bias, weights = keys(True, True)
    KeySums.apply(blocks.detach(), weight, bias, weights, Elu())[0].sum().backward()
    assert blocks.grad is None
    assert weight.grad is not None


def test_the_graph_can_be_walked_twice() -> None:
    inputs = readout(True)
    total = RoutedReadout.apply(*inputs, ORDER, GROUPS, HEADS, Elu()).square().sum()
    once = torch.autograd.grad(total, inputs, retain_graph=True)
    again = torch.autograd.grad(total, inputs)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_no_normaliser_is_divided_by() -> None:
    x, weight, bias, probability, matrices, norms, output_bias = readout(True)
    zero = torch.zeros_like(norms, requires_grad=True)
    zeros = torch.zeros_like(matrices, requires_grad=True)
    inputs = (x, weight, bias, probability, zeros, zero, output_bias)
    out = RoutedReadout.apply(*inputs, ORDER, GROUPS, HEADS, Elu())
    out.sum().backward()
    assert torch.equal(out[ORDER], output_bias.expand(5, -1))
    assert (zero.grad == 0).all()
    assert x.grad.isfinite().all()


def test_a_second_derivative_is_refused() -> None:
    torch.manual_seed(0)
    layer = AdaptiveMultiResolutionAttention(16, 4)
    layer.readout = "sorted"
    x = torch.randn(1, 40, 16, requires_grad=True)
    with pytest.raises(RuntimeError, match="no second derivative; set readout = 'dense'"):
        torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
