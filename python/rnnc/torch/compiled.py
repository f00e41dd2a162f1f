"""A cell of one's own, written as one step in PyTorch, compiled."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .. import _native, sources
from .recurrent import Network
from .trace import Traced, trace


class Compiled(Network):
    """A cell of one's own over all frames: what `compile` returns. ``module`` is the cell, whose parameters stay its own."""

    def __init__(self, module: nn.Module, traced: Traced, batch_first: bool, precision: str, threads: int | None) -> None:
        source = sources.Source(traced.text, type(module).__name__)
        names = [port.name for port in traced.state]
        super().__init__(source, None, names, batch_first, precision, threads)
        self.module = module
        self._traced = traced
        # Two results of a step may be one output of the network.
        self._places = [self.output_names.index(port.name) for port in traced.outputs]

    def _engine_weights(self) -> dict[str, Tensor]:
        return self._traced.weights(self.module)

    def forward(self, *args: Any, state: Any = None, resets: Tensor | None = None) -> tuple[Any, Any]:
        """Inputs [T, B, ..], and perhaps the state behind them or by name, to (output [T, B, ..], state)."""
        traced = self._traced
        inputs = list(args)
        if len(inputs) == len(traced.inputs) + 1 and state is None:
            state = inputs.pop()
        values = [_flat(value, len(port.shape)) if not port.symbols else value for value, port in zip(inputs, traced.inputs)]
        values += inputs[len(values) :]
        given = None
        if state is not None:
            leaves = pytree.tree_leaves(state)
            if len(leaves) != len(traced.state):
                raise _native.Error(f"the state is {self.state_names}; {len(leaves)} tensors came")
            given = [_flat(leaf, len(port.shape)) for leaf, port in zip(leaves, traced.state)]
        weights = self._engine_weights()
        found, after = self._run(values, [weights[name] for name, _ in self._signature.weights], given, resets)
        found = found if isinstance(found, tuple) else (found,)
        outputs = [_shaped(found[place], port.shape) for place, port in zip(self._places, traced.outputs)]
        states = [_shaped(one, port.shape) for one, port in zip(after, traced.state)]
        nested = pytree.tree_unflatten(states, traced.state_tree)
        return pytree.tree_unflatten(outputs, traced.output_tree), tuple(nested) if isinstance(nested, list) else nested


def _flat(tensor: Tensor, dimensions: int) -> Tensor:
    """What a frame has, as one vector."""
    if dimensions == 1:
        return tensor
    return tensor.unsqueeze(-1) if dimensions == 0 else tensor.flatten(-dimensions)


def _shaped(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    if len(shape) == 1:
        return tensor
    return tensor.squeeze(-1) if not shape else tensor.unflatten(-1, shape)


def compile(
    module: nn.Module,
    inputs: Any,
    state: Any = (),
    *,
    batch_first: bool = False,
    precision: str = "f32",
    threads: int | None = None,
    **options: Any,
) -> Compiled:
    """Makes a cell of one's own, one step in PyTorch, a module that runs it over all frames::

        class Cell(torch.nn.Module):
            def forward(self, x, h, c):             # one step: [B, 40], [B, 256], [B, 256]
                ...
                return h, (h, c)                    # output, new state

        rnn = rnnc.torch.compile(Cell(), inputs=[40], state=[256, 256])
        y, (h, c) = rnn(x)                          # x [T, B, 40]; y [T, B, 256]
        y, (h, c) = rnn(x, (h, c), resets=begins)   # goes on; begins [T, B] bool

    ``inputs`` and ``state`` are the sizes of `forward`'s arguments; see `rnnc.torch.trace.trace`, which takes the further ``options``. The step
    is traced once, as it stands (in training, so that its dropout is in), and becomes a text of the language (`.text`). Parameters and buffers
    stay the cell's own, and are read at each call. What cannot be written in the language is a `TraceError` that names the operation and
    the line.
    """
    return Compiled(module, trace(module, inputs, state, **options), batch_first, precision, threads)
