"""What a tensor is while a step is traced.

A tensor that depends on inputs or state is an array of *units*: each of its numbers is one unit of one layer, in one
stream of the batch. Whatever only moves numbers about (views, slices, concatenations, permutations) moves units about,
and computes nothing. A tensor of parameters alone is left to PyTorch: it is a node of the exported graph, and an array of
which of its numbers stand where.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Iterable, Union

import numpy as np
import torch


@dataclass(eq=False)
class Source:
    """A tensor that depends on parameters and buffers alone, computed by PyTorch once a call."""

    node: Any
    """The node of the exported graph, or None for a constant."""
    value: torch.Tensor
    """Its value for random parameters; of a constant, the value."""
    constant: bool
    """Whether it depends on no parameter and no buffer of floats."""
    label: str = ""

    _flat: np.ndarray | None = None

    def flat(self) -> np.ndarray:
        """The numbers of `value`, in order."""
        if self._flat is None:
            self._flat = self.value.detach().to("cpu", torch.float64).reshape(-1).numpy()
        return self._flat


@dataclass(eq=False)
class Const:
    """A tensor of parameters: which number of its source stands where."""

    source: Source
    array: np.ndarray

    def like(self, array: np.ndarray) -> Const:
        return Const(self.source, array)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def values(self) -> np.ndarray:
        return self.source.flat()[self.array]

    def number(self) -> float | None:
        """Its value if it is a constant of one value."""
        if not self.source.constant or self.array.size == 0:
            return None
        values = self.values()
        first = values.flat[0]
        return float(first) if np.all(values == first) else None


@dataclass(eq=False)
class Data:
    """A tensor of units: `unit * streams + stream` for each of its numbers."""

    array: np.ndarray

    def like(self, array: np.ndarray) -> Data:
        return Data(array)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape


Value = Union[Data, Const, float, int]


# Expressions of the language.


@dataclass(eq=False)
class Num:
    value: float


@dataclass(eq=False)
class Ref:
    """A vector of units of layers."""

    units: np.ndarray


@dataclass(eq=False)
class Weight:
    """A weight of some shape: numbers of one source, or the sum of several such."""

    parts: list[tuple[Source, np.ndarray]]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.parts[0][1].shape

    def key(self) -> tuple:
        return tuple((id(source), index.shape, index.tobytes()) for source, index in self.parts)

    def label(self) -> str:
        names = {source.label for source, _ in self.parts}
        return names.pop() if len(names) == 1 else ""


@dataclass(eq=False)
class Call:
    name: str
    arguments: list[Expression]
    options: str = ""
    unitwise: bool = False
    """Whether its one argument may be read unit by unit, so that one unit stands for many."""


@dataclass(eq=False)
class Binary:
    operator: str
    left: Expression
    right: Expression


@dataclass(eq=False)
class Dense:
    """Products with matrices, [size, inputs] or [heads, size / heads, inputs / heads], and a bias."""

    inputs: list[tuple[Expression, Weight]]
    bias: Weight | None
    size: int
    heads: int = 1


@dataclass(eq=False)
class Norm:
    """`layer_norm` or `rms_norm`."""

    name: str
    argument: Expression
    groups: int
    gain: Weight | None
    bias: Weight | None
    epsilon: str = ""
    """If it is not the language's."""


Expression = Union[Num, Ref, Weight, Call, Binary, Dense, Norm]


def parts_of(expression: Expression) -> Iterable[Expression]:
    """The expressions that an expression is made of, in the order of the text."""
    if isinstance(expression, Call):
        return expression.arguments
    if isinstance(expression, Binary):
        return (expression.left, expression.right)
    if isinstance(expression, Dense):
        return [a for a, _ in expression.inputs]
    if isinstance(expression, Norm):
        return (expression.argument,)
    return ()


@dataclass(eq=False)
class Layer:
    """A vector of units: an input, last frame's state, or an equation."""

    kind: str
    """`input`, `symbol`, `state` (its value a frame ago) or `equation`."""
    size: int
    first: int
    """Its first unit."""
    expression: Expression | None = None
    hint: str | None = None
    """The name of the user's variable."""
    fallback: str = "z"
    name: str | None = None
    node: Any = None

    def units(self) -> np.ndarray:
        return np.arange(self.first, self.first + self.size)


@dataclass(eq=False)
class Alias:
    """A user's variable that is a slice of a layer."""

    name: str
    units: np.ndarray


@dataclass
class Step:
    """The layers of a step that is being traced."""

    streams: int
    layers: list[Layer] = field(default_factory=list)
    aliases: list[Alias] = field(default_factory=list)
    _next: int = 0
    _starts: list[int] = field(default_factory=list)

    def layer(self, kind: str, size: int, expression: Expression | None = None, node: Any = None) -> Layer:
        layer = Layer(kind, size, self._next, expression, node=node)
        self._next += size
        self._starts.append(layer.first)
        self.layers.append(layer)
        return layer

    def owner(self, unit: int) -> Layer:
        """The layer that a unit belongs to."""
        from bisect import bisect_right

        return self.layers[bisect_right(self._starts, int(unit)) - 1]

    def whole(self, layer: Layer, shape: tuple[int, ...]) -> Data:
        """The tensor [streams, ..] that is a whole layer."""
        units = layer.units().reshape((1, *shape[1:]))
        stream = np.arange(self.streams).reshape((self.streams,) + (1,) * (len(shape) - 1))
        return Data(units * self.streams + stream)

    def stream_of(self, data: Data) -> np.ndarray:
        return data.array % self.streams

    def vector(self, data: Data) -> np.ndarray | None:
        """The units of a tensor in one stream, in row-major order; None if streams differ in theirs."""
        places = self.places(self.stream_of(data).reshape(-1))
        if places is None:
            return None
        units = (data.array.reshape(-1) // self.streams)[places]
        return units[0] if np.all(units == units[0]) else None

    def places(self, streams: np.ndarray) -> np.ndarray | None:
        """[streams, N]: where each stream's numbers stand; None if they have not equally many."""
        if streams.size % self.streams:
            return None
        order = np.argsort(streams, kind="stable").reshape(self.streams, -1)
        return order if np.all(streams[order] == np.arange(self.streams)[:, None]) else None

    def batch_axis(self, data: Data) -> int | None:
        """The axis along which the streams lie, if it is one."""
        streams = self.stream_of(data)
        for axis, length in enumerate(streams.shape):
            if length == self.streams:
                shape = [1] * streams.ndim
                shape[axis] = length
                if np.array_equal(streams, np.broadcast_to(np.arange(length).reshape(shape), streams.shape)):
                    return axis
        return None


def product(shape: Iterable[int]) -> int:
    return math.prod(shape)
