"""A cell of one's own, written as one step in PyTorch, compiled."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .. import _native
from ..session import Session
from .programs import Signature
from .recurrent import Network
from .trace import Traced, TraceError, trace, trace_again

#: Modes, each a choice of submodules that are in training, in which a cell is kept traced.
MOST_MODES = 16


class _Step(NamedTuple):
    """The step in one mode."""

    traced: Traced
    signature: Signature
    #: Which output of the network each result is. Two results may be one.
    places: list[int]


class Compiled(Network):
    """A cell of one's own over all frames: what `compile` returns. ``module`` is the cell, whose parameters and training mode stay its own."""

    def __init__(
        self, module: nn.Module, inputs: Any, state: Any, batch_first: bool, precision: str, threads: int | None, options: dict[str, Any]
    ) -> None:
        super().__init__(batch_first, precision, threads)
        self.module = module
        self.training = module.training
        self._arguments: tuple[Any, Any, dict[str, Any]] | None = (inputs, state, options)
        self._parts = list(module.modules())
        # A step may be another in training (dropout, zoneout): each mode has a text of its own, unless it is the same.
        self._steps: dict[tuple[bool, ...], _Step | TraceError] = {}
        self._steps[self._mode()] = self._made(trace(module, inputs, state, **options))
        with self._modes_restored():
            module.train(not module.training)
            self._look()

    def _mode(self) -> tuple[bool, ...]:
        return tuple([part.training for part in self._parts])

    @contextlib.contextmanager
    def _modes_restored(self) -> Iterator[None]:
        modes = self._mode()
        try:
            yield
        finally:
            for part, training in zip(self._parts, modes):
                part.training = training

    def _made(self, traced: Traced) -> _Step:
        signature = Signature.of(
            traced.text, state=[port.name for port in traced.state], precision=self.precision, file_name=type(self.module).__name__
        )
        names = [name for name, _ in signature.outputs]
        return _Step(traced, signature, [names.index(port.name) for port in traced.outputs])

    def _look(self) -> _Step | TraceError:
        """Traces the step in the mode in which it is, if it was not."""
        mode = self._mode()
        found = self._steps.get(mode)
        if found is not None:
            return found
        if self._arguments is None or torch.compiler.is_compiling():
            raise _native.Error(
                "the cell is in a mode in which it was not traced (some submodules in training, others in evaluation): call it once in "
                "this mode before torch.compile, or compile it in this mode"
            )
        inputs, state, options = self._arguments
        known = next(step for step in self._steps.values() if isinstance(step, _Step))
        try:
            traced = trace_again(known.traced, self.module, inputs, state, **options)
            found = next((s for s in self._steps.values() if isinstance(s, _Step) and s.traced is traced), None) or self._made(traced)
        except TraceError as error:
            # It is none of this mode's; others go on.
            found = error
        while len(self._steps) >= MOST_MODES:
            self._steps.pop(list(self._steps)[1])
        self._steps[mode] = found
        return found

    def _step(self) -> _Step:
        found = self._look()
        if isinstance(found, TraceError):
            raise TraceError(f"in {'training' if self.module.training else 'evaluation'}, {found}")
        return found

    @property
    def _signature(self) -> Signature:
        return self._step().signature

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        try:
            pickle.dumps(self._arguments)
        except Exception:  # noqa: BLE001: a `step` that is a lambda; modes that were traced go on
            state["_arguments"] = None
        return state

    def __deepcopy__(self, memo: dict[int, Any]) -> Compiled:
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        other.__dict__.update({key: value if key == "_arguments" else copy.deepcopy(value, memo) for key, value in self.__dict__.items()})
        return other

    def _engine_weights(self) -> dict[str, Tensor]:
        return self._step().traced.weights(self.module)

    def session(self, streams: int = 1, threads: int = 1, block: int = 1) -> Session:
        with self._modes_restored():
            self.module.eval()
            return super().session(streams, threads, block)

    session.__doc__ = Network.session.__doc__

    def forward(self, *args: Any, state: Any = None, resets: Tensor | None = None) -> tuple[Any, Any]:
        """Inputs [T, B, ..], and perhaps the state behind them or by name, to (output [T, B, ..], state)."""
        traced, signature, places = self._step()
        inputs = list(args)
        if len(inputs) == len(traced.inputs) + 1 and state is None:
            state = inputs.pop()
        given = self._taken(signature, inputs, state, resets)
        values = [_flat(value, len(port.shape)) if not port.symbols else value for value, port in zip(inputs, traced.inputs)]
        values += inputs[len(values) :]
        if given is not None:
            given = [_flat(leaf, len(port.shape)) for leaf, port in zip(given, traced.state)]
        weights = traced.weights(self.module)
        found, after = self._run(signature, values, [weights[name] for name, _ in signature.weights], given, resets, True)
        found = found if isinstance(found, tuple) else (found,)
        outputs = [_shaped(found[place], port.shape) for place, port in zip(places, traced.outputs)]
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
    is traced as it is in training and as it is in evaluation, and becomes a text of the language (`.text`: that of the mode it is in). Parameters
    and buffers stay the cell's own, and are read at each call. What cannot be written in the language is a `TraceError` that names the operation
    and the line.
    """
    if not isinstance(module, nn.Module):
        raise _native.Error(f"compile takes a torch.nn.Module, whose `forward` is one step; a {type(module).__name__} came")
    return Compiled(module, inputs, state, batch_first, precision, threads, options)
