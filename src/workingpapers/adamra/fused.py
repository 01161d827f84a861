"""The two products of kernel attention that are worth a derivative of our own.

Matrix products are associative at both ends of the attention. With T = phi(K)^T C, a head's state
phi(K)^T V is T W_V, so values need not be formed; and with M = state W_O, an output is the sum over
heads of phi(q) M / normaliser, so heads need not be read out one by one. What remains are four
large matrix products: queries, keys, T and outputs.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function

from workingpapers.adamra.feature_maps import ElementwiseFeatureMap

EPSILON = 1e-12
"""Least normaliser. It guards 0 / 0 alone: a mean over keys is one however small features are."""

Groups = list[tuple[int, int, int]]
"""(group, first row, last row + 1) of each group that has rows, in the rows' order."""


class KeySums(Function):
    """Sums over keys: T = sum_j w_j phi(k_j) c_j^T and z = sum_j w_j phi(k_j), where k = c W + b.

    Blocks c "batch keys dim", W "features dim", b "features", w "batch keys" or None for ones; T is
    "batch features dim", z "batch features".
    """

    @staticmethod
    def forward(
        ctx: Any,
        blocks: Float[Tensor, "batch keys dim"],
        weight: Float[Tensor, "features dim"],
        bias: Float[Tensor, " features"] | None,
        weights: Float[Tensor, "batch keys"] | None,
        phi: ElementwiseFeatureMap,
    ) -> tuple[Float[Tensor, "batch features dim"], Float[Tensor, "batch features"]]:
        features = phi.map_(torch.nn.functional.linear(blocks, weight, bias))
        ctx.save_for_backward(blocks, weight, weights, features)
        ctx.phi, ctx.has_bias = phi, bias is not None
        weighted = features if weights is None else features * weights[..., None]
        return weighted.transpose(1, 2) @ blocks, weighted.sum(1)

    @staticmethod
    def backward(ctx: Any, grad_sums: Tensor, grad_norms: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivative()
        blocks, weight, weights, features = ctx.saved_tensors
        grad = torch.baddbmm(grad_norms[:, None], blocks, grad_sums.transpose(1, 2))
        if weights is not None:
            grad *= weights[..., None]
        grad *= ctx.phi.derivative(features)
        grad_weight = grad.flatten(0, 1).T @ blocks.flatten(0, 1)
        grad_bias = grad.sum((0, 1)) if ctx.has_bias else None
        grad_blocks = None
        if ctx.needs_input_grad[0]:
            grad_blocks = grad @ weight
            weighted = features if weights is None else features * weights[..., None]
            grad_blocks.baddbmm_(weighted, grad_sums)
        return grad_blocks, grad_weight, grad_bias, None, None


class RoutedReadout(Function):
    """out_i = p_i sum_h phi(q_ih) M_gh / max(phi(q_ih) z_gh, eps) + o, q = x W + b, g = group of i.

    `x` "tokens dim", p "tokens", M "groups features dim", z "groups features", heads of equal
    width. `order` lists the tokens sorted by group; tokens that it leaves out get 0.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "tokens dim"],
        weight: Float[Tensor, "features dim"],
        bias: Float[Tensor, " features"] | None,
        probability: Float[Tensor, " tokens"],
        matrices: Float[Tensor, "groups features dim"],
        norms: Float[Tensor, "groups features"],
        output_bias: Float[Tensor, " dim"],
        order: Int[Tensor, " rows"],
        groups: Groups,
        heads: int,
        phi: ElementwiseFeatureMap,
    ) -> Float[Tensor, "tokens dim"]:
        rows = x.index_select(0, order)
        features = phi.map_(torch.nn.functional.linear(rows, weight, bias))
        spread = _spread(norms, heads)
        divisors = features.new_empty(len(rows), heads)
        for group, first, last in groups:
            torch.mm(features[first:last], spread[group], out=divisors[first:last])
        p = probability.index_select(0, order)
        scale = p[:, None] / divisors.clamp_min(EPSILON)
        weighted = _times(features, scale)
        outputs = torch.empty_like(rows)
        for group, first, last in groups:
            torch.addmm(output_bias, weighted[first:last], matrices[group], out=outputs[first:last])
        ctx.save_for_backward(x, weight, matrices, spread, order, features, divisors, p)
        ctx.groups, ctx.phi, ctx.has_bias = groups, phi, bias is not None
        return _scatter(outputs, order, len(x))

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivative()
        x, weight, matrices, spread, order, features, divisors, p = ctx.saved_tensors
        heads = divisors.shape[1]
        clamped = divisors.clamp_min(EPSILON)
        scale = p[:, None] / clamped
        weighted = _times(features, scale)
        grad_rows = grad_out.index_select(0, order)
        grad_matrices, grad_spread = torch.zeros_like(matrices), torch.zeros_like(spread)
        grad_output_bias = grad_rows.sum(0)
        # First the gradient of phi(q) scaled, then of phi(q), then of q, in one buffer.
        grad = torch.empty_like(features)
        for group, first, last in ctx.groups:
            torch.mm(weighted[first:last].T, grad_rows[first:last], out=grad_matrices[group])
            torch.mm(grad_rows[first:last], matrices[group].T, out=grad[first:last])
        grad_scale = torch.mul(grad, features, out=weighted).unflatten(1, (heads, -1)).sum(-1)
        grad = _times(grad, scale, out=grad)
        grad_p = (grad_scale / clamped).sum(1)
        grad_divisors = -grad_scale * scale / clamped * (divisors > EPSILON)
        for group, first, last in ctx.groups:
            torch.mm(features[first:last].T, grad_divisors[first:last], out=grad_spread[group])
            grad[first:last].addmm_(grad_divisors[first:last], spread[group].T)
        grad *= ctx.phi.derivative(features)
        rows = torch.index_select(x, 0, order, out=grad_rows)
        grad_weight = grad.T @ rows
        grad_bias = grad.sum(0) if ctx.has_bias else None
        grad_x = None
        if ctx.needs_input_grad[0]:
            torch.mm(grad, weight, out=rows)
            grad_x = _scatter(rows, order, len(x))
        return (
            grad_x,
            grad_weight,
            grad_bias,
            _scatter(grad_p, order, len(x)),
            grad_matrices,
            _unspread(grad_spread, heads),
            grad_output_bias,
            None,
            None,
            None,
            None,
        )


def _refuse_second_derivative() -> None:
    """RuntimeError where a derivative is itself to be differentiated.

    PyTorch's own once_differentiable lets that pass in silence when the input has another path.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the sorted readout has no second derivative; set readout = 'dense' on the layer"
        )


