"""The layer against attention matrices written out, and every promise it makes about its input."""

import copy
import math
import pickle
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from workingpapers.adamra.attention import (
    SORTED_LENGTH,
    AdaptiveMultiResolutionAttention,
    Routing,
    balance_loss,
    routing_shares,
)
from workingpapers.foundation.errors import InputError

DIM, HEADS = 8, 2
OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": True, "compressor": "conv"},
    {"share_kv": True},
    {"heads": 1},
    {"rates": (3, 4, 6)},
    {"routing": "straight_through"},
    {"routing": "random"},
    {"routing": "soft"},
    {"routing": "fixed"},
    {"routing": "off"},
    {"per_head_routing": True},
    {"per_head_routing": True, "routing": "random", "bias": True},
    {"per_head_routing": True, "routing": "soft"},
    {"forced": 1},
    {"forced": 2, "routing": "fixed"},
    {"feature_map": "elu"},
    {"feature_map": "softmax", "bias": True},
    {"feature_map": "favor"},
    {"feature_map": "favor", "per_head_routing": True, "compressor": "conv"},
    {"kernel": "softmax"},
    {"kernel": "softmax", "routing": "fixed", "bias": True, "share_kv": True},
]
CAUSAL: list[dict[str, Any]] = [
    {"causal": True, **options}
    for options in (
        {},
        {"rates": (1, 3, 5), "bias": True, "compressor": "conv"},
        {"feature_map": "elu", "routing": "soft"},
        {"per_head_routing": True, "share_kv": True},
        {"routing": "straight_through"},
        {"routing": "random"},
        {"routing": "fixed"},
        {"routing": "off"},
        {"forced": 2},
    )
]
KINDS: list[dict[str, Any]] = [
    {"readout": "sorted"},
    {"readout": "dense"},
    {"readout": "sorted", "feature_map": "elu"},
    {"feature_map": "softmax"},
    {"feature_map": "favor"},
    {"kernel": "softmax"},
    {"per_head_routing": True, "compressor": "conv"},
    {"causal": True},
]
"""One of each way through the code."""


