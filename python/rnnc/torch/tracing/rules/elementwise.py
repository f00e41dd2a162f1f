"""Operations unit by unit.

Where the language has a function, it is that function; where not, it is a formula of what the language has that is right
for every finite number, and has PyTorch's derivative at kinks. `relu(x) + s * (x - relu(x))` is a leaky relu of any slope, for instance.
"""

from __future__ import annotations

import math
from typing import Any, Callable

import numpy as np
import torch

from ..values import Binary, Call, Condition, Const, Data, Expression, Num
from . import rule


def add(a: Expression, b: Expression) -> Expression:
    if isinstance(b, Num) and b.value < 0:
        return Binary("-", a, Num(-b.value))
    return Binary("+", a, b)


def sub(a: Expression, b: Expression) -> Expression:
    if isinstance(b, Num) and b.value < 0:
        return Binary("+", a, Num(-b.value))
    return Binary("-", a, b)


def mul(a: Expression, b: Expression) -> Expression:
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Num) and one.value == 1:
            return other
        if isinstance(one, Num) and one.value == -1:
            return negative(other)
    return Binary("*", a, b)


def div(a: Expression, b: Expression) -> Expression:
    return a if isinstance(b, Num) and b.value == 1 else Binary("/", a, b)


def negative(a: Expression) -> Expression:
    return Num(-a.value) if isinstance(a, Num) else Binary("-", Num(0.0), a)


def call(name: str, *arguments: Expression) -> Expression:
    return Call(name, list(arguments), unitwise=len(arguments) == 1)


def _unary(aten: str, formula: Callable[[Expression], Expression]) -> None:
    @rule(aten)
    def _(trace: Any, node: Any, a: Any) -> Any:
        return trace.unitwise(node, formula, a)


def _named(aten: str, name: str) -> None:
    _unary(aten, lambda a: call(name, a))


for _aten, _name in {
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "silu": "silu",
    "exp": "exp",
    "log": "log",
    "sqrt": "sqrt",
    "abs": "abs",
    "square": "square",
    "sin": "sin",
    "cos": "cos",
    "hardsigmoid": "hard_sigmoid",
    "detach": "stop_gradient",
}.items():
    _named(_aten, _name)

_unary("neg", negative)
_unary("reciprocal", lambda a: Binary("/", Num(1.0), a))
_unary("rsqrt", lambda a: Binary("/", Num(1.0), call("sqrt", a)))
_unary("exp2", lambda a: call("exp", mul(Num(math.log(2)), a)))
_unary("log2", lambda a: mul(Num(1 / math.log(2)), call("log", a)))
_unary("log10", lambda a: mul(Num(1 / math.log(10)), call("log", a)))
_unary("expm1", lambda a: sub(call("exp", a), Num(1.0)))
_unary("log1p", lambda a: call("log", add(Num(1.0), a)))
_unary("tan", lambda a: div(call("sin", a), call("cos", a)))
_unary("sinh", lambda a: div(sub(call("exp", a), call("exp", negative(a))), Num(2.0)))
_unary("cosh", lambda a: div(add(call("exp", a), call("exp", negative(a))), Num(2.0)))
_unary("log_sigmoid", lambda a: negative(call("softplus", negative(a))))
_unary("hardswish", lambda a: mul(a, call("hard_sigmoid", a)))
_unary("mish", lambda a: mul(a, call("tanh", call("softplus", a))))
_unary("relu6", lambda a: call("min", call("relu", a), Num(6.0)))
_unary("selu", lambda a: mul(Num(1.0507009873554805), _elu(a, 1.6732632423543772)))


def _alpha(trace: Any, node: Any, combine: Callable[..., Expression], a: Any, b: Any, alpha: float) -> Any:
    return trace.unitwise(node, lambda a, b: combine(a, b if alpha == 1 else mul(Num(float(alpha)), b)), a, b)


@rule("add.Tensor", "add.Scalar")
def _add(trace: Any, node: Any, a: Any, b: Any, alpha: float = 1) -> Any:
    return _alpha(trace, node, add, a, b, alpha)


