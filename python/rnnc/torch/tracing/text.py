"""From layers to text: which layers become equations, what they are called, and which weights that makes.

A layer that is read once and that the user has no name for is written where it is read. Sums of products are
one `dense`, and what is added to it last is its bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

from . import names as naming
from .values import Alias, Binary, Call, Dense, Expression, Layer, Norm, Num, Ref, Step, Weight, parts_of

LONGEST = 90
"""An equation that is about as long is split."""
PIECES = 4096
"""A vector of more pieces than this is not written out."""


COMPARISONS = {"<", "<=", ">", ">=", "==", "!="}
"""They stand last, after sums."""


class TooScattered(Exception):
    """A vector that would take too many slices to write out."""


@dataclass
class Written:
    """A network as text."""

    text: str
    weights: dict[str, Weight]
    outputs: list[str]


class Writer:
    """Writes one network."""

    def __init__(self, step: Step, number: Callable[[Any, float], str]):
        self.step = step
        self.number = number
        self.uses: dict[int, int] = {}
        self.whole: dict[int, bool] = {}
        self.length: dict[int, int] = {}
        self.taken: set[str] = set()
        self.weights: dict[str, Weight] = {}
        self.params: dict[tuple, str] = {}
        self.lines: list[str] = []
        self.keep: set[int] = set()
        self.used_aliases: dict[int, str] = {}

    # Which layers are equations.

    def _layers_in(self, units: np.ndarray) -> list[Layer]:
        starts = np.asarray(self.step._starts)
        owners = np.unique(np.searchsorted(starts, units, side="right") - 1)
        return [self.step.layers[i] for i in owners]

    def _refs(self, expression: Expression) -> list[Ref]:
        found, stack = [], [expression]
        while stack:
            e = stack.pop()
            if isinstance(e, Ref):
                found.append(e)
            stack.extend(parts_of(e))
        return found

    def _is_whole(self, units: np.ndarray) -> Layer | None:
        layer = self.step.owner(units[0])
        if units.size == layer.size and np.array_equal(units, layer.units()):
            return layer
        if layer.size == 1 and np.all(units == units[0]):
            return layer
        return None

    def reachable(self, roots: list[Layer]) -> list[Layer]:
        seen: set[int] = set()
        stack = list(roots)
        while stack:
            layer = stack.pop()
            if layer.first in seen:
                continue
            seen.add(layer.first)
            if layer.expression is None:
                continue
            for ref in self._refs(layer.expression):
                for other in self._layers_in(ref.units):
                    self.uses[other.first] = self.uses.get(other.first, 0) + 1
                    if self._is_whole(ref.units) is not other:
                        self.whole[other.first] = False
                    stack.append(other)
        return [layer for layer in self.step.layers if layer.first in seen]

    def give_sizes(self, states: dict[str, Layer], layers: list[Layer]) -> None:
        """A state that follows from itself and from numbers alone is told how many units it has."""
        while True:
            sized = self._sized(states, layers)
            lost = next((s for s in states.values() if s.first not in sized and s.expression is not None), None)
            if lost is None or lost.expression is None:
                return
            lost.expression = Binary("+", lost.expression, Call("broadcast", [Num(0.0)], str(lost.size)))

    def _sized(self, states: dict[str, Layer], layers: list[Layer]) -> set[int]:
        """The layers whose size follows from an input, a weight, a slice, or a layer whose size does."""
        sized = {layer.first for layer in layers if layer.kind in ("input", "symbol")}

        def says(e: Expression, size: int) -> bool:
            if isinstance(e, Ref):
                whole = self._is_whole(e.units)
                return whole is None or (whole.first in sized and (whole.size > 1 or size == 1))
            if isinstance(e, Dense) or (isinstance(e, Call) and e.name in ("broadcast", "sum", "mean")):
                return True
            if isinstance(e, Weight):
                return e.shape[0] > 1 or size == 1
            return any(says(p, size) for p in parts_of(e))

        while True:
            before = len(sized)
            for layer in layers:
                new = states.get(layer.name or "") if layer.kind == "state" else None
                if new is not None and new.first in sized:
                    sized.add(layer.first)
                if layer.expression is not None and says(layer.expression, layer.size):
                    sized.add(layer.first)
            if len(sized) == before:
                return sized

    def _estimate(self, expression: Expression) -> int:
        if isinstance(expression, Ref):
            layer = self._is_whole(expression.units)
            if layer is None:
                return 16
            return self.length.get(layer.first, 0) if self.inlined(layer) else 6
        own = {Num: 3, Weight: 8, Call: 8, Binary: 4, Dense: 12, Norm: 12}[type(expression)]
        return own + sum(self._estimate(p) for p in parts_of(expression))

    def inlined(self, layer: Layer) -> bool:
        return (
            layer.kind == "equation"
            and layer.name is None
            and layer.hint is None
            and layer.first not in self.keep
            and self.uses.get(layer.first, 0) == 1
            and self.whole.get(layer.first, True)
            and self.length.get(layer.first, 0) <= LONGEST
            and not isinstance(layer.expression, Weight)
        )

    # Expressions with inlined layers in place.

    def resolve(self, expression: Expression) -> Expression:
        if isinstance(expression, Ref):
            layer = self._is_whole(expression.units)
            if layer is not None and self.inlined(layer) and layer.expression is not None:
                return self.resolve(layer.expression)
            return expression
        if isinstance(expression, Call):
            return Call(expression.name, [self.resolve(a) for a in expression.arguments], expression.options, expression.unitwise)
        if isinstance(expression, Norm):
            return Norm(expression.name, self.resolve(expression.argument), expression.groups, expression.gain, expression.bias, expression.epsilon)
        if isinstance(expression, Dense):
            inputs = [(self.resolve(a), w) for a, w in expression.inputs]
            return Dense(inputs, expression.bias, expression.size, expression.heads)
        if isinstance(expression, Binary):
            return self._joined(Binary(expression.operator, self.resolve(expression.left), self.resolve(expression.right)))
        return expression

    def _joined(self, e: Binary) -> Expression:
        """A sum of products with matrices is one `dense`."""
        if e.operator != "+":
            return e
        for dense, other in ((e.left, e.right), (e.right, e.left)):
            if not isinstance(dense, Dense):
                continue
            if isinstance(other, Weight) and other.shape == (dense.size,):
                return Dense(dense.inputs, self._sum(dense.bias, other), dense.size, dense.heads)
        a, b = e.left, e.right
        if isinstance(a, Dense) and isinstance(b, Dense) and a.heads == b.heads == 1 and a.size == b.size:
            reads = [i for i, _ in a.inputs + b.inputs]
            refs = [r.units.tobytes() for r in reads if isinstance(r, Ref)]
            if len(set(refs)) == len(refs):
                inputs = a.inputs + b.inputs
                if len(inputs) == 2:  # Their order changes no bit: what can be computed for all frames stands first.
                    inputs.sort(key=lambda i: any(l.kind == "state" for r in self._refs(i[0]) for l in self._layers_in(r.units)))
                return Dense(inputs, self._sum(a.bias, b.bias), a.size)
        return e

    @staticmethod
    def _sum(a: Weight | None, b: Weight | None) -> Weight | None:
        if a is None or b is None:
            return a or b
        return Weight(a.parts + b.parts)

    # Text.

    def operand(self, units: np.ndarray, scalar: bool) -> str:
        """A vector of units; with `scalar`, one unit may stand for all of them."""
        layer = self._is_whole(units)
        if layer is not None and (units.size == layer.size or scalar):
            return self.name_of(layer)
        if scalar and units.size > 1 and np.all(units == units[0]):
            units = units[:1]
        for alias in reversed(self.step.aliases):
            if alias.units.size == units.size and np.array_equal(alias.units, units):
                return self.alias(alias)
        owner = self.step.owner(units[0])
        end = owner.first + owner.size
        if units[-1] < end and units[-1] - units[0] == units.size - 1 and np.all(np.diff(units) == 1):
            first = int(units[0]) - owner.first
            if first == 0 and units.size == owner.size:
                return self.name_of(owner)
            return f"slice({self.name_of(owner)}; {first}, {first + units.size})"
        each = self._repeats(units)
        if each > 1:
            return f"broadcast({self.operand(units[::each], False)}; {units.size})"
        return f"concat({', '.join(self.pieces(units))})"

    @staticmethod
    def _repeats(units: np.ndarray) -> int:
        """How often each unit is repeated, if all equally often."""
        changes = np.flatnonzero(np.diff(units)) + 1
        lengths = np.diff(np.concatenate(([0], changes, [units.size])))
        each = int(np.gcd.reduce(lengths))
        return each

    def pieces(self, units: np.ndarray) -> list[str]:
        """A vector as runs of units of one layer, and of one unit repeated."""
        starts = np.asarray(self.step._starts)
        owner = np.searchsorted(starts, units, side="right")
        run = (np.diff(units) == 1) & (np.diff(owner) == 0)
        same = np.diff(units) == 0
        kind = np.where(same, 2, np.where(run, 1, 0))
        pieces, begin = [], 0
        size = units.size
        while begin < size:
            end = begin + 1
            if end < size and kind[begin]:
                while end < size and kind[end - 1] == kind[begin]:
                    end += 1
                # A run that is followed by a repeated unit leaves that unit to it.
                if end < size and kind[begin] == 1 and kind[end - 1] == 2:
                    end -= 1
            part = units[begin:end]
            if part.size > 1 and part[0] == part[1]:
                pieces.append(f"broadcast({self.operand(part[:1], False)}; {part.size})")
            else:
                pieces.append(self.operand(part, False))
            begin = end
            if len(pieces) > PIECES:
                raise TooScattered(f"a vector of {size} units in more than {PIECES} pieces")
        return pieces

    def alias(self, alias: Alias) -> str:
        key = id(alias)
        if key not in self.used_aliases:
            owner = self.step.owner(alias.units[0])
            first = int(alias.units[0]) - owner.first
            text = f"slice({self.name_of(owner)}; {first}, {first + alias.units.size})"
            name = naming.unique(naming.identifier(alias.name), self.taken)
            self.used_aliases[key] = name
            self.lines.append(f"{name} = {text}")
        return self.used_aliases[key]

    def name_of(self, layer: Layer) -> str:
        if layer.name is None:
            layer.name = self._new_name(layer)
        return layer.name + "[t-1]" if layer.kind == "state" else layer.name

    def _new_name(self, layer: Layer) -> str:
        hint = layer.hint
        name = naming.identifier(hint or layer.fallback)
        if hint and name in self.taken:
            path = naming.module_path(layer.node) if layer.node is not None else ""
            name = naming.identifier(f"{path.replace('.', '_')}_{hint}") if path else name
        return naming.unique(name, self.taken)

    def param(self, weight: Weight) -> str:
        """The name of a parameter's own equation."""
        key = weight.key()
        if key not in self.params:
            label = weight.label().replace(".", "_") or "constant"
            name = naming.unique(naming.identifier(label), self.taken)
            self.params[key] = name
            self.weights[f"{name}.param"] = weight
            self.lines.append(f"{name} = param({weight.shape[0]})")
        return self.params[key]

    def equation(self, layer: Layer) -> None:
        """Writes the equation of a layer."""
        assert layer.expression is not None
        name = self.name_of(layer)
        if isinstance(layer.expression, Weight):
            weight = layer.expression
            self.weights[f"{name}.param"] = weight
            self.lines.append(f"{name} = param({weight.shape[0]})")
            return
        self.counts: dict[str, int] = {}
        self.equation_name = name
        self.lines.append(f"{name} = {self.print(self.resolve(layer.expression), layer.size)}")

    def _count(self, what: str) -> str:
        self.counts[what] = self.counts.get(what, 0) + 1
        return "" if self.counts[what] == 1 else str(self.counts[what])

    def print(self, e: Expression, size: int, level: int = 0, right: bool = False, scalar: bool = False) -> str:
        """An expression of so many units, in brackets if it stands beside what binds tighter than `level`."""
        if isinstance(e, Num):
            text = self.number(None, e.value)
            return f"({text})" if text.startswith("-") and level else text
        if isinstance(e, Ref):
            return self.operand(e.units, scalar)
        if isinstance(e, Weight):
            return self.param(e)
        if isinstance(e, Dense):
            return self._dense(e)
        if isinstance(e, Norm):
            return self._norm(e, size)
        if isinstance(e, Call):
            inner = self._inner_size(e)
            arguments = ", ".join(self.print(a, inner, scalar=e.unitwise and scalar or len(e.arguments) > 1) for a in e.arguments)
            return f"{e.name}({arguments}{'; ' + e.options if e.options else ''})"
        return self._binary(e, size, level, right)

    def _inner_size(self, e: Call) -> int:
        return 0

    def _binary(self, e: Binary, size: int, level: int, right: bool) -> str:
        if e.operator == "-" and isinstance(e.left, Num) and e.left.value == 0:
            text = "-" + self.print(e.right, size, 3)
            return f"({text})" if level else text
        if e.operator == "*":
            for learned, other in ((e.left, e.right), (e.right, e.left)):
                if isinstance(learned, Weight) and learned.shape[0] > 1 and not isinstance(other, (Num, Weight)):
                    return self._diag(other, learned)
        if e.operator in COMPARISONS:
            left, right = (self.print(part, size, 1, scalar=True) for part in (e.left, e.right))
            return f"({left} {e.operator} {right})" if level else f"{left} {e.operator} {right}"
        own = 1 if e.operator in "+-" else 2
        left = self.print(e.left, size, own, scalar=True)
        text = f"{left} {e.operator} {self.print(e.right, size, own, True, scalar=True)}"
        return f"({text})" if own < level or (own == level and right) else text

    def _diag(self, argument: Expression, weight: Weight) -> str:
        number = self._count("diag")
        text = self._argument(argument)
        self.weights[f"{self.equation_name}.diag{number}.{self._place(argument, text, 1, [])}"] = weight
        return f"diag({text})"

    def _argument(self, e: Expression) -> str:
        return self.print(e, 0)

    def _place(self, e: Expression, text: str, place: int, before: list[str]) -> str:
        """What an input's weight is called after: its name, or its place."""
        bare = text[:-5] if text.endswith("[t-1]") else text
        return text if bare.replace("_", "a").isalnum() and text not in before else str(place)

    def _dense(self, e: Dense) -> str:
        number = self._count("dense")
        texts: list[str] = []
        for i, (argument, weight) in enumerate(e.inputs):
            text = self._argument(argument)
            place = self._place(argument, text, i + 1, texts)
            texts.append(text)
            self.weights[f"{self.equation_name}.W{number}.{place}"] = weight
        options = [str(e.size)]
        if e.bias is None:
            options.append("bias = none")
        else:
            self.weights[f"{self.equation_name}.bias{number}"] = e.bias
        if e.heads > 1:
            options.append(f"heads = {e.heads}")
        return f"dense({', '.join(texts)}; {', '.join(options)})"

    def _norm(self, e: Norm, size: int) -> str:
        number = self._count(e.name)
        text = self._argument(e.argument)
        options = [f"groups = {e.groups}"] if e.groups > 1 else []
        if e.epsilon:
            options.append(f"epsilon = {e.epsilon}")
        if e.gain is None:
            options.append("affine = none")
        else:
            self.weights[f"{self.equation_name}.{e.name}{number}.gain"] = e.gain
            if e.bias is not None:
                self.weights[f"{self.equation_name}.{e.name}{number}.bias"] = e.bias
        return f"{e.name}({text}{'; ' + ', '.join(options) if options else ''})"

    def measure(self, layers: list[Layer]) -> None:
        """About how long each layer's equation is, layers that are written within it included."""
        for layer in layers:
            if layer.expression is not None:
                self.length[layer.first] = self._estimate(layer.expression)
