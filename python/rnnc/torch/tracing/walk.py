"""From an exported graph to layers: every node is looked up in the table of rules."""

from __future__ import annotations

import operator
from typing import Any, Callable

import numpy as np
import torch

from . import names as naming
from .errors import TraceError, refusal
from .rules import MOVES, RULES, SHAPED
from .values import Alias, Const, Data, Expression, Layer, Num, Ref, Source, Step, Weight, product


CHECKS = {torch.ops.aten._assert_tensor_metadata.default}
"""Operations without a result, of what is known while tracing."""


class Walk:
    """One step, while it is traced."""

    def __init__(self, streams: int, names: naming.Names):
        self.step = Step(streams)
        self.names = names
        self.values: dict[Any, Any] = {}
        self.symbols: dict[int, int] = {}
        """The number of symbols of the inputs that are symbols, by their first unit."""

    # What the graph begins with.

    def begin(self, node: Any, kind: str, shape: tuple[int, ...], name: str) -> Layer:
        """An input, or last frame's state: `shape` is that of the tensor, with the streams."""
        layer = self.step.layer(kind, product(shape[1:]))
        layer.name = name
        self.values[node] = self.step.whole(layer, shape)
        return layer

    def parameter(self, node: Any, value: torch.Tensor, label: str, constant: bool) -> None:
        self.values[node] = self._const(Source(node, value, constant, label))

    def constant(self, value: torch.Tensor) -> Const:
        return self._const(Source(None, value, True))

    @staticmethod
    def _const(source: Source) -> Const:
        return Const(source, np.arange(source.value.numel()).reshape(tuple(source.value.shape)))

    # The nodes.

    def run(self, node: Any) -> None:
        """Finds the value of a node."""
        arguments = torch.fx.node.map_arg(node.args, lambda n: self.values[n])
        keywords = torch.fx.node.map_arg(node.kwargs, lambda n: self.values[n])
        read = [self.values[n] for n in node.all_input_nodes]
        flat = [v for r in read for v in (r if isinstance(r, (list, tuple)) else [r])]
        of_step = any(isinstance(v, Data) for v in flat)
        if node.target in CHECKS:
            self.values[node] = None
            return
        if node.target is operator.getitem:
            self.values[node] = arguments[0][arguments[1]]
        elif node.target in SHAPED and not of_step or node.target in SHAPED and not self._reads_beyond_shape(node):
            self.values[node] = self.constant(SHAPED[node.target](node.meta["val"], node))
        elif node.target in MOVES and isinstance(arguments[0], (Data, Const)):
            self.values[node] = self._moved(node, arguments, keywords)
        elif not of_step and not self._is_drawn_mask(node):
            self.values[node] = self._by_torch(node)
        elif node.target in RULES:
            try:
                self.values[node] = RULES[node.target](self, node, *arguments, **keywords)
            except TraceError:
                raise
            except Exception as error:  # noqa: BLE001: whatever it is, the user's line says where
                raise self.refuse(node, f"this form of it is not known ({error})", "Write it by other operations.") from error
        else:
            raise self._unknown(node)
        self._check(node)
        self._name(node)

    @staticmethod
    def _is_drawn_mask(node: Any) -> bool:
        """A dropout of what depends on parameters alone is of the step: it is drawn in each frame."""
        return node.target in RULES and torch.Tag.nondeterministic_seeded in node.target.tags

    def _reads_beyond_shape(self, node: Any) -> bool:
        return any(isinstance(a, torch.fx.Node) for a in node.args[1:])

    def _moved(self, node: Any, arguments: Any, keywords: Any) -> Any:
        first = arguments[0]
        rest = [a.array if isinstance(a, (Data, Const)) else a for a in arguments[1:]]
        try:
            result = MOVES[node.target](first.array, *rest, **keywords)
        except Exception as error:  # noqa: BLE001
            raise self.refuse(node, f"this form of it is not known ({error})", "Write it by other operations.") from error
        return [first.like(r) for r in result] if isinstance(result, list) else first.like(result)

    def _by_torch(self, node: Any) -> Any:
        """What depends on parameters alone is PyTorch's."""
        if not isinstance(node.target, torch._ops.OpOverload):
            raise self._unknown(node)
        if torch.Tag.nondeterministic_seeded in node.target.tags:
            raise self.refuse(node, "it draws random numbers", "Give noise as an input; dropout is torch.nn.Dropout.")
        read = [self.values[n] for n in node.all_input_nodes]
        constant = all(self._is_constant(v) for v in read)
        arguments, keywords = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: self._tensor_of(n))
        with torch.no_grad():
            result = node.target(*arguments, **keywords)

        if isinstance(result, (list, tuple)):
            return [self._const(Source((node, i), v, constant)) if isinstance(v, torch.Tensor) else v for i, v in enumerate(result)]
        return self._const(Source(node, result, constant, self._label(node))) if isinstance(result, torch.Tensor) else result

    def insert(self, before: Any, target: Any, *arguments: Any) -> Any:
        """A further node of what depends on parameters alone, computed ahead of another."""
        with before.graph.inserting_before(before):
            node = before.graph.call_function(target, arguments)
        self.names.belongs_to(node, before)
        self.values[node] = self._by_torch(node)
        return node

    def _label(self, node: Any) -> str:
        """What a tensor of parameters is called: the user's variable, or the one parameter it is made of."""
        labels = {v.source.label for n in node.all_input_nodes if isinstance(v := self.values[n], Const) and v.source.label}
        return self.names.of(node) or (labels.pop() if len(labels) == 1 else "")

    def _is_constant(self, value: Any) -> bool:
        if isinstance(value, (list, tuple)):
            return all(self._is_constant(v) for v in value)
        return not isinstance(value, Const) or value.source.constant

    def _tensor_of(self, node: Any) -> Any:
        value = self.values[node]
        if isinstance(value, Const):
            flat = value.source.value.reshape(-1)
            return flat[torch.from_numpy(np.array(value.array)).to(flat.device)]
        return value

    def _unknown(self, node: Any) -> TraceError:
        target = node.target
        name = str(target)
        if isinstance(target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in target.tags:
            return self.refuse(node, "it draws random numbers", "Give noise as an input; dropout is torch.nn.Dropout.")
        if isinstance(target, torch._ops.HigherOrderOperator) or "grad_enabled" in name:
            return self.refuse(node, "it switches gradients or branches inside the step", "Use .detach() for what gets no gradient.")
        if "conv" in name:
            return self.refuse(node, "convolutions are not in the language", "Unfold the input and use a Linear.")
        return self.refuse(node, "the language has nothing for it", "Write it by operations that docs/tracing.md lists.")

    def _check(self, node: Any) -> None:
        """A rule that gives another shape than PyTorch has a mistake."""
        value, fake = self.values[node], node.meta.get("val")
        if isinstance(value, (Data, Const)) and isinstance(fake, torch.Tensor) and value.shape != tuple(fake.shape):
            raise AssertionError(f"{node.target}: {value.shape} is not {tuple(fake.shape)}")

    def _name(self, node: Any) -> None:
        """Notes what the user calls the value."""
        value = self.values[node]
        if not isinstance(value, Data):
            return
        name = self.names.of(node)
        units = self.step.vector(value)
        if name is None or units is None or units.size == 0:
            return
        layer = self.step.owner(units[0])
        if units.size == layer.size and np.array_equal(units, layer.units()):
            if layer.kind == "equation" and layer.hint is None:
                layer.hint = name
        elif units.size < layer.size and np.array_equal(units, np.arange(units[0], units[0] + units.size)):
            if units[-1] < layer.first + layer.size:
                self.step.aliases.append(Alias(name, units))

    # What the rules use.

    def refuse(self, node: Any, why: str, instead: str) -> TraceError:
        return refusal(node, why, instead, self.step.streams)

    def number(self, node: Any, value: float) -> str:
        """A number of the text."""
        if value != value or abs(value) > 3.4028234e38 or 0 < abs(value) < 1.1754944e-38:
            raise self.refuse(node, f"it has the number {value}", "Use a finite number of single precision.")
        return repr(int(value)) if value == int(value) and abs(value) < 1e9 else repr(float(value))

    def layer(self, node: Any, size: int, expression: Expression) -> Layer:
        layer = self.step.layer("equation", size, expression, node)
        path = naming.module_path(node)
        layer.fallback = path.replace(".", "_") or node.name
        return layer

    def tensor(self, value: Any, shape: tuple[int, ...]) -> Any:
        """A number as a tensor, and a tensor broadcast to a shape."""
        if not isinstance(value, (Data, Const)):
            value = self.constant(torch.tensor(float(value)))
        return value.like(np.broadcast_to(value.array, shape))

    def unify(self, node: Any, values: list[Any]) -> list[Data]:
        """Tensors of parameters become tensors of units, beside others that are."""
        axis = next((self.step.batch_axis(v) for v in values if isinstance(v, Data)), None)
        result = []
        for value in values:
            if isinstance(value, Data):
                result.append(value)
                continue
            if axis is None and self.step.streams in value.shape:
                axis = value.shape.index(self.step.streams)
            if axis is None or axis >= len(value.shape) or value.shape[axis] != self.step.streams:
                raise self.refuse(node, "it joins a parameter to a tensor without the batch", "Expand the parameter to [batch, ..] first.")
            index = np.moveaxis(value.array, axis, 0).reshape(self.step.streams, -1)
            self.same_for_streams(node, value, index)
            layer = self.layer(node, index.shape[1], Weight([(value.source, index[0])]))
            shape = tuple(np.moveaxis(value.array, axis, 0).shape)
            result.append(Data(np.moveaxis(self.step.whole(layer, shape).array, 0, axis)))
        return result

    def same_for_streams(self, node: Any, const: Const, index: np.ndarray) -> None:
        """A parameter that is laid out [streams, ..] must be the same for all streams."""
        if np.all(index == index[0]):
            return
        values = const.source.flat()[index]
        # What was expanded and then computed may differ in its last bits: PyTorch has other instructions for the end of a row.
        if not np.allclose(values, np.broadcast_to(values[0], values.shape), rtol=1e-4, atol=1e-5, equal_nan=True):
            raise self.refuse(node, "a parameter differs from stream to stream of the batch", "Parameters have no batch dimension; give what differs as an input or as state.")

    def symbol(self, node: Any, data: Any, count: int) -> Layer:
        """The symbol input that a look-up reads."""
        units = self.step.vector(data) if isinstance(data, Data) else None
        layer = self.step.owner(units[0]) if units is not None and units.size == 1 else None
        if layer is None or layer.kind != "symbol":
            raise self.refuse(node, "what it looks up is not an input of whole numbers, one a frame", "Let the symbol be an input, inputs=['symbol(256)'].")
        if self.symbols.setdefault(layer.first, count) != count:
            raise self.refuse(node, f"the input has {self.symbols[layer.first]} symbols elsewhere, and {count} here", "Use tables with equally many rows.")
        return layer

    def unitwise(self, node: Any, formula: Callable[..., Expression], *operands: Any, draws: bool = False) -> Data:
        """The tensor of a formula that goes unit by unit. `draws`: equal operands do not give equal results."""
        step = self.step
        tensors = [o for o in operands if isinstance(o, (Data, Const))]
        shape = np.broadcast_shapes(*(t.shape for t in tensors))
        data = [np.broadcast_to(t.array, shape).reshape(-1) for t in tensors if isinstance(t, Data)]
        streams = data[0] % step.streams
        places = step.places(streams)
        if places is None or any(not np.array_equal(d % step.streams, streams) for d in data[1:]):
            raise self.refuse(node, "it combines different streams of the batch", "Keep the batch dimension where it is, in all operands.")
        if any(len(layer_kind) for layer_kind in self._symbols_of(data)):
            raise self.refuse(node, "it computes with a symbol", "Symbols can only be looked up, by an embedding or one_hot.")
        found: list[Any] = []
        for operand in operands:
            if isinstance(operand, Data):
                units = (np.broadcast_to(operand.array, shape).reshape(-1) // step.streams)[places]
                if not np.all(units == units[0]):
                    raise self.refuse(node, "it treats streams of the batch differently", "Treat all streams alike.")
                found.append(units[0])
            elif isinstance(operand, Const):
                number = operand.number()
                if number is not None:
                    self.number(node, number)
                    found.append(number)
                    continue
                index = np.broadcast_to(operand.array, shape).reshape(-1)[places]
                self.same_for_streams(node, operand, index)
                found.append((operand.source, index[0]))
            else:
                self.number(node, float(operand))
                found.append(float(operand))
        count = places.shape[1]
        vectors = [f[1] if isinstance(f, tuple) else f for f in found if not isinstance(f, float)]
        one = count > 1 and not draws and all(np.all(v == v[0]) for v in vectors)
        if one:
            count = 1
        expressions: list[Expression] = []
        for f in found:
            if isinstance(f, float):
                expressions.append(Num(f))
            elif isinstance(f, tuple):
                index = f[1][:1] if np.all(f[1] == f[1][0]) else f[1]
                expressions.append(Weight([(f[0], index)]))
            else:
                expressions.append(Ref(f[:1] if one else f))
        layer = self.layer(node, count, formula(*expressions))
        result = np.empty(streams.size, np.int64)
        result[places] = (layer.units() * step.streams)[None, :] + np.arange(step.streams)[:, None]
        return Data(result.reshape(shape))

    def _symbols_of(self, data: list[np.ndarray]) -> list[str]:
        symbols = [layer for layer in self.step.layers if layer.kind == "symbol"]
        if not symbols:
            return []
        units = np.unique(np.concatenate(data) // self.step.streams)
        return [s.name or "symbol" for s in symbols if s.first in units]