def named(options: dict[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in options.items()).replace(" ", "") or "-"


def each(kinds: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("options", kinds, ids=named)


def layer_of(seed: int = 0, **options: Any) -> AdaptiveMultiResolutionAttention:
    """A layer of double precision with weights large enough for its routing to differ."""
    torch.manual_seed(seed)
    forced, readout = options.pop("forced", None), options.pop("readout", "auto")
    settings = {"heads": HEADS, "rates": (1, 2, 4)} | options
    layer = AdaptiveMultiResolutionAttention(DIM, **settings).double()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            scale = 1 if "scales" in name or "router" in name else DIM**-0.5
            parameter.copy_(scale * torch.randn_like(parameter))
    layer.forced, layer.readout = forced, readout
    return layer


def tokens(batch: int, length: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, DIM, generator=generator, dtype=torch.float64)


def ragged(lengths: list[int], longest: int) -> Tensor:
    return torch.arange(longest) < torch.tensor(lengths)[:, None]


def close(one: Tensor, other: Tensor, tolerance: float = 1e-12) -> bool:
    return torch.allclose(one, other, rtol=0, atol=tolerance)


# ---- the definition


def features(name: str, x: Tensor, other_axis: Tensor | None, projection: Tensor | None) -> Tensor:
    """phi of rows; `other_axis` holds the weights of keys and is None for queries."""
    if name == "elu":
        return torch.where(x > 0, x + 1, x.exp())
    if name == "relu":
        return x.clamp_min(0) + 0.001
    if name == "softmax" and other_axis is None:
        return x.softmax(1)
    if name == "softmax":
        return x.exp() / (other_axis[:, None] * x.exp()).sum(0)
    x = x / len(x[0]) ** 0.25
    exponents = x @ projection.T - (x * x).sum(1, keepdim=True) / 2
    if other_axis is None:
        largest = exponents.max(1, keepdim=True).values
    else:
        largest = exponents[other_axis > 0].max()
    return ((exponents - largest).exp() + 1e-6) / math.sqrt(len(projection))


def by_matrices(
    layer: AdaptiveMultiResolutionAttention, options: dict[str, Any], x: Tensor, mask: Tensor
) -> Tensor:
    """The layer's output, each head's attention matrix written out (draws are looked up)."""
    out = torch.zeros_like(x)
    width, count = DIM // layer.heads, len(layer.rates)
    projection = getattr(layer.phi, "projection", None)
    for item, real in enumerate(mask):
        n, read = x.shape[1], torch.zeros_like(x[item])
        row = x[item] * real[:, None]
        q = linear(row, layer.query.weight, layer.query.bias)
        matrices, values, allowed = [], [], torch.ones(n, count, dtype=torch.bool)
        for r, rate in enumerate(layer.rates):
            blocks = math.ceil(n / rate)
            pool = torch.zeros(blocks, n, dtype=x.dtype)
            for i in range(n):
                pool[i // rate, i] = real[i]
            counts = pool.sum(1)
            scales = layer.compressor.scales
            scaled = row if scales is None else row * scales[r].repeat(blocks, 1)[:n]
            c = pool @ scaled / counts.clamp_min(1)[:, None]
            w = counts / rate
            own = 0 if options.get("share_kv") else r
            k = linear(c, layer.key[own].weight, layer.key[own].bias)
            values.append(linear(c, layer.value[own].weight, layer.value[own].bias))
            visible = torch.ones(n, blocks, dtype=torch.bool)
            if layer.causal:
                i, j = torch.arange(1, n + 1)[:, None], torch.arange(1, blocks + 1)
                visible = j * rate <= i
                allowed[:, r] = (visible * w).sum(1) > 0
                allowed[:, 0] = True
            heads = []
            for h in range(layer.heads):
                part = slice(h * width, (h + 1) * width)
                if options.get("kernel") == "softmax":
                    a = (q[:, part] @ k[:, part].T / width**0.5).exp() * w
                else:
                    name = options.get("feature_map", "relu")
                    phi_q = features(name, q[:, part], None, projection)
                    a = phi_q @ features(name, k[:, part], w, projection).T * w
                a = a * visible
                heads.append(a / a.sum(1, keepdim=True).clamp_min(1e-12))
            matrices.append(heads)
        for h in range(layer.heads):
            part = slice(h * width, (h + 1) * width)
            share = shares(layer, row, allowed, h, item)
            for r in range(count):
                read[:, part] += share[:, r, None] * (matrices[r][h] @ values[r][:, part])
        out[item] = linear(read, layer.output.weight, layer.output.bias) * real[:, None]
    return out


def shares(
    layer: AdaptiveMultiResolutionAttention, row: Tensor, allowed: Tensor, head: int, item: int
) -> Tensor:
    """What a head of each token reads of each resolution."""
    count = len(layer.rates)
    if layer.router is None:
        if layer.forced is None and layer.routing == "off":
            return allowed / allowed.double().sum(1, keepdim=True)
        bound = head % count if layer.forced is None else layer.forced
        return torch.eye(count, dtype=row.dtype)[bound].expand(len(row), -1)
    logits = linear(row, layer.router.weight, layer.router.bias)
    if layer.per_head_routing:
        logits = logits.reshape(len(row), layer.heads, count)[:, head]
    p = torch.where(allowed, logits, -torch.inf).softmax(1)
    if layer.forced is not None:
        choice = torch.full((len(row),), layer.forced)
    elif layer.routing == "soft":
        return p
    elif layer.routing == "random":
        choice = layer._last[0].choice[item]
        choice = choice[:, head] if layer.per_head_routing else choice
        assert allowed[torch.arange(len(row)), choice].all()
    else:
        choice = p.argmax(1)
    chosen = torch.eye(count, dtype=row.dtype)[choice]
    return chosen if layer.routing == "straight_through" else chosen * p


@each(OPTIONS + CAUSAL)
@torch.no_grad()
def test_equals_the_attention_matrices_written_out(options: dict[str, Any]) -> None:
    layer, x = layer_of(**options), tokens(2, 11)
    full = torch.ones(2, 11, dtype=torch.bool)
    assert close(layer(x), by_matrices(layer, options, x, full))
    # A ragged end, a hole and, in the second, padding at the beginning.
    holes = ragged([9, 11], 11)
    holes[:, 5] = False
    holes[1, :3] = False
    assert close(layer(x, holes), by_matrices(layer, options, x, holes))


def test_one_rate_without_routing_is_kernel_attention() -> None:
    torch.manual_seed(0)
    layer = AdaptiveMultiResolutionAttention(16, 4, (1,), routing="off")
    x = torch.randn(2, 300, 16)
    parameters = dict(layer.named_parameters())
    q, k, v = (
        (x @ parameters[f"{name}.weight"].T).reshape(2, 300, 4, 4)
        for name in ("query", "key.0", "value.0")
    )
    q, k = q.relu() + 0.001, k.relu() + 0.001
    state = torch.einsum("bnhe,bnhf->bhef", k, v)
    normaliser = torch.einsum("bnhe,bhe->bnh", q, k.sum(1))
    read = torch.einsum("bnhe,bhef->bnhf", q, state) / normaliser[..., None]
    assert close(layer(x), layer.output(read.reshape(2, 300, 16)), 1e-6)


# ---- sorted is dense


@settings(max_examples=10, deadline=None)
@given(
    batch=st.integers(0, 3),
    length=st.integers(1, 30),
    rates=st.sets(st.integers(1, 40), min_size=1, max_size=3).map(sorted),
    heads=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 1000),
)
def test_sorted_equals_dense(
    batch: int, length: int, rates: list[int], heads: int, seed: int
) -> None:
    layer, x = layer_of(seed, rates=rates, heads=heads, bias=True).float(), tokens(batch, length)
    mask = torch.rand(batch, length) < 0.7
    outputs = []
    for readout in ("sorted", "dense"):
        layer.readout = readout
        outputs.append(layer(x.float(), mask))
    assert close(*outputs, 1e-6)


@each(
    [
        {},
        {"bias": True, "compressor": "conv"},
        {"feature_map": "elu", "share_kv": True},
        {"routing": "straight_through", "rates": (2, 3)},
        {"forced": 1, "routing": "soft", "bias": True},
        {"forced": 1, "routing": "off"},
    ]
)
@pytest.mark.parametrize("masked", [False, True], ids=["", "mask"])
def test_sorted_equals_dense_in_every_gradient(options: dict[str, Any], masked: bool) -> None:
    layer, x = layer_of(**options), tokens(3, 11).requires_grad_()
    mask = ragged([11, 0, 5], 11) if masked else None
    inputs = [x, *layer.parameters()]
    found = []
    for readout in ("sorted", "dense"):
        layer.readout = readout
        out = layer(x, mask)
        grads = torch.autograd.grad(out.sin().sum(), inputs, allow_unused=True)
        found.append([out, *grads])
    for one, other in zip(*found, strict=True):
        # What the sorted readout never touches has no gradient in it, and zero in the other.
        zero = torch.zeros(())
        assert close(zero if one is None else one, zero if other is None else other)


def test_readout_follows_length_and_width() -> None:
    narrow, wide = layer_of(), AdaptiveMultiResolutionAttention(256, 2, (1, 2))
    half = torch.randn(1, SORTED_LENGTH, DIM, dtype=torch.bfloat16)
    assert not narrow._sorts(tokens(1, SORTED_LENGTH - 1))
    assert narrow._sorts(tokens(1, SORTED_LENGTH))
    assert not wide._sorts(torch.randn(1, 255, 256))
    assert wide._sorts(torch.randn(1, 256, 256))
    assert not narrow._sorts(half)
    for options in KINDS[3:7]:
        assert not layer_of(**options)._sorts(tokens(1, SORTED_LENGTH))


# ---- derivatives


@each(
    [
        {"readout": "sorted", "bias": True},
        {"compressor": "conv", "bias": True},
        {"feature_map": "softmax", "routing": "soft"},
        {"feature_map": "favor", "routing": "soft"},
        {"kernel": "softmax", "routing": "soft"},
        {"causal": True, "rates": (1, 3)},
    ]
)
def test_gradients_in_double_precision(options: dict[str, Any]) -> None:
    layer = layer_of(**options)
    names, parameters = zip(*layer.named_parameters(), strict=True)
    mask = ragged([5, 3], 5)

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(names, values, strict=True)), (x, mask))

    inputs = (tokens(2, 5).requires_grad_(), *parameters)
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


