"""Products with matrices: of a parameter, a `dense`; of two tensors of the step, products and sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..values import Call, Const, Data, Dense, Ref, Weight
from . import rule
from .elementwise import add, mul
from .vector import CHAIN, over_rows, rows

aten = torch.ops.aten

LARGEST = 1 << 22
"""Units of a layer of products that are written out."""


def product_with_matrix(trace: Any, node: Any, data: Data, matrix: Const, bias: Const | None = None) -> Data:
    """data [.., k] times matrix [.., k, m]: a `dense` of the rows of one stream.

    Rows of one stream that differ become heads, each with its own matrix. One row times several matrices is one product.
    """
    step = trace.step
    k, m = matrix.shape[-2:]
    matrices = matrix.array[..., None, :, :]
    lead = np.broadcast_shapes(data.shape[:-1], matrices.shape[:-2])
    array = np.broadcast_to(data.array, lead + (k,))
    units = rows(trace, node, array)
    places = step.places((array[..., 0] % step.streams).reshape(-1))
    # Which matrix each row is multiplied with; the matrices themselves are large.
    matrices = matrices.reshape(-1, k, m)
    which = np.broadcast_to(np.arange(len(matrices)).reshape(matrix.shape[:-2] + (1,)), lead).reshape(-1)[places]
    if not np.all(which == which[0]):
        trace.same_for_streams(node, matrix, matrices[which])
    index = (matrices if np.array_equal(which[0], np.arange(len(matrices))) else matrices[which[0]]).transpose(0, 2, 1)
    count = len(units)
    learned = None
    if bias is not None:
        laid = np.broadcast_to(bias.array, lead + (m,)).reshape(-1, m)
        trace.same_for_streams(node, bias, laid[places])
        learned = Weight([(bias.source, laid[places[0]].reshape(-1))])
    if count == 1 or np.all(units == units[0]):
        weight = Weight([(matrix.source, index.reshape(count * m, k))])
        expression = Dense([(Ref(units[0]), weight)], learned, count * m)
    else:
        weight = Weight([(matrix.source, index)])
        expression = Dense([(Ref(units.reshape(-1)), weight)], learned, count * m, heads=count)
    result = over_rows(trace, node, array, expression, m)
    return result if m > 1 else result.like(result.array[..., None])


def product_of_tensors(trace: Any, node: Any, a: Data, b: Data) -> Data:
    """a [.., n, k] times b [.., k, m], both of the step."""
    step = trace.step
    n, k = a.shape[-2:]
    m = b.shape[-1]
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    left = np.broadcast_to(a.array[..., :, None, :], lead + (n, m, k))
    right = np.broadcast_to(np.swapaxes(b.array, -1, -2)[..., None, :, :], lead + (n, m, k))
    if not np.array_equal(left % step.streams, right % step.streams):
        raise trace.refuse(node, "it multiplies different streams of the batch", "Multiply within each stream: torch.bmm, or einsum with the batch in every term.")
    if left.size // step.streams > LARGEST:
        raise trace.refuse(node, f"it takes {left.size // step.streams} products a frame", "A tensor product of two values of the step is written out unit by unit; take a smaller one.")
    x, y = rows(trace, node, left), rows(trace, node, right)
    if k == 1:
        expression = mul(Ref(x[:, 0]), Ref(y[:, 0]))
    elif len(x) > 1 and k <= CHAIN and k * 4 <= len(x):
        expression = mul(Ref(x[:, 0]), Ref(y[:, 0]))
        for i in range(1, k):
            expression = add(expression, mul(Ref(x[:, i]), Ref(y[:, i])))
    else:
        products = trace.layer(node, x.size, mul(Ref(x.reshape(-1)), Ref(y.reshape(-1))))
        expression = Call("sum", [Ref(products.units())], f"groups = {len(x)}" if len(x) > 1 else "")
    return over_rows(trace, node, left, expression, 1)


def _swap(value: Any) -> Any:
    return value.like(np.swapaxes(value.array, -1, -2))


def multiply(trace: Any, node: Any, a: Any, b: Any, bias: Any = None) -> Data:
    """What torch.matmul does."""
    row, column = len(a.shape) == 1, len(b.shape) == 1
    if row:
        a = a.like(a.array[None, :])
    if column:
        b = b.like(b.array[:, None])
    if isinstance(a, Data) and isinstance(b, Const):
        result = product_with_matrix(trace, node, a, b, bias)
    elif isinstance(a, Const):
        result = _swap(product_with_matrix(trace, node, _swap(b), _swap(a)))
    else:
        result = product_of_tensors(trace, node, a, b)
    if column:
        result = result.like(result.array[..., 0])
    if row:
        result = result.like(result.array[..., 0, :] if not column else result.array[..., 0])
    return result


@rule("matmul", "mm.default", "bmm.default", "mv.default", "dot.default")
def _matmul(trace: Any, node: Any, a: Any, b: Any) -> Data:
    return multiply(trace, node, a, b)


@rule("linear")
def _linear(trace: Any, node: Any, data: Any, weight: Any, bias: Any = None) -> Data:
    if isinstance(bias, Data) or isinstance(data, Const):
        result = multiply(trace, node, data, _swap(weight))
        return result if bias is None else trace.unitwise(node, add, result, bias)
    return multiply(trace, node, data, _swap(weight), bias)


@rule("addmm.default", "baddbmm.default", "addmv.default", "addbmm")
def _addmm(trace: Any, node: Any, bias: Any, a: Any, b: Any, beta: float = 1, alpha: float = 1) -> Data:
    if node.target is torch.ops.aten.addbmm.default:
        raise trace.refuse(node, "it sums over the batch", "Use torch.baddbmm.")
    plain = beta == 1 and alpha == 1
    if plain and isinstance(bias, Const) and isinstance(a, Data) and isinstance(b, Const):
        return multiply(trace, node, a, b, bias)
    result = multiply(trace, node, a, b)
    from ..values import Num

    return trace.unitwise(
        node,
        lambda bias, result: add(mul(Num(float(beta)), bias), mul(Num(float(alpha)), result)),
        bias,
        result,
    )


@rule("bilinear")
def _bilinear(trace: Any, node: Any, a: Any, b: Any, weight: Any, bias: Any = None) -> Data:
    """A product of each unit of one with each of the other, and a matrix."""
    outputs, left, right = weight.shape
    products = trace.unitwise(node, mul, a.like(a.array[..., :, None]), b.like(b.array[..., None, :]))
    products = products.like(products.array.reshape(products.shape[:-2] + (left * right,)))
    return multiply(trace, node, products, _swap(weight.like(weight.array.reshape(outputs, left * right))), bias)


@rule("embedding.default")
def _embedding(
    trace: Any, node: Any, weight: Any, symbols: Any, padding: int = -1, by_frequency: bool = False, sparse: bool = False
) -> Data:
    if by_frequency:
        raise trace.refuse(node, "scale_grad_by_freq divides gradients by counts of a batch", "Leave it out.")
    if sparse:
        raise trace.refuse(node, "its gradient is sparse (sparse=True)", "Leave it out: gradients are dense.")
    if padding >= 0:
        # The row of the padding gets no gradient.
        row = trace.insert(node, aten.select.int, trace.insert(node, aten.detach.default, node.args[0]), 0, padding)
        weight = trace.values[trace.insert(node, aten.select_scatter.default, node.args[0], row, 0, padding)]
    return _rows(trace, node, weight, symbols)


def _rows(trace: Any, node: Any, weight: Any, symbols: Any) -> Data:
    layer = trace.symbol(node, symbols, weight.shape[0])
    matrix = Weight([(weight.source, weight.array.T)])
    expression = Dense([(Ref(layer.units()), matrix)], None, weight.shape[1])
    return trace.step.whole(trace.layer(node, weight.shape[1], expression), tuple(node.meta["val"].shape))


@rule("one_hot.default")
def _one_hot(trace: Any, node: Any, symbols: Any, count: int = -1) -> Data:
    return _rows(trace, node, trace.constant(torch.eye(count)), symbols)
