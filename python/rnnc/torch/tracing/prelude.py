"""What depends on parameters alone: a small graph that PyTorch runs once a call, and differentiates.

Its results are the engine's weights, in the engine's shapes. Most are a parameter as it is, or a view of it.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch

from .values import Source, Weight


class Prelude:
    """Computes the engine's weights from a module's parameters and buffers."""

    def __init__(self, graph: Any, targets: dict[Any, str], constants: dict[Any, torch.Tensor], walked: dict[Any, Any], weights: dict[str, Weight]):
        self.names = list(weights)
        """The engine's names of the weights."""
        self.reads: list[str] = []
        """The names of the parameters and buffers that are read."""
        build = _Build(walked)
        needed = _needed(weights, walked)
        placeholders: dict[str, Any] = {}
        for node in graph.nodes:
            if node not in needed:
                continue
            if node in constants:
                build.copies[node] = build.constant(constants[node])
            elif node in targets:
                name = targets[node]
                if name not in placeholders:
                    placeholders[name] = build.graph.placeholder(f"p{len(self.reads)}")
                    self.reads.append(name)
                build.copies[node] = placeholders[name]
            else:
                build.copy(node)
        build.graph.output([build.weight(w) for w in weights.values()])
        self.module = torch.fx.GraphModule(build.root, build.graph)

    def __call__(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The engine's weights, of tensors by the names of a module's parameters and buffers."""
        read = [tensors[name] for name in self.reads]
        device = read[0].device if read else torch.device("cpu")
        return dict(zip(self.names, self.module(device, *read)))


def _node_of(source: Source) -> Any:
    return source.node[0] if isinstance(source.node, tuple) else source.node


def _needed(weights: dict[str, Weight], walked: dict[Any, Any]) -> set[Any]:
    """The nodes that some weight depends on."""
    stack = [_node_of(s) for w in weights.values() for s, _ in w.parts]
    needed: set[Any] = set()
    while stack:
        node = stack.pop()
        if node is None or node in needed:
            continue
        needed.add(node)
        for read in node.all_input_nodes:
            values = walked[read] if isinstance(walked[read], (list, tuple)) else [walked[read]]
            stack.extend(_node_of(v.source) for v in values if hasattr(v, "source"))
    return needed


class _Build:
    """The graph while it is made."""

    def __init__(self, walked: dict[Any, Any]):
        self.graph = torch.fx.Graph()
        self.root = torch.nn.Module()
        self.walked = walked
        self.copies: dict[Any, Any] = {}
        self.device = self.graph.placeholder("device")

    def constant(self, value: torch.Tensor) -> Any:
        """A tensor that is known, on the parameters' device."""
        name = f"constant{len(list(self.root.buffers()))}"
        self.root.register_buffer(name, value.detach().clone())
        return self.graph.call_method("to", (self.graph.get_attr(name), self.device))

    def copy(self, node: Any) -> None:
        copy = self.graph.node_copy(node, self._read)
        if "device" in copy.kwargs:
            copy.kwargs = {**copy.kwargs, "device": self.device}
        self.copies[node] = copy

    def _read(self, node: Any) -> Any:
        """The tensor that a node reads, moved about as it was."""
        value = self.walked[node]
        return self._gather(value.source, value.array) if hasattr(value, "source") else self.copies[node]

    def weight(self, weight: Weight) -> Any:
        parts = [self._gather(source, index) for source, index in weight.parts]
        total = parts[0]
        for part in parts[1:]:
            total = self.graph.call_function(torch.add, (total, part))
        return total

    def _source(self, source: Source) -> Any:
        if source.node is None:
            return self.constant(source.value)
        if isinstance(source.node, tuple):
            return self.graph.call_function(operator.getitem, (self.copies[source.node[0]], source.node[1]))
        return self.copies[source.node]

    def _gather(self, source: Source, index: np.ndarray) -> Any:
        """The numbers of a tensor at some places, by views where that is possible."""
        node, shape = self._source(source), tuple(source.value.shape)

        def method(name: str, node: Any, *arguments: Any) -> Any:
            return self.graph.call_method(name, (node, *arguments))

        total, flat = source.value.numel(), index.reshape(-1)
        if index.size == total and np.array_equal(flat, np.arange(total)):
            return node if index.shape == shape else method("reshape", node, index.shape)
        if index.size == total and len(shape) == 2 and np.array_equal(flat, np.arange(total).reshape(shape).T.reshape(-1)):
            turned = method("t", node)
            return turned if index.shape == shape[::-1] else method("reshape", turned, index.shape)
        if flat.size and np.array_equal(flat, np.arange(flat[0], flat[0] + flat.size)):
            row = int(np.prod(shape[1:], dtype=np.int64))
            if flat[0] % row or flat.size % row:
                node, row = method("reshape", node, (-1,)), 1
            part = method("narrow", node, 0, int(flat[0]) // row, flat.size // row)
            return method("reshape", part, index.shape)
        strides = _strides(index)
        if strides is not None:
            return method("as_strided", method("contiguous", node), index.shape, strides, int(flat[0]))
        places = self.constant(torch.from_numpy(np.ascontiguousarray(flat)))
        return method("reshape", method("index_select", method("reshape", node, (-1,)), 0, places), index.shape)


def _strides(index: np.ndarray) -> tuple[int, ...] | None:
    """The strides of an index that is linear in its axes, such as that of a transposed or an expanded tensor."""
    if index.size == 0:
        return None
    origin = int(index.reshape(-1)[0])
    strides = []
    made = np.full(index.shape, origin)
    for axis, length in enumerate(index.shape):
        first = index[tuple([slice(None) if a == axis else 0 for a in range(index.ndim)])]
        strides.append(int(first[1]) - origin if length > 1 else 0)
        made = made + (np.arange(length) * strides[-1]).reshape([-1 if a == axis else 1 for a in range(index.ndim)])
    return tuple(strides) if min(strides, default=0) >= 0 and np.array_equal(made, index) else None