def test_router_learns_what_to_read() -> None:
    layer, x = layer_of(readout="sorted"), tokens(2, 40)
    before = layer(x, return_routing=True)[1]
    loss = (layer(x) - tokens(2, 40, seed=1)).square().mean()
    loss.backward()
    assert layer.router.weight.grad.abs().max() > 0
    assert layer.router.bias.grad.abs().max() > 0
    with torch.no_grad():
        for parameter in layer.router.parameters():
            parameter -= 100 * parameter.grad
    after = layer(x, return_routing=True)[1]
    assert (before.choice != after.choice).any()
    assert (layer(x) - tokens(2, 40, seed=1)).square().mean() < loss


# ---- padding


@each(KINDS)
@pytest.mark.parametrize("rates", [(1, 2, 4), (1, 3)])
@torch.no_grad()
def test_appended_padding_changes_nothing(options: dict[str, Any], rates: tuple[int, ...]) -> None:
    layer, lengths = layer_of(rates=rates, **options), [7, 3, 1]
    alone = [layer(tokens(3, 7)[item : item + 1, :n]) for item, n in enumerate(lengths)]
    for spare in range(2 * rates[-1] + 1):
        x = torch.cat([tokens(3, 7), torch.full((3, spare, DIM), torch.nan)], 1).double()
        mask = ragged(lengths, 7 + spare)
        # What stands there does not matter, be it large or no number at all.
        x[1, 3:] = 1e30
        out = layer(x, mask)
        assert (out[~mask] == 0).all()
        for item, n in enumerate(lengths):
            assert close(out[item, :n], alone[item][0])


