"""The peers: equal to the packages they imitate, blind to padding, linear in memory."""

import copy
from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn

from workingpapers.adamra.feature_maps import Favor
from workingpapers.adamra.peers import (
    ATTENTIONS,
    LocalAttention,
    NystromAttention,
    SelfAttention,
    make_attention,
    pseudo_inverse,
)
from workingpapers.foundation.errors import InputError

DIM, HEADS = 32, 4
LENGTH_BLIND = [name for name in ATTENTIONS if name != "nystrom"]


def layer_of(name: str, length: int = 300) -> nn.Module:
    torch.manual_seed(0)
    return make_attention(name, DIM, HEADS, length)


def tokens(batch: int, length: int, seed: int = 0) -> Tensor:
    # Large enough for the weights of attention to differ from one another.
    return 3 * torch.randn(batch, length, DIM, generator=torch.Generator().manual_seed(seed))


# ---- the packages


def of_performer(layer: SelfAttention) -> nn.Module:
    from performer_pytorch import SelfAttention as Performer

    peer = Performer(dim=DIM, heads=HEADS, dim_head=DIM // HEADS)
    copy_projections(layer, peer.to_q, peer.to_k, peer.to_v, peer.to_out)
    peer.fast_attention.projection_matrix.copy_(layer.projection)
    return peer


def of_linformer(layer: SelfAttention) -> nn.Module:
    from linformer import LinformerSelfAttention

    peer = LinformerSelfAttention(dim=DIM, seq_len=len(layer.key_mixture), heads=HEADS, k=256)
    copy_projections(layer, peer.to_q, peer.to_k, peer.to_v, peer.to_out)
    peer.proj_k.copy_(layer.key_mixture)
    peer.proj_v.copy_(layer.value_mixture)
    return peer


def of_nystrom(layer: SelfAttention) -> nn.Module:
    from nystrom_attention import NystromAttention as Nystrom

    peer = Nystrom(dim=DIM, dim_head=DIM // HEADS, heads=HEADS, num_landmarks=64)
    copy_joint_projection(layer, peer.to_qkv)
    peer.to_out[0].load_state_dict(layer.output.state_dict())
    peer.res_conv.load_state_dict(layer.residual.state_dict())
    return peer


def of_linear(layer: SelfAttention) -> nn.Module:
    from linear_attention_transformer.linear_attention_transformer import SelfAttention as Linear

    peer = Linear(DIM, HEADS)
    copy_projections(layer, peer.to_q, peer.to_k, peer.to_v, peer.to_out)
    return peer


def of_local(layer: SelfAttention) -> nn.Module:
    from local_attention import LocalMHA

    peer = LocalMHA(dim=DIM, window_size=128, dim_head=DIM // HEADS, heads=HEADS)
    copy_joint_projection(layer, peer.to_qkv)
    peer.to_out.load_state_dict(layer.output.state_dict())
    return peer


def copy_projections(layer: SelfAttention, *theirs: nn.Module) -> None:
    for mine, other in zip(
        (layer.query, layer.key, layer.value, layer.output), theirs, strict=True
    ):
        other.load_state_dict(mine.state_dict())


def copy_joint_projection(layer: SelfAttention, joint: nn.Linear) -> None:
    joint.weight.copy_(torch.cat([layer.query.weight, layer.key.weight, layer.value.weight]))


def package(distribution: str) -> pytest.MarkDecorator:
    missing = find_spec(distribution.replace("-", "_")) is None
    return pytest.mark.skipif(missing, reason=f"{distribution} is not installed")


PACKAGES = [
    pytest.param("performer", of_performer, marks=package("performer-pytorch")),
    pytest.param("linformer", of_linformer, marks=package("linformer")),
    pytest.param("nystrom", of_nystrom, marks=package("nystrom-attention")),
    pytest.param("linear", of_linear, marks=package("linear-attention-transformer")),
    pytest.param("local", of_local, marks=package("local-attention")),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "imitated"), PACKAGES)
@pytest.mark.parametrize("length", [640, 300, 50])
def test_a_peer_is_the_package_it_imitates(name, imitated: Callable, length):
    layer = layer_of(name, 640)
    with torch.no_grad():
        peer = imitated(layer)
    # Without a mask these two let zeros take part that they add to reach a whole window.
    options = {}
    if name in ("nystrom", "local"):
        options["mask"] = torch.ones(2, length, dtype=torch.bool)
    mine, theirs = (tokens(2, length).requires_grad_() for _ in range(2))
    ours, other = layer(mine), peer(theirs, **options)
    assert torch.allclose(ours, other, rtol=0, atol=1e-5)
    weights = tokens(2, length, seed=1)
    (ours * weights).sum().backward()
    (other * weights).sum().backward()
    assert torch.allclose(mine.grad, theirs.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "imitated"), PACKAGES[2:])
def test_a_peer_reads_masks_like_the_package(name, imitated: Callable):
    layer, x = layer_of(name, 640), tokens(3, 384)
    mask = torch.arange(384) < torch.tensor([384, 300, 70])[:, None]
    option = "input_mask" if name == "linear" else "mask"
    with torch.no_grad():
        ours, other = layer(x, mask), imitated(layer)(x, **{option: mask})
    assert torch.allclose(ours[mask], other[mask], rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "imitated"), PACKAGES[:2])
