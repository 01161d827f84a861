"""Derivatives against autograd, normalisers, and random features against the softmax kernel."""

import pytest
import torch

from workingpapers.adamra.feature_maps import (
    ElementwiseFeatureMap,
    Elu,
    Favor,
    Relu,
    Softmax,
    make_feature_map,
)
from workingpapers.foundation.errors import InputError

elementwise = pytest.mark.parametrize("phi", [Elu(), Relu()], ids=["elu", "relu"])
every_map = pytest.mark.parametrize("name", ["elu", "relu", "softmax", "favor"])


@elementwise
def test_derivative_from_features_is_autograds(phi: ElementwiseFeatureMap) -> None:
    values = torch.linspace(-5, 5, 100, dtype=torch.float64, requires_grad=True)
    features = phi(values)
    features.sum().backward()
    assert torch.allclose(phi.derivative(features.detach()), values.grad, rtol=0, atol=1e-12)


@elementwise
def test_map_in_place_is_forward(phi: ElementwiseFeatureMap) -> None:
    values = torch.linspace(-5, 5, 100)
    assert torch.equal(phi.map_(values.clone()), phi(values))
    assert torch.equal(phi.queries(values), phi(values))
    assert torch.equal(phi.keys(values[:, None], torch.ones(100)), phi(values)[:, None])


def test_closed_forms() -> None:
    values = torch.tensor([-2.0, -0.5, 0.0, 0.5, 3.0])
    expected = torch.where(values > 0, values + 1, values.exp())
    assert torch.allclose(Elu()(values), expected, rtol=0, atol=1e-7)
    assert torch.equal(Relu()(values), values.clamp_min(0) + 1e-3)


@every_map
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_features_are_finite_and_not_negative(name: str, scale: float) -> None:
    torch.manual_seed(0)
    phi = make_feature_map(name, 4)
    x = scale * torch.randn(2, 3, 6, 4)
    for features in (phi.queries(x), phi.keys(x, torch.ones(2, 1, 6))):
        assert features.isfinite().all()
        assert (features >= 0).all()


@every_map
def test_padding_does_not_touch_the_other_keys(name: str) -> None:
    torch.manual_seed(0)
    phi = make_feature_map(name, 4)
    k = torch.randn(1, 2, 6, 4)
    weights = torch.tensor([[[1.0, 0.5, 0.0, 1.0, 0.0, 0.0]]])
    other = torch.where(weights[..., None] == 0, 1e4, k)
    real = weights[0, 0] > 0
    assert torch.equal(phi.keys(k, weights)[:, :, real], phi.keys(other, weights)[:, :, real])
    assert phi.keys(other, weights).isfinite().all()
    assert phi.keys(k, torch.zeros_like(weights)).isfinite().all()


def test_softmax_map_normalises_queries_by_feature_and_keys_by_position() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 4)
    weights = torch.rand(2, 1, 6)
    assert torch.equal(Softmax().queries(x), x.softmax(-1))
    keys = Softmax().keys(x, weights)
    assert torch.allclose((keys * weights[..., None]).sum(-2), torch.ones(2, 3, 4))
    assert torch.allclose(Softmax().keys(x, torch.ones(2, 1, 6)), x.softmax(-2))


def test_favor_estimates_the_softmax_kernel() -> None:
    torch.manual_seed(0)
    width = 4
    q, k = 0.5 * torch.randn(2, 8, width, dtype=torch.float64)
    phi = Favor(width, features=40_000).double()
    products = phi.queries(q[:, None, None]) @ phi.keys(k, torch.ones(8)).T
    # Each query's features have a factor of their own, all keys' features a common one.
    estimated = products[:, 0, 0] / products[:, 0, 0].sum(-1, keepdim=True)
    assert torch.allclose(estimated, (q @ k.T / width**0.5).softmax(-1), rtol=0.05, atol=0)


def test_favor_is_orthogonal_repeatable_and_saved() -> None:
    phi, again, other = Favor(8), Favor(8), Favor(8, seed=1)
    assert torch.equal(phi.projection, again.projection)
    assert not torch.equal(phi.projection, other.projection)
    assert list(phi.state_dict()) == ["projection"]
    directions = torch.nn.functional.normalize(phi.projection[:8], dim=1)
    assert torch.allclose(directions @ directions.T, torch.eye(8), rtol=0, atol=1e-5)
    assert Favor(1).projection.shape == (1, 1)
    assert Favor(8, features=3).projection.shape == (3, 8)


def test_unknown_name() -> None:
    with pytest.raises(
        InputError, match=r"^feature_map 'gelu': expected elu, relu, softmax, favor$"
    ):
        make_feature_map("gelu", 4)