@each(KINDS)
def test_padding_alone_is_zero_with_finite_gradients(options: dict[str, Any]) -> None:
    layer = layer_of(**options)
    for lengths in ([0, 6], [0, 0]):
        mask = ragged(lengths, 6)
        x = tokens(2, 6).masked_fill(~mask[..., None], torch.nan).requires_grad_()
        out, routing = layer(x, mask, return_routing=True)
        (out.sum() + balance_loss(routing, mask)).backward()
        assert (out[~mask] == 0).all()
        assert out.isfinite().all()
        assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())
        assert (x.grad[~mask] == 0).all()
        assert x.grad.isfinite().all()


@each(KINDS)
@torch.no_grad()
def test_items_of_a_batch_do_not_see_each_other(options: dict[str, Any]) -> None:
    layer, x, mask = layer_of(**options), tokens(3, 9), ragged([9, 4, 6], 9)
    together = layer(x, mask)
    for item in range(3):
        assert close(layer(x[item : item + 1], mask[item : item + 1])[0], together[item])
    x[0] = torch.nan
    assert torch.equal(layer(x, mask)[1:], together[1:])
    # It is passed on, not hidden, and stops nothing.
    assert layer(x, mask)[0].isnan().any()


def test_order_inside_a_block_matters_to_fine_resolutions_alone() -> None:
    layer, x = layer_of(rates=(1, 4), readout="sorted"), tokens(1, 12)
    permuted = x[:, [2, 0, 3, 1, 4, 5, 6, 7, 11, 10, 9, 8]]
    layer.forced = 1
    assert close(layer(x)[:, 4:8], layer(permuted)[:, 4:8])
    swapped = x[:, [4, 1, 2, 3, 0, *range(5, 12)]]
    assert not close(layer(x)[:, 5:], layer(swapped)[:, 5:], 1e-6)