def test_a_padded_sequence_is_read_as_the_package_reads_it_without(name, imitated: Callable):
    layer, x = layer_of(name, 640), tokens(1, 384)
    mask = (torch.arange(384) < 200)[None]
    with torch.no_grad():
        assert torch.allclose(
            layer(x, mask)[:, :200], imitated(layer)(x[:, :200]), rtol=0, atol=1e-5
        )


# ---- without the packages


def test_fused_softmax_is_softmax():
    explicit, fused = layer_of("softmax").double(), layer_of("sdpa").double()
    x, mask = tokens(2, 40).double(), torch.arange(40) < torch.tensor([40, 13])[:, None]
    for masked in (None, mask):
        assert torch.allclose(explicit(x, masked), fused(x, masked), rtol=0, atol=1e-12)


def test_softmax_is_what_pytorch_computes():
    layer, theirs = layer_of("softmax"), nn.MultiheadAttention(DIM, HEADS, batch_first=True)
    with torch.no_grad():
        joint = torch.cat([layer.query.weight, layer.key.weight, layer.value.weight])
        theirs.in_proj_weight.copy_(joint)
        theirs.out_proj.load_state_dict(layer.output.state_dict())
    x, mask = tokens(2, 40), torch.arange(40) < torch.tensor([40, 13])[:, None]
    other = theirs(x, x, x, key_padding_mask=~mask)[0]
    assert torch.allclose(layer(x, mask)[mask], other[mask], rtol=0, atol=1e-6)