@rule("sub.Tensor", "sub.Scalar")
def _sub(trace: Any, node: Any, a: Any, b: Any, alpha: float = 1) -> Any:
    return _alpha(trace, node, sub, a, b, alpha)


@rule("rsub.Tensor", "rsub.Scalar")
def _rsub(trace: Any, node: Any, a: Any, b: Any, alpha: float = 1) -> Any:
    return _alpha(trace, node, sub, b, a, alpha)


@rule("mul.Tensor", "mul.Scalar")
def _mul(trace: Any, node: Any, a: Any, b: Any) -> Any:
    return trace.unitwise(node, mul, a, b)


@rule("div.Tensor", "div.Scalar", "true_divide.Tensor", "true_divide.Scalar")
def _div(trace: Any, node: Any, a: Any, b: Any) -> Any:
    return trace.unitwise(node, div, a, b)


@rule("addcmul")
def _addcmul(trace: Any, node: Any, a: Any, b: Any, c: Any, value: float = 1) -> Any:
    return trace.unitwise(node, lambda a, b, c: add(a, mul(mul(Num(float(value)), b), c)), a, b, c)


@rule("addcdiv")
def _addcdiv(trace: Any, node: Any, a: Any, b: Any, c: Any, value: float = 1) -> Any:
    return trace.unitwise(node, lambda a, b, c: add(a, div(mul(Num(float(value)), b), c)), a, b, c)


@rule("lerp.Scalar", "lerp.Tensor")
def _lerp(trace: Any, node: Any, a: Any, b: Any, weight: Any) -> Any:
    return trace.unitwise(node, lambda a, b, w: add(a, mul(w, sub(b, a))), a, b, weight)


@rule("maximum", "max.other", "fmax")
def _maximum(trace: Any, node: Any, a: Any, b: Any) -> Any:
    return trace.unitwise(node, lambda a, b: call("max", a, b), a, b)


@rule("minimum", "min.other", "fmin")
def _minimum(trace: Any, node: Any, a: Any, b: Any) -> Any:
    return trace.unitwise(node, lambda a, b: call("min", a, b), a, b)


def _at_least(a: Expression, least: Expression | None) -> Expression:
    """At the bound, `clamp` hands the whole error on; `max` would hand on half. It matters at 0, where states begin."""
    if least is None:
        return a
    if isinstance(least, Num) and least.value == 0:
        return add(a, call("relu", negative(a)))
    return call("max", a, least)


def _at_most(a: Expression, most: Expression | None) -> Expression:
    if most is None:
        return a
    if isinstance(most, Num) and most.value == 0:
        return sub(a, call("relu", a))
    return call("min", a, most)


@rule("clamp.default", "clamp.Tensor", "clip.default", "clip.Tensor")
def _clamp(trace: Any, node: Any, a: Any, least: Any = None, most: Any = None, **named: Any) -> Any:
    least, most = named.get("min", least), named.get("max", most)
    bounds = [b for b in (least, most) if b is not None]

    def formula(a: Expression, *found: Expression) -> Expression:
        remaining = list(found)
        if least is not None:
            a = _at_least(a, remaining.pop(0))
        return _at_most(a, remaining.pop(0)) if most is not None else a

    return trace.unitwise(node, formula, a, *bounds)


@rule("clamp_min.default", "clamp_min.Tensor")
def _clamp_min(trace: Any, node: Any, a: Any, least: Any) -> Any:
    return trace.unitwise(node, _at_least, a, least)


@rule("clamp_max.default", "clamp_max.Tensor")
def _clamp_max(trace: Any, node: Any, a: Any, most: Any) -> Any:
    return trace.unitwise(node, _at_most, a, most)


@rule("hardtanh")
def _hardtanh(trace: Any, node: Any, a: Any, least: float = -1, most: float = 1) -> Any:
    if (least, most) == (-1, 1):
        return trace.unitwise(node, lambda a: call("hard_tanh", a), a)
    if least == 0:
        return trace.unitwise(node, lambda a: call("min", call("relu", a), Num(float(most))), a)
    return trace.unitwise(node, lambda a: call("min", call("max", a, Num(float(least))), Num(float(most))), a)


