"""Operations over a vector: sums, softmax, normalizations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..values import Call, Const, Data, Expression, Norm, Num, Ref, Weight, product
from . import rule
from .elementwise import add, call, compare, div, mul, root, sub, where

CHAIN = 64
"""As many terms are written one by one at most."""


def _axes(data: Data, dims: Any) -> list[int]:
    if dims is None or dims == [] or dims == ():
        return list(range(data.array.ndim))
    return sorted({d % data.array.ndim for d in ([dims] if isinstance(dims, int) else dims)})


def _last(data: Data, axes: list[int]) -> np.ndarray:
    """The array with the axes last, and joined: [.., K]."""
    rest = [a for a in range(data.array.ndim) if a not in axes]
    moved = data.array.transpose(rest + axes)
    return moved.reshape([data.shape[a] for a in rest] + [product(data.shape[a] for a in axes)])


def _keep(data: Data, axes: list[int], result: Data, keepdim: bool) -> Data:
    if not keepdim:
        return result
    return result.like(result.array.reshape([1 if a in axes else s for a, s in enumerate(data.shape)]))


def rows(trace: Any, node: Any, array: np.ndarray) -> np.ndarray:
    """[G, K]: the units of the rows of one stream."""
    step = trace.step
    streams = array % step.streams
    if array.shape[-1] == 0 or not np.all(streams == streams[..., :1]):
        raise trace.refuse(node, "it joins different streams of the batch", "Leave the batch dimension out of sums and normalizations.")
    places = step.places(streams[..., 0].reshape(-1))
    units = (array // step.streams).reshape(-1, array.shape[-1])
    if places is None or not np.all(units[places] == units[places[0]]):
        raise trace.refuse(node, "it treats streams of the batch differently", "Treat all streams alike.")
    return units[places[0]]


def over_rows(trace: Any, node: Any, array: np.ndarray, expression: Expression, width: int) -> Data:
    """The tensor of an expression that gives each row `width` numbers, in the layout of the rows."""
    step = trace.step
    lead = array.shape[:-1]
    streams = array[..., 0].reshape(-1) % step.streams
    places = step.places(streams)
    layer = trace.layer(node, places.shape[1] * width, expression)
    units = np.empty((streams.size, width), np.int64)
    units[places] = layer.units().reshape(1, -1, width)
    result = units * step.streams + streams[:, None]
    return Data(result.reshape(lead + ((width,) if width > 1 else ())))


def _groups(count: int) -> str:
    return f"groups = {count}" if count > 1 else ""


def _chain(units: np.ndarray, combine: Any) -> Expression:
    result: Expression = Ref(units[:, 0])
    for k in range(1, units.shape[1]):
        result = combine(result, Ref(units[:, k]))
    return result


def _contiguous(units: np.ndarray) -> bool:
    return bool(np.all(np.diff(units.reshape(-1)) == 1))


def _summed(units: np.ndarray, name: str) -> Expression:
    count, width = units.shape
    if not _contiguous(units) and count > 1 and width <= CHAIN:
        total = _chain(units, add)
        return div(total, Num(float(width))) if name == "mean" else total
    return Call(name, [Ref(units.reshape(-1))], _groups(count))


def _reduce(trace: Any, node: Any, data: Data, dims: Any, keepdim: bool, name: str) -> Data:
    axes = _axes(data, dims)
    array = _last(data, axes)
    if array.shape[-1] == 1:
        return _keep(data, axes, data.like(array[..., 0]), keepdim)
    units = rows(trace, node, array)
    return _keep(data, axes, over_rows(trace, node, array, _summed(units, name), 1), keepdim)


@rule("sum.dim_IntList", "sum.default")
def _sum(trace: Any, node: Any, data: Data, dims: Any = None, keepdim: bool = False, **_: Any) -> Data:
    return _reduce(trace, node, data, dims, keepdim, "sum")


@rule("mean.dim", "mean.default")
def _mean(trace: Any, node: Any, data: Data, dims: Any = None, keepdim: bool = False, **_: Any) -> Data:
    return _reduce(trace, node, data, dims, keepdim, "mean")


def _variance(trace: Any, node: Any, data: Data, dims: Any, correction: float, keepdim: bool, deviation: bool) -> Data:
    axes = _axes(data, dims)
    array = _last(data, axes)
    units = rows(trace, node, array)
    count, width = units.shape
    values = Ref(units.reshape(-1))
    mean = trace.layer(node, count, Call("mean", [values], _groups(count)))
    spread = trace.layer(node, count * width, sub(values, Ref(np.repeat(mean.units(), width))))
    total = Call("sum", [call("square", Ref(spread.units()))], _groups(count))
    result = div(total, Num(float(max(width - correction, 0))))
    if width <= correction:
        raise trace.refuse(node, f"it is of {width} numbers with a correction of {correction}", "Take it over more numbers.")
    if deviation:
        result = root(Ref(trace.layer(node, count, result).units()))
    return _keep(data, axes, over_rows(trace, node, array, result, 1), keepdim)


@rule("var.correction")
def _var(trace: Any, node: Any, data: Data, dims: Any = None, correction: Any = None, keepdim: bool = False) -> Data:
    return _variance(trace, node, data, dims, 1 if correction is None else correction, keepdim, False)


@rule("std.correction")
def _std(trace: Any, node: Any, data: Data, dims: Any = None, correction: Any = None, keepdim: bool = False) -> Data:
    return _variance(trace, node, data, dims, 1 if correction is None else correction, keepdim, True)


@rule("linalg_vector_norm")
def _norm(trace: Any, node: Any, data: Data, order: float = 2, dims: Any = None, keepdim: bool = False, **_: Any) -> Data:
    axes = _axes(data, dims)
    array = _last(data, axes)
    units = rows(trace, node, array)
    values = Ref(units.reshape(-1))
    if order == 2:
        total = trace.layer(node, len(units), Call("sum", [call("square", values)], _groups(len(units))))
        result = root(Ref(total.units()))
    elif order == 1:
        result = Call("sum", [call("abs", values)], _groups(len(units)))
    else:
        raise trace.refuse(node, f"it is the norm of order {order}", "Norms of order 1 and 2 can be traced.")
    return _keep(data, axes, over_rows(trace, node, array, result, 1), keepdim)


@rule("amax", "amin")
def _extreme(trace: Any, node: Any, data: Data, dims: Any = (), keepdim: bool = False) -> Data:
    name = "max" if "max" in node.target._schema.name else "min"
    axes = _axes(data, dims)
    array = _last(data, axes)
    units = rows(trace, node, array)
    if units.shape[1] > 8:
        raise trace.refuse(node, f"it is over {units.shape[1]} numbers", "Up to 8 numbers it can be traced. A softmax needs no maximum taken before; torch.logsumexp is a smooth one.")
    columns = [Ref(units[:, k]) for k in range(units.shape[1])]
    if "amax" in node.target._schema.name or "amin" in node.target._schema.name:
        result = _shared(trace, node, columns, name)
    else:
        result = columns[0]
        for column in columns[1:]:
            result = Ref(trace.layer(node, len(units), _first(name, result, column)).units())
    return _keep(data, axes, over_rows(trace, node, array, result, 1), keepdim)


def _first(name: str, a: Expression, b: Expression) -> Expression:
    """Of equal ones the first, which the whole error goes to; NaN if either is."""
    larger = call(name, a, b)
    return where(compare("==", larger, a), a, larger)


def _shared(trace: Any, node: Any, columns: list[Ref], name: str) -> Expression:
    """The error goes to all that are equal to the largest, in equal parts. What hands it on is 0: each less itself."""
    if len(columns) < 3:
        return call(name, *columns) if len(columns) == 2 else columns[0]
    count = len(columns[0].units)
    largest = Ref(trace.layer(node, count, call("stop_gradient", call(name, *columns))).units())
    are = [Ref(trace.layer(node, count, compare("==", column, largest)).units()) for column in columns]
    less = [Ref(trace.layer(node, count, sub(column, call("stop_gradient", column))).units()) for column in columns]
    # An infinite one less itself is no number.
    parts = [where(mul(is_, compare("==", zero, zero)), zero, Num(0.0)) for is_, zero in zip(are, less)]
    total, number = parts[0], are[0]
    for part, is_ in zip(parts[1:], are[1:]):
        total, number = add(total, part), add(number, is_)
    return add(largest, div(total, number))


@rule("max.dim", "min.dim")
def _extreme_of(trace: Any, node: Any, data: Data, dim: int, keepdim: bool = False) -> Any:
    """Values, and no places: these are whole numbers."""
    return [_extreme(trace, node, data, dim, keepdim), None]


@rule("prod.dim_int")
def _prod(trace: Any, node: Any, data: Data, dim: int, keepdim: bool = False, **_: Any) -> Data:
    axes = _axes(data, dim)
    array = _last(data, axes)
    units = rows(trace, node, array)
    if units.shape[1] > CHAIN:
        raise trace.refuse(node, f"it is over {units.shape[1]} numbers", f"Up to {CHAIN} numbers it can be traced.")
    return _keep(data, axes, over_rows(trace, node, array, _chain(units, mul), 1), keepdim)


def _vector_function(trace: Any, node: Any, data: Data, dim: int, name: str) -> Data:
    array = np.moveaxis(data.array, dim, -1)
    units = rows(trace, node, array)
    width = array.shape[-1]
    expression = Call(name, [Ref(units.reshape(-1))], _groups(len(units)))
    result = over_rows(trace, node, array, expression, width)
    if width == 1:
        result = result.like(result.array[..., None])
    return result.like(np.moveaxis(result.array, -1, dim))


@rule("softmax.int", "_softmax", "_safe_softmax")
def _softmax(trace: Any, node: Any, data: Data, dim: int, *_: Any, **__: Any) -> Data:
    return _vector_function(trace, node, data, dim, "softmax")


@rule("log_softmax.int", "_log_softmax")
def _log_softmax(trace: Any, node: Any, data: Data, dim: int, *_: Any, **__: Any) -> Data:
    return _vector_function(trace, node, data, dim, "log_softmax")


@rule("logsumexp")
def _logsumexp(trace: Any, node: Any, data: Data, dims: Any, keepdim: bool = False) -> Data:
    """A number less its log softmax is the log of the sum of exponentials: most exactly a large one, so each counts by its softmax."""
    axes = _axes(data, dims)
    array = _last(data, axes)
    units = rows(trace, node, array)
    values, groups = Ref(units.reshape(-1)), _groups(len(units))
    logs = Ref(trace.layer(node, units.size, Call("log_softmax", [values], groups)).units())
    shares = Ref(trace.layer(node, units.size, call("stop_gradient", call("exp", logs))).units())
    # Those of minus infinity count nothing.
    parts = where(compare("==", shares, Num(0.0)), Num(0.0), mul(shares, sub(values, logs)))
    return _keep(data, axes, over_rows(trace, node, array, Call("sum", [parts], groups), 1), keepdim)


@rule("cumsum")
def _cumsum(trace: Any, node: Any, data: Data, dim: int, **_: Any) -> Data:
    """A product with a triangle of ones."""
    width = data.shape[dim]
    triangle = trace.constant(torch.ones(width, width).triu())
    array = np.moveaxis(data.array, dim, -1)
    from .linear import product_with_matrix

    result = product_with_matrix(trace, node, data.like(array), triangle)
    return result.like(np.moveaxis(result.array, -1, dim))


EPSILON = 1e-5
"""That of the language."""


def _normalized(trace: Any, node: Any, name: str, array: np.ndarray, eps: float, gain: Any, bias: Any) -> Data:
    """Rows normalized; gain and bias are laid out as `array`, or None."""
    if not eps > 0:
        raise trace.refuse(node, f"its eps is {eps}", "Use an eps above 0.")
    units = rows(trace, node, array)
    count, width = units.shape
    first = trace.step.places((array[..., 0].reshape(-1)) % trace.step.streams)[0]
    learned = []
    for parameter, neutral in ((gain, 1.0), (bias, 0.0)):
        if parameter is None:
            parameter = trace.constant(torch.full((width,), neutral))
        index = np.broadcast_to(parameter.array, array.shape).reshape(-1, width)[first]
        learned.append(Weight([(parameter.source, index.reshape(-1))]))
    plain = gain is None and bias is None
    weights = (None, None) if plain else (learned[0], learned[1] if name == "layer_norm" else None)
    epsilon = "" if eps == EPSILON else trace.number(node, float(eps))
    expression = Norm(name, Ref(units.reshape(-1)), count, *weights, epsilon)
    result = over_rows(trace, node, array, expression, width)
    return result if width > 1 else result.like(result.array[..., None])


def _parameter(trace: Any, node: Any, value: Any) -> Any:
    if isinstance(value, Data):
        raise trace.refuse(node, "its gain or bias depends on inputs or state", "Multiply by it after a normalization without weights.")
    return value


@rule("layer_norm", "rms_norm", "_fused_rms_norm")
def _layer_norm(trace: Any, node: Any, data: Data, shape: list[int], gain: Any = None, *rest: Any, **named: Any) -> Data:
    rms = "rms" in node.target._schema.name
    gain = named.get("weight", gain)
    bias = None if rms else named.get("bias", rest[0] if rest else None)
    eps = named.get("eps", rest[0 if rms else 1] if len(rest) > (0 if rms else 1) else None if rms else EPSILON)
    if eps is None:
        eps = torch.finfo(node.meta["val"].dtype).eps
    gain, bias = (_parameter(trace, node, p) for p in (gain, bias))
    joined = data.shape[: len(data.shape) - len(shape)] + (product(shape),)
    gain, bias = (p if p is None else p.like(p.array.reshape(-1)) for p in (gain, bias))
    result = _normalized(trace, node, "rms_norm" if rms else "layer_norm", data.array.reshape(joined), eps, gain, bias)
    return result.like(result.array.reshape(data.shape))


@rule("group_norm")
def _group_norm(trace: Any, node: Any, data: Data, groups: int, gain: Any = None, bias: Any = None, eps: float = EPSILON, *_: Any) -> Data:
    gain, bias = (_parameter(trace, node, p) for p in (gain, bias))
    streams, channels = data.shape[:2]
    inner = product(data.shape[2:])
    array = data.array.reshape(streams, groups, channels // groups * inner)
    laid = [
        p if p is None else p.like(np.broadcast_to(p.array[:, None], (channels, inner)).reshape(1, groups, -1))
        for p in (gain, bias)
    ]
    result = _normalized(trace, node, "layer_norm", array, eps, *laid)
    return result.like(result.array.reshape(data.shape))


@rule("dropout", "native_dropout")
def _dropout(trace: Any, node: Any, data: Data | Const, p: float, train: bool) -> Any:
    result = data
    if train and p > 0:
        (data,) = trace.unify(node, [data])
        result = trace.unitwise(node, lambda a: Call("dropout", [a], trace.number(node, float(p))), data, draws=True)
    return [result, None] if "native" in node.target._schema.name else result


@rule("native_layer_norm")
def _native_layer_norm(trace: Any, node: Any, data: Data, shape: list[int], gain: Any, bias: Any, eps: float) -> Any:
    return [_layer_norm(trace, node, data, shape, gain, bias, eps), None, None]


@rule("batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit")
def _batch_norm(trace: Any, node: Any, data: Data, gain: Any, bias: Any, mean: Any, variance: Any, *rest: Any) -> Any:
    plain = node.target._schema.name == "aten::batch_norm"
    no_training = "no_training" in node.target._schema.name
    eps = rest[2] if plain or not no_training else rest[1]
    if not no_training and (rest[0] or not isinstance(mean, Const)):
        raise trace.refuse(node, "in training it mixes the streams of a batch", "Use LayerNorm or GroupNorm, or call .eval() on the BatchNorm.")
    shape = (-1,) + (1,) * (len(data.shape) - 2)
    parts = [p if p is None else p.like(p.array.reshape(shape)) for p in (mean, variance, gain, bias)]
    present = [p for p in parts if p is not None]

    def formula(a: Expression, mean: Expression, variance: Expression, *learned: Expression) -> Expression:
        remaining = list(learned)
        a = div(sub(a, mean), call("sqrt", add(variance, Num(float(eps)))))
        a = mul(a, remaining.pop(0)) if gain is not None else a
        return add(a, remaining.pop(0)) if bias is not None else a

    result = trace.unitwise(node, formula, data, *present)
    return result if plain else [result, None, None]