def _scatter(
    rows: Float[Tensor, "rows *dim"], order: Int[Tensor, " rows"], tokens: int
) -> Float[Tensor, "tokens *dim"]:
    """The rows at their tokens' places, 0 at the others."""
    shape = (tokens, *rows.shape[1:])
    place = rows.new_empty(shape) if len(rows) == tokens else rows.new_zeros(shape)
    return place.index_copy_(0, order, rows)


def _spread(
    norms: Float[Tensor, "groups features"], heads: int
) -> Float[Tensor, "groups features heads"]:
    """Each head's normaliser in a column of its own, so that one product serves all heads."""
    blocks = norms.unflatten(1, (heads, -1))
    eye = torch.eye(heads, dtype=norms.dtype, device=norms.device)
    return (blocks[..., None] * eye[:, None]).flatten(1, 2)


def _unspread(
    spread: Float[Tensor, "groups features heads"], heads: int
) -> Float[Tensor, "groups features"]:
    return spread.unflatten(1, (heads, -1)).diagonal(dim1=1, dim2=3).transpose(1, 2).flatten(1)


def _times(
    features: Float[Tensor, "rows features"],
    scale: Float[Tensor, "rows heads"],
    out: Tensor | None = None,
) -> Float[Tensor, "rows features"]:
    """Features times their head's scale."""
    heads = scale.shape[1]
    if out is None:
        out = torch.empty_like(features)
    torch.mul(
        features.unflatten(1, (heads, -1)), scale[..., None], out=out.unflatten(1, (heads, -1))
    )
    return out
