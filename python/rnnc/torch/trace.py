"""A recurrent cell of PyTorch as text of the language.

`trace(cell, inputs=[40], state=[256, 256])` traces one step and writes it as equations; whatever depends on parameters alone stays
PyTorch's, and gives the engine's weights: `Traced.weights(cell)`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

import numpy as np
import torch
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from .tracing import names as naming
from .tracing.errors import TraceError
from .tracing.export import export
from .tracing.frozen import Frozen, tensor_of, ties
from .tracing.prelude import Prelude
from .tracing.step import Port, Prepared, prepare
from .tracing.text import TooScattered, Writer
from .tracing.values import Const, Data, Layer, Ref, Weight
from .tracing.walk import Walk

__all__ = ["Port", "TraceError", "Traced", "trace"]


@dataclasses.dataclass
class Traced:
    """A step as text, and how its weights follow from a module."""

    text: str
    """The network, in the language."""
    inputs: list[Port]
    """Its inputs: names, and the shapes of one stream in one frame."""
    outputs: list[Port]
    """Its outputs. Two may be the same layer."""
    state: list[Port]
    """The layers whose last value is the state, in the order of the step's arguments."""
    state_tree: pytree.TreeSpec
    """How the user nests the state: `torch.utils._pytree.tree_unflatten(tensors, state_tree)`, a list of the states given."""
    output_tree: pytree.TreeSpec
    """How the user nests the outputs."""
    prelude: Prelude
    """What PyTorch computes once a call."""
    frozen: Frozen
    """What the text takes for granted of the module's tensors."""

    def weights(self, module: torch.nn.Module) -> dict[str, torch.Tensor]:
        """The engine's weights by their names in the text, differentiable functions of the module's parameters.

        Raises:
            TraceError: if a buffer of whole numbers or bools is another than when the step was traced, or parameters are no longer tied.
        """
        if not torch.compiler.is_compiling():
            self.frozen.check(module)
        return self.prelude({name: tensor_of(module, name) for name in self.prelude.reads})


def trace(
    module: torch.nn.Module,
    inputs: Any,
    state: Any = (),
    *,
    step: Callable[..., Any] | None = None,
    name: str | None = None,
) -> Traced:
    """Traces one step of a recurrent cell.

    Args:
        module: the cell. It is traced as it stands, in training (with its dropout) or in evaluation.
        inputs: what a step reads of each frame: a list of sizes, or a dict of names and sizes. A size is a number n, for
            a tensor [B, n]; a `torch.Size`, for [B, *size]; an example tensor [B, ..]; or `"symbol"`, for whole numbers [B]
            that an embedding looks up.
        state: what it reads of the last frame, likewise. Lists and tuples may be nested as the step takes them: `[(256, 256)]`.
        step: how the module is called, if not as `module(*inputs, *state)` or, where it takes one argument for
            the state, `module(*inputs, state)`: `step(module, *inputs, *state)`.
        name: the network's name; by default that of the module's class.

    The step returns `(output, state)`, `(output, *state)`, or the state alone, of which the first tensor is then the output. Outputs may be nested.

    Raises:
        TraceError: if the language cannot express the step, or the sizes do not fit it. It names the operation, the shapes and the line.
    """
    traced = _traced(prepare(module, inputs, state, step), module, name)
    # A size that is a number of the step might be B, which the text cannot know: then another B gives another text.
    again = _traced(prepare(module, inputs, state, step, other_streams=True), module, name)
    if not _are_equal(traced, again, module):
        raise TraceError(
            "the step computes with the number of streams (`x.shape[0]`, `len(x)`), which is another one in each call.\n"
            "  What a stream becomes must not depend on how many there are beside it: leave it out, or give the number as a constant."
        )
    return traced


