"""torch.nn.MultiheadAttention's calling convention, alone and inside torch's own encoder."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workingpapers.adamra.attention import AdaptiveMultiResolutionAttention
from workingpapers.adamra.multihead import MultiheadForm, as_multihead_attention
from workingpapers.foundation.errors import InputError

DIM, HEADS = 8, 2
PADDING = torch.tensor([[False] * 9, [False] * 5 + [True] * 4])


def layer_of(seed: int = 0, **options: Any) -> AdaptiveMultiResolutionAttention:
    torch.manual_seed(seed)
    return AdaptiveMultiResolutionAttention(DIM, HEADS, (1, 2, 4), **options)


def tokens() -> Tensor:
    return torch.randn(2, 9, DIM, generator=torch.Generator().manual_seed(0))


def future(length: int = 9) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).triu(1)


def as_numbers(mask: Tensor) -> Tensor:
    return torch.zeros(mask.shape).masked_fill(mask, -torch.inf)


def test_it_is_the_layer_with_the_mask_inverted() -> None:
    layer, x = layer_of(), tokens()
    attention = as_multihead_attention(layer)
    out, weights = attention(x, x, x)
    assert weights is None
    assert torch.equal(out, layer(x))
    for padding in (PADDING, as_numbers(PADDING)):
        assert torch.equal(attention(x, x, x, padding, need_weights=False)[0], layer(x, ~PADDING))
    assert {p.data_ptr() for p in attention.parameters()} == {
        p.data_ptr() for p in layer.parameters()
    }
    assert (attention.embed_dim, attention.num_heads, attention.batch_first) == (DIM, HEADS, True)


def test_one_sequence_without_a_batch() -> None:
    attention, x = as_multihead_attention(layer_of()), tokens()
    single = x[1]
    out = attention(single, single, single)[0]
    assert torch.allclose(out, attention(x, x, x)[0][1], rtol=0, atol=1e-6)
    out = attention(single, single, single, PADDING[1])[0]
    assert torch.allclose(out, attention(x, x, x, PADDING)[0][1], rtol=0, atol=1e-6)


def test_length_first() -> None:
    layer, x = layer_of(), tokens()
    attention, turned = as_multihead_attention(layer, batch_first=False), x.transpose(0, 1)
    out = attention(turned, turned, turned, PADDING)[0]
    assert torch.equal(out.transpose(0, 1), layer(x, ~PADDING))


def test_a_causal_layer_takes_the_causal_mask() -> None:
    layer, x = layer_of(causal=True), tokens()
    attention = as_multihead_attention(layer)
    for mask in (None, future(), as_numbers(future()), future().expand(2 * HEADS, 9, 9)):
        for is_causal in (False, True):
            out = attention(x, x, x, attn_mask=mask, is_causal=is_causal)[0]
            assert torch.equal(out, layer(x))


CAUSAL_MESSAGE = (
    "attn_mask: expected None, as blocks are read whole; a causal mask takes a layer with "
    "causal=True"
)
SHAPE_MESSAGE = "attn_mask: expected the causal mask, True or -inf above the diagonal"


@pytest.mark.parametrize(
    ("causal", "options", "message"),
    [
        (False, {"attn_mask": future()}, CAUSAL_MESSAGE),
        (False, {"is_causal": True}, CAUSAL_MESSAGE),
        (True, {"attn_mask": future().T}, SHAPE_MESSAGE),
        (True, {"attn_mask": torch.zeros(9, 9)}, SHAPE_MESSAGE),
        (
            True,
            {"attn_mask": torch.full((9, 9), -1.0)},
            "attn_mask: expected booleans, or numbers that are 0 or -inf",
        ),
        (
            False,
            {"key_padding_mask": torch.ones(2, 9)},
            "key_padding_mask: expected booleans, or numbers that are 0 or -inf",
        ),
        (
            False,
            {"key_padding_mask": torch.zeros(2, 9, dtype=torch.long)},
            "key_padding_mask: expected booleans, or numbers that are 0 or -inf",
        ),
        (
            False,
            {"key_padding_mask": torch.zeros(2, 8, dtype=torch.bool)},
            "mask: expected the shape (2, 9), found (2, 8)",
        ),
    ],
)
def test_masks_that_it_refuses(causal: bool, options: dict[str, Any], message: str) -> None:
    attention, x = as_multihead_attention(layer_of(causal=causal)), tokens()
    with pytest.raises(InputError) as caught:
        attention(x, x, x, **options)
    assert str(caught.value) == message


def test_attention_to_another_sequence_is_refused() -> None:
    attention, x = as_multihead_attention(layer_of()), tokens()
    for key, value in ((x.clone(), x), (x, x.clone())):
        with pytest.raises(InputError) as caught:
            attention(x, key, value)
        assert str(caught.value) == (
            "key, value: expected the query itself, as this is self-attention"
        )


# ---- inside torch's encoder


def encoder_layer(attention: MultiheadForm, **options: Any) -> nn.TransformerEncoderLayer:
    torch.manual_seed(1)
    settings = {"batch_first": attention.batch_first, "dropout": 0.0} | options
    encoder = nn.TransformerEncoderLayer(DIM, HEADS, 16, **settings)
    encoder.self_attn = attention
    return encoder


@pytest.mark.parametrize("norm_first", [False, True], ids=["post", "pre"])
def test_as_self_attention_of_an_encoder_layer(norm_first: bool) -> None:
    layer, x = layer_of(), tokens()
    block = encoder_layer(as_multihead_attention(layer), norm_first=norm_first)
    if norm_first:
        y = x + layer(block.norm1(x), ~PADDING)
        expected = y + block.linear2(block.linear1(block.norm2(y)).relu())
    else:
        y = block.norm1(x + layer(x, ~PADDING))
        expected = block.norm2(y + block.linear2(block.linear1(y).relu()))
    trained = block(x, src_key_padding_mask=PADDING)
    trained.sum().backward()
    assert torch.allclose(trained, expected, rtol=0, atol=1e-6)
    assert layer.router.weight.grad.abs().max() > 0
    # In evaluation torch would fuse the layer, if the attention let it.
    block.eval()
    with torch.inference_mode():
        assert torch.allclose(block(x, src_key_padding_mask=PADDING), trained, rtol=0, atol=1e-6)
        assert torch.allclose(block(x[0]), block(x)[0], rtol=0, atol=1e-6)


def test_encoder_layer_with_the_length_first() -> None:
    x, first = tokens(), encoder_layer(as_multihead_attention(layer_of()))
    second = encoder_layer(as_multihead_attention(layer_of(), batch_first=False))
    assert torch.allclose(second(x.transpose(0, 1)).transpose(0, 1), first(x), rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("replaced", [False, True], ids=["before", "after"])
def test_inside_a_whole_encoder(replaced: bool) -> None:
    x, real = tokens(), ~PADDING[..., None]
    if replaced:
        # Torch has decided then that it may pack what it evaluates into a nested tensor.
        plain = nn.TransformerEncoderLayer(DIM, HEADS, 16, dropout=0.0, batch_first=True)
        encoder = nn.TransformerEncoder(plain, 2)
        for index, block in enumerate(encoder.layers):
            block.self_attn = as_multihead_attention(layer_of(index))
    else:
        block = encoder_layer(as_multihead_attention(layer_of()))
        encoder = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
    trained = encoder(x, src_key_padding_mask=PADDING)
    trained.sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.layers[0].parameters())
    with torch.no_grad():
        evaluated = encoder.eval()(x, src_key_padding_mask=PADDING)
    assert torch.allclose(evaluated * real, trained * real, rtol=0, atol=1e-5)


def test_causal_encoder() -> None:
    x = tokens()
    block = encoder_layer(as_multihead_attention(layer_of(causal=True)))
    encoder = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
    mask = nn.Transformer.generate_square_subsequent_mask(9)
    for training in (True, False):
        out = encoder.train(training)(x, mask=mask, src_key_padding_mask=as_numbers(PADDING))
        shorter = encoder(x[:, :6], mask=mask[:6, :6])
        assert torch.allclose(out[0, :6], shorter[0], rtol=0, atol=1e-5)


def test_nested_query() -> None:
    attention, x = as_multihead_attention(layer_of()), tokens()
    nested = torch.nested.nested_tensor([x[0], x[1, :5]])
    out = attention(nested, nested, nested)[0]
    expected = attention(x, x, x, PADDING)[0]
    assert torch.equal(out.to_padded_tensor(0.0), expected)
    with pytest.raises(
        InputError, match=r"^key_padding_mask: expected None beside a nested query$"
    ):
        attention(nested, nested, nested, PADDING)


def test_copies() -> None:
    attention, x = as_multihead_attention(layer_of()), tokens()
    other = as_multihead_attention(layer_of(1))
    other.load_state_dict(attention.state_dict())
    for same in (other, copy.deepcopy(attention), pickle.loads(pickle.dumps(attention))):
        assert torch.equal(same(x, x, x)[0], attention(x, x, x)[0])


def test_a_causal_mask_of_another_length_is_refused() -> None:
    layer = as_multihead_attention(AdaptiveMultiResolutionAttention(16, 4, causal=True))
    x = torch.randn(2, 10, 16)
    mask = torch.ones(9, 9, dtype=torch.bool).triu(1)
    with pytest.raises(
        InputError, match=r"attn_mask: expected 10 queries and keys, found \(9, 9\)"
    ):
        layer(x, x, x, attn_mask=mask, is_causal=True)
