"""Operations unit by unit.

Where the language has a function, it is that function; where not, it is a formula of what the language has that is right
for every number, and has PyTorch's derivative at kinks. `where(x > 0, x, s * x)` is a leaky relu of any slope, for instance.
"""

from __future__ import annotations

import math
from typing import Any, Callable

import numpy as np
import torch

from ..values import Binary, Call, Const, Data, Expression, Num
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


def truncated(a: Expression) -> Expression:
    """Rounded towards 0."""
    return mul(call("sign", a), call("floor", call("abs", a)))


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
    "expm1": "expm1",
    "log1p": "log1p",
    "sinh": "sinh",
    "cosh": "cosh",
    "atan": "atan",
    "erf": "erf",
    "floor": "floor",
    "round.default": "round",
    "sign": "sign",
    "detach": "stop_gradient",
}.items():
    _named(_aten, _name)

_unary("neg", negative)
_unary("reciprocal", lambda a: Binary("/", Num(1.0), a))
_unary("rsqrt", lambda a: Binary("/", Num(1.0), call("sqrt", a)))
_unary("exp2", lambda a: call("exp", mul(Num(math.log(2)), a)))
_unary("log2", lambda a: mul(Num(1 / math.log(2)), call("log", a)))
_unary("log10", lambda a: mul(Num(1 / math.log(10)), call("log", a)))
_unary("erfc", lambda a: sub(Num(1.0), call("erf", a)))
_unary("ceil", lambda a: negative(call("floor", negative(a))))
_unary("trunc", truncated)
_unary("frac", lambda a: sub(a, truncated(a)))
_unary("tan", lambda a: div(call("sin", a), call("cos", a)))
_unary("log_sigmoid", lambda a: negative(call("softplus", negative(a))))
_unary("hardswish", lambda a: mul(a, call("hard_sigmoid", a)))
_unary("mish", lambda a: mul(a, call("tanh", call("softplus", a))))
_unary("relu6", lambda a: Call("clamp", [a], "0, 6", unitwise=True))
_unary("selu", lambda a: mul(Num(1.0507009873554805), _elu(a, 1.6732632423543772)))


def _alpha(trace: Any, node: Any, combine: Callable[..., Expression], a: Any, b: Any, alpha: float) -> Any:
    return trace.unitwise(node, lambda a, b: combine(a, b if alpha == 1 else mul(Num(float(alpha)), b)), a, b)


@rule("add.Tensor", "add.Scalar")
def _add(trace: Any, node: Any, a: Any, b: Any, alpha: float = 1) -> Any:
    if node.meta["val"].dtype == torch.bool:
        return trace.unitwise(node, lambda a, b: call("max", a, b), a, b)
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


@rule("maximum", "max.other")
def _maximum(trace: Any, node: Any, a: Any, b: Any) -> Any:
    return trace.unitwise(node, lambda a, b: call("max", a, b), a, b)


@rule("minimum", "min.other")
def _minimum(trace: Any, node: Any, a: Any, b: Any) -> Any:
    return trace.unitwise(node, lambda a, b: call("min", a, b), a, b)


@rule("fmax", "fmin")
def _of_numbers(trace: Any, node: Any, a: Any, b: Any) -> Any:
    """Of a number and NaN it is the number."""
    name = node.target._schema.name[-3:]

    def formula(a: Expression, b: Expression) -> Expression:
        return call(name, where(compare("!=", a, a), b, a), where(compare("!=", b, b), a, b))

    return trace.unitwise(node, formula, a, b)


@rule("remainder.Tensor", "remainder.Scalar")
def _remainder(trace: Any, node: Any, a: Any, b: Any) -> Any:
    return trace.unitwise(node, lambda a, b: call("mod", a, b), a, b)


def _within(trace: Any, node: Any, a: Any, least: float | None, most: float | None) -> Any:
    """Between numbers: at a bound, no error goes back."""
    least = None if least == -math.inf else least
    most = None if most == math.inf else most
    if least is not None and most is not None and least >= most:
        raise trace.refuse(node, f"there are no numbers between its bounds, {least} and {most}", "Give the smaller bound first.")
    options = [f"{name} = {trace.number(node, float(b))}" for name, b in (("lo", least), ("hi", most)) if b is not None]
    if len(options) == 2:
        options = [o.partition("= ")[2] for o in options]
    if not options:
        return a
    return trace.unitwise(node, lambda a: Call("clamp", [a], ", ".join(options), unitwise=True), a)


@rule("clamp.default", "clip.default")
def _clamp(trace: Any, node: Any, a: Any, least: Any = None, most: Any = None, **named: Any) -> Any:
    return _within(trace, node, a, named.get("min", least), named.get("max", most))


@rule("clamp_min.default")
def _clamp_min(trace: Any, node: Any, a: Any, least: float) -> Any:
    return _within(trace, node, a, least, None)