def trace_again(
    traced: Traced,
    module: torch.nn.Module,
    inputs: Any,
    state: Any = (),
    *,
    step: Callable[..., Any] | None = None,
    name: str | None = None,
) -> Traced:
    """The step in another mode of the module, training or evaluation: `traced` itself, if it is the same there."""
    found = _traced(prepare(module, inputs, state, step), module, name)
    return traced if _are_equal(traced, found, module) else trace(module, inputs, state, step=step, name=name)


def _are_equal(a: Traced, b: Traced, module: torch.nn.Module) -> bool:
    """Whether both are one text, and make the same weights of parameters of any values: of random ones."""
    if a.text != b.text:
        return False
    random = torch.Generator().manual_seed(0)
    tensors = {}
    with torch.no_grad():
        for name in dict.fromkeys((*a.prelude.reads, *b.prelude.reads)):
            tensor = tensor_of(module, name)
            if tensor.is_floating_point():
                tensor = (torch.rand(tensor.shape, generator=random, dtype=torch.float64) + 0.5).to(tensor.device, tensor.dtype)
            tensors[name] = tensor
        found, other = a.prelude(tensors), b.prelude(tensors)
    return found.keys() == other.keys() and all(torch.equal(found[name], other[name]) for name in found)


def _traced(prepared: Prepared, module: torch.nn.Module, name: str | None) -> Traced:
    program = export(prepared)
    graph = program.graph
    names = naming.Names(list(graph.nodes))
    walk = Walk(prepared.streams, names)
    targets: dict[Any, str] = {}
    constants: dict[Any, torch.Tensor] = {}
    buffers: dict[str, torch.Tensor] = {}
    ports = [*prepared.inputs, *prepared.state]
    kinds = ["symbol" if p.symbols else "input" for p in prepared.inputs] + ["state"] * len(prepared.state)
    user = 0
    specs = {s.arg.name: s for s in program.graph_signature.input_specs if hasattr(s.arg, "name")}
    random = torch.Generator().manual_seed(0)
    for node in graph.nodes:
        if node.op == "placeholder":
            spec = specs[node.name]
            if spec.kind is InputKind.USER_INPUT:
                port = ports[user]
                walk.begin(node, kinds[user], tuple(node.meta["val"].shape), port.name)
                user += 1
                continue
            assert spec.target is not None
            value = _tensor(program, spec.target)
            label = spec.target.removeprefix("module.")
            if spec.kind is InputKind.CONSTANT_TENSOR or not value.is_floating_point():
                constants[node] = value
                if spec.kind is not InputKind.CONSTANT_TENSOR and node.users:
                    buffers[label] = value.detach().clone()
                walk.parameter(node, value, label, constant=True)
            else:
                targets[node] = label
                probe = torch.rand(value.shape, generator=random, dtype=torch.float64) + 0.5
                walk.parameter(node, probe.to(value.device, value.dtype), label, constant=False)
        elif node.op == "call_function":
            walk.run(node)
        elif node.op == "output":
            break
        else:
            walk.values[node] = None
    by_name = {n.name: n for n in graph.nodes}
    results = [
        walk.values[by_name[s.arg.name]]
        for s in program.graph_signature.output_specs
        if s.kind is OutputKind.USER_OUTPUT and hasattr(s.arg, "name")
    ]
    fakes = [by_name[s.arg.name].meta["val"] for s in program.graph_signature.output_specs if s.kind is OutputKind.USER_OUTPUT]
    count = len(results) - len(prepared.state)
    writer = Writer(walk.step, walk.number)
    title = naming.identifier(name or type(module).__name__)
    text, outputs = _write(writer, walk, prepared, results, count, title)
    output_ports = [Port(n, tuple(f.shape[1:])) for n, f in zip(outputs, fakes)]
    prelude = Prelude(graph, targets, constants, walk.values, writer.weights)
    frozen = Frozen(buffers, ties(module, prelude.reads))
    return Traced(text, prepared.inputs, output_ports, prepared.state, prepared.call.state, prepared.call.found, prelude, frozen)


