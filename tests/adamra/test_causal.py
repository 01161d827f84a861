"""The causal form: blind to what comes later, and the same when it reads token by token."""

from typing import Any

import pytest
import torch
from torch import Tensor

from workingpapers.adamra.attention import AdaptiveMultiResolutionAttention
from workingpapers.adamra.causal import CHUNK, chunk_length
from workingpapers.foundation.errors import InputError

DIM = 8
OPTIONS: list[dict[str, Any]] = [
    {},
    {"rates": (1, 3, 5), "compressor": "conv", "bias": True},
    {"feature_map": "elu", "routing": "soft"},
    {"routing": "straight_through", "share_kv": True},
    {"per_head_routing": True, "heads": 4},
    {"routing": "fixed"},
    {"routing": "off", "rates": (1,)},
    {"forced": 2},
]
each = pytest.mark.parametrize(
    "options",
    OPTIONS,
    ids=lambda options: ",".join(f"{name}={value}" for name, value in options.items()) or "-",
)


def layer_of(**options: Any) -> AdaptiveMultiResolutionAttention:
    torch.manual_seed(0)
    forced = options.pop("forced", None)
    settings = {"heads": 2, "rates": (1, 2, 4), "causal": True} | options
    layer = AdaptiveMultiResolutionAttention(DIM, **settings)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            scale = 1 if "scales" in name or "router" in name else DIM**-0.5
            parameter.copy_(scale * torch.randn_like(parameter))
    layer.forced = forced
    return layer


def tokens(batch: int, length: int) -> Tensor:
    return torch.randn(batch, length, DIM, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def stepped(layer: AdaptiveMultiResolutionAttention, x: Tensor) -> tuple[Tensor, list[int]]:
    """Outputs token by token, and the bytes of each state."""
    state = layer.init_state(len(x))
    outputs, sizes = [], []
    for token in x.unbind(1):
        out, state = layer.step(token, state)
        outputs.append(out)
        sizes.append(state.bytes())
    assert state.position == x.shape[1]
    return torch.stack(outputs, 1), sizes


@each
def test_later_tokens_have_no_influence(options: dict[str, Any]) -> None:
    # Long enough for a second chunk, in which sums over the first are read.
    layer, x = layer_of(**options), tokens(2, 78).requires_grad_()
    out = layer(x)
    for i in (0, 1, 2, 3, 14, 63, 64, 74, 75, 77):
        grad = torch.autograd.grad(out[:, i].square().sum(), x, retain_graph=True)[0]
        assert (grad[:, i + 1 :] == 0).all()
        # A token that is bound to a resolution without a block reads nothing.
        assert layer.forced is not None or (grad[:, : i + 1] != 0).any()
    with torch.no_grad():
        for n in (1, 5, 64, 70):
            assert torch.allclose(layer(x[:, :n]), out[:, :n], rtol=0, atol=1e-5)


@each
def test_steps_equal_forward_with_a_state_of_constant_size(options: dict[str, Any]) -> None:
    layer, x = layer_of(**options), tokens(2, 78)
    outputs, sizes = stepped(layer, x)
    assert torch.allclose(outputs, layer(x), rtol=0, atol=1e-5)
    assert len(set(sizes)) == 1
    width = DIM // layer.heads
    numbers = DIM + layer.heads * (width**2 + width)
    assert sizes[0] == layer.init_state(2).bytes() == 4 * 2 * len(layer.rates) * numbers


@each
def test_steps_leave_the_state_they_start_from(options: dict[str, Any]) -> None:
    layer, x = layer_of(**options), tokens(1, 6)
    state = layer.init_state(1)
    for token in x.unbind(1):
        before = state
        out, state = layer.step(token, before)
        assert torch.equal(layer.step(token, before)[0], out)


def test_first_tokens_choose_among_what_has_a_block() -> None:
    layer = layer_of(rates=(1, 3, 5))
    with torch.no_grad():
        # The router prefers the coarse.
        layer.router.weight.zero_()
        layer.router.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))
    routing = layer(tokens(1, 7), return_routing=True)[1]
    assert routing.choice[0].tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert (routing.probability[0, :2, 1:] == 0).all()
    assert torch.allclose(routing.probability.sum(-1), torch.ones(1, 7))


def test_random_choices_have_a_block_too() -> None:
    layer = layer_of(routing="random", rates=(1, 3, 5))
    routing = layer(tokens(50, 7), return_routing=True)[1]
    assert [set(column.tolist()) for column in routing.choice.unbind(1)] == [
        {0},
        {0},
        {0, 1},
        {0, 1},
        {0, 1, 2},
        {0, 1, 2},
        {0, 1, 2},
    ]


def test_padding_before_the_tokens_is_zero_with_finite_gradients() -> None:
    layer, x = layer_of(), tokens(2, 70)
    mask = torch.ones(2, 70, dtype=torch.bool)
    mask[0, :66] = False
    mask[1] = False
    x = x.masked_fill(~mask[..., None], torch.nan).requires_grad_()
    out = layer(x, mask)
    out.square().sum().backward()
    assert (out[~mask] == 0).all()
    assert out.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
    # Padding of whole blocks shifts nothing.
    alone = layer(x[:1, 64:], mask[:1, 64:])
    assert torch.allclose(out[:1, 64:], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_states_of_half_precision_layers_sum_in_float32(kind: torch.dtype) -> None:
    layer, x = layer_of(routing="off").to(kind), tokens(1, 80).to(kind)
    state = layer.init_state(1)
    assert {t.dtype for t in (*state.partial, *state.sums, *state.norms)} == {torch.float32}
    outputs = stepped(layer, x)[0]
    assert outputs.dtype == kind
    assert torch.allclose(outputs.float(), layer(x).float(), rtol=0, atol=0.03)


def test_double_precision_steps_are_exact() -> None:
    layer, x = layer_of(rates=(1, 3, 5)).double(), tokens(1, 40).double()
    assert torch.allclose(stepped(layer, x)[0], layer(x), rtol=0, atol=1e-12)


def test_steps_under_autocast_are_close() -> None:
    layer, x = layer_of(), tokens(1, 20)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = stepped(layer, x)[0]
    assert torch.allclose(outputs.float(), layer(x), rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("rates", "length"), [((1,), CHUNK), ((1, 4, 16), 64), ((1, 3, 5), 75), ((1, 100), 100)]
)
def test_chunks_hold_whole_blocks(rates: tuple[int, ...], length: int) -> None:
    assert chunk_length(rates) == length


def test_what_cannot_be_asked() -> None:
    layer, plain = layer_of(), layer_of(causal=False)
    state = layer.init_state(2)
    for call, message in (
        (lambda: plain.init_state(2), "init_state: expected a layer with causal=True"),
        (lambda: plain.step(tokens(2, 1)[:, 0], state), "step: expected a layer with causal=True"),
        (
            lambda: layer.step(tokens(3, 1)[:, 0], state),
            "x_t: expected the shape (2, 8), found (3, 8)",
        ),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value) == message