@rule("clamp_max.default")
def _clamp_max(trace: Any, node: Any, a: Any, most: float) -> Any:
    return _within(trace, node, a, None, most)


@rule("clamp.Tensor", "clip.Tensor", "clamp_min.Tensor", "clamp_max.Tensor")
def _clamp_by_tensors(trace: Any, node: Any, a: Any, *bounds: Any, **named: Any) -> Any:
    """Between tensors: at a bound, the error is shared with it."""
    if "clamp_max" in node.target._schema.name:
        bounds = (None, *bounds)
    least, most = named.get("min", bounds[0] if bounds else None), named.get("max", bounds[1] if len(bounds) > 1 else None)
    given = [(name, b) for name, b in (("max", least), ("min", most)) if b is not None]

    def formula(a: Expression, *found: Expression) -> Expression:
        for (name, _), bound in zip(given, found):
            a = call(name, a, bound)
        return a

    return trace.unitwise(node, formula, a, *(b for _, b in given))


@rule("hardtanh")
def _hardtanh(trace: Any, node: Any, a: Any, least: float = -1, most: float = 1) -> Any:
    if (least, most) == (-1, 1):
        return trace.unitwise(node, lambda a: call("hard_tanh", a), a)
    return _within(trace, node, a, least, most)


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
    return where(compare(">", a, Num(0.0)), a, mul(slope, a))


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
    return where(compare(">", a, Num(0.0)), a, mul(Num(float(alpha)), call("elu", a)))


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
    """The larger, and what the smaller one adds; two infinities have no difference."""

    def formula(a: Expression, b: Expression) -> Expression:
        apart = where(compare("==", a, b), Num(0.0), sub(a, b))
        return add(call("max", a, b), call("softplus", negative(call("abs", apart))))

    return trace.unitwise(node, formula, a, b)


def root(a: Expression) -> Expression:
    """A square root whose derivative at 0 is 0, where PyTorch's is."""
    is_zero = compare("==", a, Num(0.0))
    return where(is_zero, Num(0.0), call("sqrt", where(is_zero, Num(1.0), a)))


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
        # The derivative of the root alone is infinite at 0, that of the product 0.
        def formula(a: Expression) -> Expression:
            is_zero = compare("==", a, Num(0.0))
            return where(is_zero, Num(0.0), mul(whole(a, int(power)), call("sqrt", where(is_zero, Num(1.0), a))))

        if exponent < 0:
            one = Num(1.0)
            return trace.unitwise(node, lambda a: mul(div(one, whole(a, int(power))), div(one, call("sqrt", a))), a)
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


# Comparisons, and what is chosen by them. A truth is 1 or 0.


def compare(sign: str, a: Expression, b: Expression) -> Expression:
    return Binary(sign, a, b)


def where(condition: Expression, a: Expression, b: Expression) -> Expression:
    return call("where", condition, a, b)


for _aten, _sign in {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==", "ne": "!="}.items():

    @rule(f"{_aten}.Tensor", f"{_aten}.Scalar")
    def _compare(trace: Any, node: Any, a: Any, b: Any, sign: str = _sign) -> Any:
        return trace.unitwise(node, lambda a, b: compare(sign, a, b), a, b)


@rule("isnan")
def _isnan(trace: Any, node: Any, a: Any) -> Any:
    return trace.unitwise(node, lambda a: compare("!=", a, a), a)


def _truth(operand: Any, a: Expression) -> Expression:
    """What is asked of an operand: a number is true if it is not 0."""
    return a if operand.meta["val"].dtype == torch.bool else compare("!=", a, Num(0.0))


def _logical(name: str, formula: Callable[..., Expression]) -> None:
    @rule(f"logical_{name}.default", f"bitwise_{name}.Tensor", f"bitwise_{name}.default")
    def _(trace: Any, node: Any, *operands: Any) -> Any:
        return trace.unitwise(node, lambda *found: formula(*(_truth(o, f) for o, f in zip(node.args, found))), *operands)


_logical("and", mul)
_logical("or", lambda a, b: call("max", a, b))
_logical("xor", lambda a, b: compare("!=", a, b))
_logical("not", lambda a: sub(Num(1.0), a))


@rule("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def _where(trace: Any, node: Any, condition: Any, a: Any, b: Any) -> Any:
    shape = tuple(node.meta["val"].shape)
    if isinstance(condition, Const):
        if condition.source.constant:
            a, b = trace.unify(node, [trace.tensor(x, shape) for x in (a, b)])
            chosen = np.broadcast_to(condition.values().astype(bool), shape)
            return Data(np.where(chosen, np.broadcast_to(a.array, shape), np.broadcast_to(b.array, shape)))
        raise trace.refuse(node, "its condition depends on parameters", "Multiply by a mask of floats.")
    return trace.unitwise(node, where, condition, a, b)