def _tensor(program: Any, target: str) -> torch.Tensor:
    for table in (program.state_dict, program.constants):
        if target in table:
            return table[target]
    raise TraceError(f"the step reads `{target}`, which is no parameter, buffer or constant")


def _vector(walk: Walk, value: Any, what: str, shape: tuple[int, ...]) -> np.ndarray:
    """The units of an output or a state."""
    if isinstance(value, Const):
        axis_first = value.array.reshape(walk.step.streams, -1)
        layer = walk.step.layer("equation", axis_first.shape[1])
        layer.expression = Weight([(value.source, axis_first[0])])
        return layer.units()
    if not isinstance(value, Data):
        raise TraceError(f"{what} has no value in the language (it is a comparison, or no tensor)")
    first = walk.step.stream_of(value).reshape(walk.step.streams, -1) if value.array.size else None
    units = walk.step.vector(value)
    if units is None or first is None or not np.array_equal(first, np.broadcast_to(np.arange(walk.step.streams)[:, None], first.shape)):
        raise TraceError(f"{what} is {list(shape)}, and its first dimension is not the batch.\n  Outputs and states are [B, ..].")
    return units


def _write(writer: Writer, walk: Walk, prepared: Any, results: list[Any], count: int, title: str) -> tuple[str, list[str]]:
    """The text of the network, and the names of its outputs."""
    step = walk.step
    taken = writer.taken
    taken.update(p.name for p in (*prepared.inputs, *prepared.state))

    def copy(units: np.ndarray) -> Layer:
        return step.layer("equation", units.size, Ref(units))

    roots: list[Layer] = []
    new_state = []
    for port, value in zip(prepared.state, results[count:]):
        units = _vector(walk, value, f"the new state `{port.name}`", getattr(value, "shape", ()))
        layer = step.owner(units[0])
        if layer.kind != "equation" or layer.name is not None or not np.array_equal(units, layer.units()):
            layer = copy(units)
        layer.name = port.name
        new_state.append((layer, units))
        roots.append(layer)
    outputs: list[Layer] = []
    for index, value in enumerate(results[:count]):
        units = _vector(walk, value, f"output {index + 1}", getattr(value, "shape", ()))
        same = next((layer for layer, u in new_state if np.array_equal(u, units)), None)
        layer = same or step.owner(units[0])
        if same is None and (layer.kind != "equation" or not np.array_equal(units, layer.units())):
            layer = copy(units)
        if layer.name is None and layer.hint is None:
            layer.hint = "y"
        outputs.append(layer)
        roots.append(layer)
    writer.keep = {layer.first for layer in roots}
    layers = writer.reachable(roots)
    writer.give_sizes({port.name: layer for port, (layer, _) in zip(prepared.state, new_state)}, layers)
    writer.measure(layers)
    # Outputs have their names before others, and variables before what has no name of the user's.
    for layer in [*outputs, *layers]:
        if layer.kind == "equation" and layer.name is None and (layer.hint or layer.first in writer.keep):
            writer.name_of(layer)
    try:
        for layer in layers:
            if layer.kind == "equation" and not writer.inlined(layer):
                writer.equation(layer)
    except TooScattered as error:
        raise TraceError(f"the step moves units about too finely: {error}.\n  Reshape so that units of one vector stay together.") from None
    lines = [f"network {title} {{"]
    for port, layer in zip(prepared.inputs, step.layers):
        kind = f"symbol({walk.symbols.get(layer.first, 1)})" if port.symbols else f"vector({port.size})"
        lines.append(f"    input {port.name} : {kind}")
    lines += [f"    {line}" for line in writer.lines]
    unique_outputs = list(dict.fromkeys(layer.name for layer in outputs))
    lines.append(f"    output {', '.join(str(n) for n in unique_outputs)}")
    lines.append("}")
    return "\n".join(lines) + "\n", [str(layer.name) for layer in outputs]