@each([{}, {"kernel": "softmax"}, {"feature_map": "favor"}, {"readout": "sorted"}])
@torch.no_grad()
def test_sequences_shorter_than_a_rate(options: dict[str, Any]) -> None:
    layer = layer_of(rates=(16,), **options)
    assert layer(tokens(2, 1)).isfinite().all()
    # One block: all read its mean, times the only choice's probability, 1.
    x = tokens(2, 5)
    mean = layer.output(layer.value[0](x.mean(1)))
    assert close(layer(x), mean[:, None].expand(-1, 5, -1))


# ---- routing


def test_ties_go_to_the_finest() -> None:
    layer = layer_of()
    with torch.no_grad():
        layer.router.weight.zero_()
        layer.router.bias.copy_(torch.tensor([0.0, 1.0, 1.0]))
        assert (layer(tokens(2, 9), return_routing=True)[1].choice == 1).all()
        layer.router.bias.zero_()
        assert (layer(tokens(2, 9), return_routing=True)[1].choice == 0).all()


def test_random_routing_repeats_with_the_seed() -> None:
    layer, x = layer_of(routing="random"), tokens(2, 200)

    def choices(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return layer(x, return_routing=True)[1].choice

    assert torch.equal(choices(1), choices(1))
    assert not torch.equal(choices(1), choices(2))
    assert torch.allclose(layer.routing_shares(), torch.full((3,), 1 / 3).double(), atol=0.1)


def test_straight_through_is_not_weighted_but_learns() -> None:
    weighted, plain = layer_of(), layer_of(routing="straight_through")
    x = tokens(2, 9)
    out, routing = weighted(x, return_routing=True)
    p = routing.probability.max(-1).values[..., None]
    bias = plain.output.bias
    straight = plain(x)
    assert close(straight, (out - bias) / p + bias)
    # Of a linear loss, which cannot tell the two apart, the router has the same gradient.
    for one in (out, straight):
        (one * tokens(2, 9, seed=1)).sum().backward()
    assert close(plain.router.weight.grad, weighted.router.weight.grad)
    assert plain.router.weight.grad.abs().max() > 0


def test_fixed_binds_heads_to_resolutions() -> None:
    layer, x = layer_of(routing="fixed", heads=4, rates=(1, 3)), tokens(1, 9)
    assert layer.router is None
    for head in range(4):
        for index in range(2):
            changed = copy.deepcopy(layer)
            with torch.no_grad():
                changed.value[index].weight[2 * head : 2 * head + 2] += 1
            assert torch.equal(changed(x), layer(x)) == (head % 2 != index)


def test_balance_loss_has_closed_forms() -> None:
    even = Routing(torch.arange(12).reshape(2, 6) % 3, torch.full((2, 6, 3), 1 / 3))
    collapsed = Routing(torch.zeros(2, 6, dtype=torch.long), torch.eye(3)[0].expand(2, 6, 3))
    assert float(balance_loss(even)) == pytest.approx(1)
    assert float(balance_loss(collapsed)) == pytest.approx(3)
    mask = ragged([6, 2], 6)
    p = torch.rand(2, 6, 3).softmax(-1)
    mixed = Routing(torch.arange(12).reshape(2, 6) % 2, p)
    expected = 3 * (0.5 * p[mask][:, 0].mean() + 0.5 * p[mask][:, 1].mean())
    assert float(balance_loss(mixed, mask)) == pytest.approx(float(expected))
    assert float(balance_loss(mixed, torch.zeros_like(mask))) == 0


@each([{}, {"per_head_routing": True}, {"routing": "soft"}, {"routing": "fixed"}])
def test_routing_statistics(options: dict[str, Any]) -> None:
    layer, mask = layer_of(**options), ragged([9, 4], 9)
    with pytest.raises(
        InputError, match=r"^routing: expected a forward pass before its statistics"
    ):
        layer.routing_shares()
    routing = layer(tokens(2, 9), mask, return_routing=True)[1]
    assert float(layer.routing_shares().sum()) == pytest.approx(1)
    assert torch.equal(layer.routing_shares(), routing_shares(routing, mask))
    real = routing.choice[mask]
    expected = [float((real == index).double().mean()) for index in range(3)]
    assert layer.routing_shares().tolist() == pytest.approx(expected)
    p = routing.probability[mask].detach()
    assert layer.routing_entropy() == pytest.approx(float(-(p * p.log()).sum(-1).mean()))
    assert not layer._last[0].probability.requires_grad


# ---- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 10, "heads": 4}, "heads 4: expected a divisor of dim 10"),
        ({"dim": 0}, "heads 2: expected a divisor of dim 0"),
        ({"heads": 0}, "heads 0: expected a divisor of dim 8"),
        ({"rates": ()}, "rates (): expected one or more whole numbers of at least 1"),
        ({"rates": (0, 2)}, "rates (0, 2): expected one or more whole numbers of at least 1"),
        ({"rates": (4, 1)}, "rates (4, 1): expected them to grow, each once"),
        ({"rates": (1, 4, 4)}, "rates (1, 4, 4): expected them to grow, each once"),
        (
            {"rates": (2, 4), "causal": True},
            "rates (2, 4): expected 1 among them when causal: the first tokens need it",
        ),
        (
            {"rates": (1, 64, 81), "causal": True},
            "rates (1, 64, 81): expected a common multiple of at most 4096 when causal, found 5184",
        ),
        (
            {"routing": "hard"},
            "routing 'hard': expected top1, straight_through, soft, fixed, random, off",
        ),
        ({"kernel": "cosine"}, "kernel 'cosine': expected linear, softmax"),
        ({"compressor": "max"}, "compressor 'max': expected mean, conv"),
        ({"dropout": 1.0}, "dropout 1.0: expected from 0 to below 1"),
        ({"feature_map": "exp"}, "feature_map 'exp': expected elu, relu, softmax, favor"),
        (
            {"causal": True, "kernel": "softmax"},
            "causal: expected kernel 'linear' and feature_map 'elu' or 'relu'",
        ),
        (
            {"causal": True, "feature_map": "favor"},
            "causal: expected kernel 'linear' and feature_map 'elu' or 'relu'",
        ),
    ],
)
def test_options_that_do_not_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        AdaptiveMultiResolutionAttention(**{"dim": DIM, "heads": HEADS, **options})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("x", "mask", "message"),
    [
        (torch.ones(3, 8), None, "x: expected the shape (batch, length, 8), found (3, 8)"),
        (torch.ones(1, 3, 7), None, "x: expected the shape (batch, length, 8), found (1, 3, 7)"),
        (torch.ones(1, 0, 8), None, "x: expected at least one token, found length 0"),
        (
            torch.ones(1, 3, 8, dtype=torch.long),
            None,
            "x: expected floating-point numbers, found torch.int64",
        ),
        (
            torch.ones(1, 3, 8),
            torch.ones(1, 3),
            "mask: expected booleans, True at real tokens, found torch.float32",
        ),
        (
            torch.ones(1, 3, 8),
            torch.ones(1, 4, dtype=torch.bool),
            "mask: expected the shape (1, 3), found (1, 4)",
        ),
    ],
)
def test_input_that_does_not_fit(x: Tensor, mask: Tensor | None, message: str) -> None:
    with pytest.raises(InputError) as caught:
        AdaptiveMultiResolutionAttention(DIM, HEADS)(x, mask)
    assert str(caught.value) == message