def test_linear_attention_is_its_matrix_of_weights():
    layer, x = layer_of("linear"), tokens(1, 20)
    q, k, v = (p(x)[0].view(20, HEADS, -1) for p in (layer.query, layer.key, layer.value))
    heads = []
    for head in range(HEADS):
        weights = q[:, head].softmax(1) @ k[:, head].softmax(0).T
        heads.append(weights @ v[:, head] / (DIM // HEADS) ** 0.5)
    assert torch.allclose(layer(x)[0], layer.output(torch.cat(heads, 1)), rtol=0, atol=1e-6)


def test_linformer_with_unit_mixtures_is_softmax():
    softmax, linformer = layer_of("softmax"), layer_of("linformer", 256)
    linformer.load_state_dict(softmax.state_dict(), strict=False)
    with torch.no_grad():
        linformer.key_mixture.copy_(torch.eye(256))
        linformer.value_mixture.copy_(torch.eye(256))
    x = tokens(1, 256)
    assert torch.allclose(linformer(x), softmax(x), rtol=0, atol=1e-5)


def test_linformer_refuses_a_longer_sequence():
    with pytest.raises(InputError, match=r"^linformer: expected at most 8 tokens, found 9$"):
        layer_of("linformer", 8)(tokens(1, 9))


def test_nystrom_with_a_landmark_a_token_is_softmax():
    softmax = layer_of("softmax")
    nystrom = NystromAttention(DIM, HEADS, landmarks=16, iterations=30).double()
    nystrom.load_state_dict(softmax.state_dict(), strict=False)
    nn.init.zeros_(nystrom.residual.weight)
    x = tokens(1, 16).double()
    assert torch.allclose(nystrom(x), softmax.double()(x), rtol=0, atol=1e-6)


def test_the_pseudo_inverse_is_numpys():
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3, 8, 8, generator=generator, dtype=torch.float64).softmax(-1)
    assert torch.allclose(pseudo_inverse(weights, 30), torch.linalg.pinv(weights), atol=1e-8)


def test_performer_approximates_softmax_the_better_the_more_features():
    softmax, performer = layer_of("softmax"), layer_of("performer")
    performer.load_state_dict(softmax.state_dict(), strict=False)
    x = tokens(1, 64) / 3
    exact = softmax(x).detach()
    errors = []
    for features in (16, 4096):
        performer.projection = Favor(DIM // HEADS, features).projection
        errors.append(
            float((performer(x).detach() - exact).square().mean() / exact.square().mean())
        )
    assert errors[1] < 0.01 < errors[0]


def test_the_features_of_a_performer_follow_the_seed():
    first, again = layer_of("performer").projection, layer_of("performer").projection
    assert torch.equal(first, again)
    assert not torch.equal(first, make_attention("performer", DIM, HEADS, 8).projection)


@pytest.mark.parametrize("length", [7, 20])
def test_local_attention_reads_a_window_on_both_sides(length):
    torch.manual_seed(0)
    layer = LocalAttention(DIM, HEADS, window=4)
    x = tokens(1, length).requires_grad_()
    out = layer(x)
    for place in range(length):
        (grad,) = torch.autograd.grad(out[0, place].sum(), x, retain_graph=True)
        read = grad[0].abs().sum(1) > 0
        assert read.tolist() == [abs(place - other) <= 4 for other in range(length)]


def test_local_attention_turns_by_distance_alone():
    torch.manual_seed(0)
    layer = LocalAttention(DIM, HEADS, window=4)
    x = tokens(1, 12)
    # What stands two windows further, far from both ends, is read the same way.
    moved = torch.cat([tokens(1, 8, seed=1), x, tokens(1, 8, seed=2)], 1)
    before = torch.cat([tokens(1, 4, seed=3), x, tokens(1, 4, seed=4)], 1)
    assert torch.allclose(layer(before)[:, 8:12], layer(moved)[:, 12:16], rtol=0, atol=1e-5)


def test_local_attention_refuses_odd_heads():
    with pytest.raises(InputError, match=r"^local: expected heads of even width, found 3$"):
        make_attention("local", 6, 2, 8)


# ---- all of them


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize("length", [1, 300])
def test_every_token_gets_an_output_and_a_gradient(name, length):
    layer, x = layer_of(name), tokens(2, length).requires_grad_()
    out = layer(x)
    out.sum().backward()
    assert out.shape == x.shape
    assert bool(x.grad.isfinite().all())
    assert all(bool(p.grad.isfinite().all()) for p in layer.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_what_stands_at_padding_changes_nothing(name):
    layer, x = layer_of(name), tokens(3, 150)
    mask = torch.arange(150) < torch.tensor([150, 97, 0])[:, None]
    other = torch.where(mask[..., None], x, 5 * tokens(3, 150, seed=1)).requires_grad_()
    out = layer(other, mask)
    assert torch.equal(out, layer(x, mask))
    assert bool((out[~mask] == 0).all())
    out.square().sum().backward()
    assert bool((other.grad[~mask] == 0).all())
    assert all(bool(p.grad.isfinite().all()) for p in layer.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", LENGTH_BLIND)
@pytest.mark.parametrize("padding", [1, 140])
def test_more_padding_changes_nothing(name, padding):
    layer, x = layer_of(name), tokens(2, 150)
    padded = torch.cat([x, tokens(2, padding, seed=1)], 1)
    mask = (torch.arange(150 + padding) < 150).expand(2, -1)
    assert torch.allclose(layer(padded, mask)[:, :150], layer(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in ATTENTIONS if name not in ("softmax", "sdpa")])
def test_memory_kept_for_the_gradient_is_linear(name):
    layer = make_attention(name, DIM, HEADS, 1024)
    kept = []
    for length in (512, 1024):
        sizes: dict[int, int] = {}

        def keep(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            layer(tokens(1, length).requires_grad_())
        own = {p.untyped_storage().data_ptr() for p in layer.parameters()}
        kept.append(sum(size for at, size in sizes.items() if at not in own))
    assert kept[1] < 2.2 * kept[0]


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_layer_is_saved_with_all_that_decides_its_output(name):
    layer, x = layer_of(name), tokens(1, 30)
    torch.manual_seed(1)
    other = make_attention(name, DIM, HEADS, 300)
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    assert torch.equal(other(x), layer(x))


def test_rates_are_those_of_adamra():
    assert make_attention("adamra", DIM, HEADS, 8).rates == (1, 4, 16)
    assert make_attention("adamra", DIM, HEADS, 8, (1, 8)).rates == (1, 8)
    assert make_attention("adamra-coarse", DIM, HEADS, 8, (1, 8)).rates == (4, 16, 32)


def test_an_unknown_name_is_refused():
    with pytest.raises(InputError) as error:
        make_attention("reformer", DIM, HEADS, 8)
    assert str(error.value) == (
        "attention 'reformer': expected adamra, adamra-coarse, softmax, sdpa, linear, linformer, "
        "nystrom, performer, local"
    )