@rule("softplus")
def _softplus(trace: Any, node: Any, a: Any, beta: float = 1, threshold: float = 20) -> Any:
    if threshold < 15:
        raise trace.refuse(node, f"its threshold is {threshold}", "Leave the threshold at 20.")
    if beta == 1:
        return trace.unitwise(node, lambda a: call("softplus", a), a)
    return trace.unitwise(node, lambda a: div(call("softplus", mul(Num(float(beta)), a)), Num(float(beta))), a)


@rule("gelu")
def _gelu(trace: Any, node: Any, a: Any, approximate: str = "none") -> Any:
    if approximate == "none":
        return trace.unitwise(node, lambda a: call("gelu", a), a)

    def formula(a: Expression) -> Expression:
        inner = mul(Num(math.sqrt(2 / math.pi)), add(a, mul(Num(0.044715), mul(call("square", a), a))))
        return mul(mul(Num(0.5), a), add(Num(1.0), call("tanh", inner)))

    return trace.unitwise(node, formula, a)


def _leaky(a: Expression, slope: Expression) -> Expression:
    return add(call("relu", a), mul(slope, sub(a, call("relu", a))))


@rule("leaky_relu")
def _leaky_relu(trace: Any, node: Any, a: Any, slope: float = 0.01) -> Any:
    if slope == 0.01:
        return trace.unitwise(node, lambda a: call("leaky_relu", a), a)
    return trace.unitwise(node, lambda a: _leaky(a, Num(float(slope))), a)


@rule("prelu", "_prelu_kernel")
def _prelu(trace: Any, node: Any, a: Any, weight: Any) -> Any:
    if isinstance(weight, Const) and len(weight.shape) == 1 and len(a.shape) > 2:
        weight = weight.like(weight.array.reshape((-1,) + (1,) * (len(a.shape) - 2)))
    return trace.unitwise(node, _leaky, a, weight)


def _elu(a: Expression, alpha: float) -> Expression:
    if alpha == 1:
        return call("elu", a)
    return add(call("relu", a), mul(Num(float(alpha)), sub(call("elu", a), call("relu", a))))