def test_what_cannot_be_asked_of_a_layer() -> None:
    layer = layer_of(feature_map="favor", readout="sorted")
    with pytest.raises(InputError) as caught:
        layer(tokens(1, 3))
    assert str(caught.value) == (
        "readout 'sorted': expected one choice a token, kernel 'linear' with feature_map 'elu' or "
        "'relu', and no half precision"
    )
    for index in (-1, 3):
        with pytest.raises(InputError) as caught:
            layer_of(forced=index)(tokens(1, 3))
        expected = f"forced {index}: expected the index of one of the rates (1, 2, 4)"
        assert str(caught.value) == expected


# ---- as a module


@each(KINDS)
def test_copies_and_saved_weights_compute_the_same(options: dict[str, Any]) -> None:
    layer, x = layer_of(**options), tokens(2, 9)
    out = layer(x)
    out.sum().backward()
    other = layer_of(seed=1, **options)
    other.load_state_dict(layer.state_dict())
    for same in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), layer.eval()):
        assert torch.equal(same(x), out)
    with torch.inference_mode():
        assert torch.equal(layer(x), out)
    assert torch.equal(copy.deepcopy(layer)(x), out)


@each(KINDS)
def test_strides_checkpoints_and_use_twice(options: dict[str, Any]) -> None:
    layer, x = layer_of(**options), tokens(2, 9)
    strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert not strided.is_contiguous()
    assert torch.equal(layer(strided), layer(x))

    def gradients(forward: Any) -> tuple[Tensor, ...]:
        total = forward(forward(strided.clone().requires_grad_())).square().sum()
        return torch.autograd.grad(total, list(layer.parameters()), allow_unused=True)

    again = gradients(lambda z: checkpoint(layer, z, use_reentrant=False))
    for one, other in zip(gradients(layer), again, strict=True):
        assert one is other is None or torch.equal(one, other)