@rule("elu")
def _elu_rule(trace: Any, node: Any, a: Any, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Any:
    if input_scale != 1:
        raise trace.refuse(node, f"its input scale is {input_scale}", "Write it as a formula.")
    return trace.unitwise(node, lambda a: mul(Num(float(scale)), _elu(a, alpha)), a)


@rule("celu")
def _celu(trace: Any, node: Any, a: Any, alpha: float = 1) -> Any:
    k = Num(float(alpha))
    return trace.unitwise(node, lambda a: call("elu", a) if alpha == 1 else mul(k, call("elu", div(a, k))), a)


@rule("logit")
def _logit(trace: Any, node: Any, a: Any, eps: Any = None) -> Any:
    if eps is not None:
        raise trace.refuse(node, "it has an eps", "Write torch.logit(x.clamp(eps, 1 - eps)).")
    return trace.unitwise(node, lambda a: call("log", div(a, sub(Num(1.0), a))), a)


@rule("logaddexp")
def _logaddexp(trace: Any, node: Any, a: Any, b: Any) -> Any:
    return trace.unitwise(node, lambda a, b: add(a, call("softplus", sub(b, a))), a, b)


@rule("pow.Tensor_Scalar")
def _pow(trace: Any, node: Any, a: Any, exponent: float) -> Any:
    def whole(a: Expression, n: int) -> Expression:
        """By products, as PyTorch does for small powers."""
        if n == 1:
            return a
        half = whole(a, n // 2)
        squared = call("square", half)
        return squared if n % 2 == 0 else mul(squared, a)

    power = abs(float(exponent))
    if power == 0:
        return trace.constant(torch.ones(node.meta["val"].shape))
    if power == 0.5:
        formula = lambda a: call("sqrt", a)  # noqa: E731
    elif power == int(power) and power <= 64:
        formula = lambda a: whole(a, int(power))  # noqa: E731
    elif power * 2 == int(power * 2) and power <= 8:
        formula = lambda a: mul(whole(a, int(power)), call("sqrt", a))  # noqa: E731
    else:
        raise trace.refuse(node, f"a power of {exponent} is not in the language", "If its base is positive, write torch.exp(p * torch.log(x)).")
    if exponent < 0:
        return trace.unitwise(node, lambda a: Binary("/", Num(1.0), formula(a)), a)
    return trace.unitwise(node, formula, a)


@rule("pow.Scalar")
def _pow_of_number(trace: Any, node: Any, base: float, a: Any) -> Any:
    if base <= 0:
        raise trace.refuse(node, f"its base is {base}", "Use a base above 0.")
    return trace.unitwise(node, lambda a: call("exp", mul(Num(math.log(base)), a)), a)


@rule("pow.Tensor_Tensor")
def _pow_of_tensors(trace: Any, node: Any, a: Any, b: Any) -> Any:
    number = b.number() if isinstance(b, Const) else None
    if number is not None and isinstance(a, Data):
        return _pow(trace, node, a, number)
    base = a.number() if isinstance(a, Const) else None
    if base is not None:
        return _pow_of_number(trace, node, base, b)
    raise trace.refuse(node, "a power of tensors is not in the language", "If its base is positive, write torch.exp(p * torch.log(x)).")


# Comparisons, for torch.where.


def _comparison(kind: str) -> None:
    @rule(f"{kind}.Tensor", f"{kind}.Scalar")
    def _(trace: Any, node: Any, a: Any, b: Any) -> Any:
        return Condition(kind, a, b, tuple(node.meta["val"].shape))


for _kind in ("gt", "ge", "lt", "le"):
    _comparison(_kind)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (Data, Const)) and type(a) is type(b):
        if isinstance(a, Const) and a.source is not b.source:
            numbers = a.number(), b.number()
            return None not in numbers and numbers[0] == numbers[1]
        return a.shape == b.shape and np.array_equal(a.array, b.array)
    return _number(a) is not None and _number(a) == _number(b)


def _number(a: Any) -> float | None:
    if isinstance(a, (int, float)):
        return float(a)
    return a.number() if isinstance(a, Const) else None


@rule("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def _where(trace: Any, node: Any, condition: Any, a: Any, b: Any) -> Any:
    shape = tuple(node.meta["val"].shape)
    if isinstance(condition, Const):
        if condition.source.constant:
            a, b = trace.unify(node, [trace.tensor(x, shape) for x in (a, b)])
            chosen = np.broadcast_to(condition.values().astype(bool), shape)
            return Data(np.where(chosen, np.broadcast_to(a.array, shape), np.broadcast_to(b.array, shape)))
        raise trace.refuse(node, "its condition depends on parameters", "Multiply by a mask of floats.")
    if not isinstance(condition, Condition):
        raise trace.refuse(node, "its condition is no comparison of two values", "Compare in place: torch.where(a > b, a, b).")
    kind, left, right = condition.kind, condition.left, condition.right
    if kind in ("lt", "le"):
        kind, left, right = {"lt": "gt", "le": "ge"}[kind], right, left
    # Now: left > right, or left >= right.
    zero = _number(right) == 0
    if zero and _same(left, a) and _number(b) == 0:
        return trace.unitwise(node, (lambda a: call("relu", a)) if kind == "gt" else lambda a: _at_least(a, Num(0.0)), a)
    if _number(left) == 0 and _same(right, b) and _number(a) == 0:
        # 0 > b ? 0 : b hands the error on at 0; 0 >= b ? 0 : b does not.
        return trace.unitwise(node, (lambda a: call("relu", a)) if kind == "ge" else lambda a: _at_least(a, Num(0.0)), b)
    if _same(left, a) and _same(right, b):
        return trace.unitwise(node, lambda a, b: call("max", a, b), a, b)
    if _same(left, b) and _same(right, a):
        return trace.unitwise(node, lambda a, b: call("min", a, b), a, b)
    if zero and kind == "gt" and _same(left, a) and (slope := trace.slope_of(b, left)) is not None:
        return trace.unitwise(node, _leaky, a, slope)
    raise trace.refuse(
        node,
        "the language has no choice between two values",
        "It can say torch.where(a > b, a, b), (a < b, a, b) and (x > 0, x, 0): otherwise write it by maximum, minimum, relu or a smooth gate.",
    )