def test_dropout_in_training_alone() -> None:
    torch.manual_seed(0)
    layer = AdaptiveMultiResolutionAttention(DIM, HEADS, dropout=0.5)
    x = torch.randn(2, 200, DIM)
    dropped = layer(x)
    kept = dropped != 0
    assert 0.4 < float(kept.double().mean()) < 0.6
    assert close(dropped[kept], 2 * layer.eval()(x)[kept], 1e-6)


# ---- precision and memory


@each([options for options in KINDS if options != {"readout": "sorted"}])
def test_autocast_is_close_and_chooses_alike(options: dict[str, Any]) -> None:
    options = {name: value for name, value in options.items() if name != "readout"}
    layer, x = layer_of(**options).float(), tokens(2, 150).float()
    with torch.no_grad():
        out, routing = layer(x, return_routing=True)
    with torch.autocast("cpu", torch.bfloat16):
        half, again = layer(x, return_routing=True)
    half.float().sum().backward()
    assert torch.equal(routing.choice, again.choice)
    assert close(half.float(), out, 0.03 * float(out.abs().max()))
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision_sums_are_kept_in_float32(kind: torch.dtype) -> None:
    # The sum of features exceeds what float16 can hold, and stops growing early in bfloat16.
    layer = layer_of(routing="off", rates=(1, 4)).to(kind)
    x = tokens(1, 70_000).to(kind)
    exact = copy.deepcopy(layer).double()(x.double())
    out = layer(x)
    assert out.dtype == kind
    assert close(out.double(), exact, 0.02 * float(exact.abs().max()))


@pytest.mark.parametrize("name", ["elu", "relu", "softmax", "favor"])
@pytest.mark.parametrize("length", [1, 200])
def test_large_numbers_stay_finite(name: str, length: int) -> None:
    layer = layer_of(feature_map=name).float()
    x = (1e4 * tokens(2, length)).float().requires_grad_()
    out = layer(x)
    out.sum().backward()
    assert out.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


MEASURE = """
import os, re
import torch
from workingpapers.adamra.attention import AdaptiveMultiResolutionAttention

torch.set_num_threads(1)

def peak(length, backward):
    # A process of its own, in which the peak begins at what is in use.
    reader, writer = os.pipe()
    if os.fork() == 0:
        before = memory("VmRSS")
        layer = AdaptiveMultiResolutionAttention(64, 2, (1, 4, 16))
        x = torch.randn(1, length, 64)
        with torch.set_grad_enabled(backward):
            out = layer(x)
        if backward:
            out.sum().backward()
        os.write(writer, str(memory("VmHWM") - before).encode())
        os._exit(0)
    os.wait()
    return int(os.read(reader, 100))

def memory(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

print(peak(131072, False), peak(4096, True), peak(8192, True))
"""


def test_memory_is_linear_in_length() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURE)], capture_output=True, text=True, check=True
    )
    whole, short, long = map(int, done.stdout.split())
    assert whole < 2 * 1024**2, "128K tokens take 2 GiB"
    assert long <= 1.2 * 2 * short
