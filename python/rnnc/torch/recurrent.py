"""A network of the language as a module."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, Union

import torch
from torch import Tensor, nn

from .. import _native, sources
from ..plans import Plan
from ..session import Session
from .arguments import NotScriptable, check_resets, check_tensor, check_threads, state_tensors
from .operators import call
from .programs import Program, Signature

State = tuple[Tensor, ...]
#: What is taken as a state.
States = Union[Tensor, Sequence[Tensor], Mapping[str, Tensor]]


def parameter_name(weight: str) -> str:
    """The name of a weight's parameter: the engine's name with slashes for dots, `h/i/W/h[t-1]` of `h.i.W.h[t-1]`.

    Names of parameters have no dots, names of weights no slashes; so each gives the other."""
    return weight.replace(".", "/")


class Network(NotScriptable, nn.Module):
    """What modules that run a network have in common. `forward` is theirs, and which network it is."""

    def __init__(self, batch_first: bool, precision: str, threads: int | None) -> None:
        super().__init__()
        check_threads(threads)
        self.batch_first = batch_first
        self.precision = precision
        self.threads = threads

    @property
    def _signature(self) -> Signature:
        raise NotImplementedError

    @property
    def text(self) -> str:
        """The equations."""
        return json.loads(self._signature.description)[0]

    @property
    def input_names(self) -> list[str]:
        """Names of the network's inputs, in the order of `forward`'s arguments."""
        return [name for name, _, _ in self._signature.inputs]

    @property
    def output_names(self) -> list[str]:
        """Names of its outputs, in their order."""
        return [name for name, _ in self._signature.outputs]

    @property
    def state_names(self) -> list[str]:
        """The layers whose last values are the state, in its order."""
        return [name for name, *_ in self._signature.state]

    @staticmethod
    def _taken(signature: Signature, inputs: Sequence[Any], state: Any, resets: Any) -> list[Tensor] | None:
        """Refuses what is no tensor, by its name. The tensors of the state."""
        for one, (name, _, _) in zip(inputs, signature.inputs):
            check_tensor(f"input `{name}`", one)
        check_resets(resets)
        return state_tensors(state, [name for name, *_ in signature.state])

    def _run(
        self,
        signature: Signature,
        inputs: Sequence[Tensor],
        weights: Sequence[Tensor],
        state: list[Tensor] | None,
        resets: Tensor | None,
        dropout: bool,
    ) -> tuple[Any, State]:
        """Runs a network over [T, B, N], or [T, N] of one stream; with `batch_first` [B, T, N]. All that it takes are tensors (`_taken`)."""
        values = list(inputs)
        alone = len(values) > 0 and len(signature.inputs) > 0 and values[0].dim() == (1 if signature.inputs[0][2] else 2)
        if alone:
            values = [value.unsqueeze(1) for value in values]
            resets = resets.unsqueeze(1) if resets is not None and resets.dim() == 1 else resets
            if state is not None:
                places = [-1 if symbols else -2 for _, _, _, symbols in signature.state]
                state = [one.unsqueeze(place) for one, place in zip(state, places, strict=True)]
        elif self.batch_first:
            values = [value.transpose(0, 1) if value.dim() > 1 else value for value in values]
            resets = resets.transpose(0, 1) if resets is not None and resets.dim() > 1 else resets
        outputs, after = call(signature, values, weights, state, resets, dropout, self.threads)
        if alone:
            outputs = [output.squeeze(1) for output in outputs]
            after = [one.squeeze(-1 if symbols else -2) for one, (_, _, _, symbols) in zip(after, signature.state)]
        elif self.batch_first:
            outputs = [output.transpose(0, 1) for output in outputs]
        return (outputs[0] if len(outputs) == 1 else tuple(outputs)), tuple(after)

    def initial_state(self, streams: int) -> State:
        """Zeros in the state's shapes, [B, N] or [depth, B, N]: to be filled, or learned. The `start` that the text gives a layer is what
        ``state=None`` begins with."""
        signature = self._signature
        weight = next(self.parameters(), None)
        device = None if weight is None else weight.device
        return tuple(
            torch.full(signature.state_shape(place, streams), -1, dtype=torch.int64, device=device)
            if symbols
            else torch.zeros(signature.state_shape(place, streams), dtype=signature.dtype, device=device)
            for place, (_, _, _, symbols) in enumerate(signature.state)
        )

    def plan(self, streams: int = 1, frames: int = 256) -> Plan:
        """What becomes of it: `str` of it is a dozen lines, in a notebook it is a picture."""
        threads = torch.get_num_threads() if self.threads is None else self.threads
        return Plan(self._program.network, streams, frames, True, threads)

    def explain(self, streams: int = 1, frames: int = 256, verbose: bool = False) -> str:
        """What runs over all frames at once, what is a scan, what is a loop, and why."""
        return self.plan(streams, frames).explain(verbose)

    def svg(self) -> str:
        """A picture of layers and cycles."""
        return self.plan().svg()

    def _engine_weights(self) -> dict[str, Tensor]:
        raise NotImplementedError

    def session(self, streams: int = 1, threads: int = 1, block: int = 1) -> Session:
        """Runs it frame by frame, NumPy in and out, with the weights it has now: see `rnnc.Session`."""
        text, name, _, precision, _ = json.loads(self._signature.description)
        with torch.no_grad():
            weights = {name: weight.detach().cpu().numpy() for name, weight in self._engine_weights().items()}
        return Session(text, weights, name=name, streams=streams, threads=threads, block=block, precision="f32" if precision == "f64" else precision)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Writes the weights as a safetensors file of rnnc's, for `rnnc run`, `rnnc.Session`, Rust and C."""
        with torch.no_grad():
            weights = self._engine_weights()
            values = [weights[name].detach().float().cpu().contiguous().numpy().tobytes() for name, _ in self._signature.weights]
        self._program.network.save_weights(path, values)

    @property
    def _program(self) -> Program:
        return self._signature.program


class Recurrent(Network):
    """A network of the language as a module, differentiable in inputs, weights and state.

    ``source`` is a text (docs/language.md), a path of one (``.rnn``), or the name of a cell of the library, which then takes the sizes of its
    inputs and its options::

        Recurrent("network leaky { input x : vector(40)  h = tanh(dense(x; 64) + diag(h[t-1]))  output h }")
        Recurrent("words.rnn", state=["h"])
        Recurrent("lstm_peephole", inputs=40, n=256)

    ``forward(*inputs, state=None, resets=None)`` takes [T, B, N] tensors (``batch_first``: [B, T, N]; of one stream also [T, N]), symbols as
    integers [T, B], and returns the output [T, B, N], or a tuple of all outputs, and the state behind the last frame.

    - ``state``: a tuple, in the order of `state_names`, of [B, N] tensors ([depth, B, N], oldest first, where more than the last frame is read). What
      comes out goes in again (a dict by these names, too); errors go back through it, until it is detached (`rnnc.torch.detach`). ``None``: all sequences begin.
    - ``resets``: [T, B] bool; where it is true, that frame begins a new sequence, whose state begins anew.

    Parameters are `nn.Parameter`s, one a weight, under the names of the language with slashes for dots (`h/i/W/x`); `weights` maps the language's own names
    to them. ``network`` chooses one of a text's networks, ``state`` names the layers that are state and their order, ``precision`` is "f32", "tf32" or
    "bf16" (how coarsely products may round their operands), or "f64" (the reference executor: slow, in double precision), ``threads`` is `torch.get_num_threads()` unless given.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        network: str | None = None,
        state: Sequence[str] | None = None,
        batch_first: bool = False,
        precision: str = "f32",
        threads: int | None = None,
        inputs: int | Sequence[int] | None = None,
        **options: object,
    ) -> None:
        super().__init__(batch_first, precision, threads)
        read = sources.read(source, inputs, options)
        self._network = Signature.of(read.text, network=network, state=state, precision=precision, file_name=read.file_name)
        self._names = [name for name, _ in self._signature.weights]
        self._parameter_names: list[str] = []
        for name, shape in self._signature.weights:
            self._parameter_names.append(parameter_name(name))
            self.register_parameter(parameter_name(name), nn.Parameter(torch.empty(shape, dtype=self._signature.dtype)))
        self.reset_parameters()

    @property
    def _signature(self) -> Signature:
        return self._network

    def reset_parameters(self) -> None:
        """Draws the weights anew, as the text says (`init = ..`), from PyTorch's generator."""
        seed = int(torch.randint(2**62, ()).item())
        self._set(self._program.network.initial(seed))

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Takes the weights of a weights file or a checkpoint of rnnc's."""
        self._set(self._program.network.load_weights(path))

    def _set(self, values: Sequence[bytes]) -> None:
        with torch.no_grad():
            for (name, shape), value in zip(self._signature.weights, values):
                weight = torch.frombuffer(bytearray(value), dtype=torch.float32) if value else torch.empty(0)
                self._parameters[parameter_name(name)].copy_(weight.view(shape))  # pyright: ignore

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """Parameters by the names of the language: `rnn.weights["h.i.W.h[t-1]"]`."""
        return {name: getattr(self, parameter_name(name)) for name in self._names}

    def _engine_weights(self) -> dict[str, Tensor]:
        return dict(self.weights)

    def forward(
        self, *inputs: Tensor, state: States | None = None, resets: Tensor | None = None
    ) -> tuple[Any, State]:
        """Inputs [T, B, N] to (output [T, B, N], state): see the class."""
        own: dict[str, Any] = self._parameters
        weights = [own[name] if name in own else getattr(self, name) for name in self._parameter_names]
        given = self._taken(self._network, inputs, state, resets)
        return self._run(self._network, inputs, weights, given, resets, self.training)

    def extra_repr(self) -> str:
        signature = self._signature
        given = ", ".join(f"{name}: {f'symbol({size})' if symbols else size}" for name, size, symbols in signature.inputs)
        taken = ", ".join(f"{name}: {size}" for name, size in signature.outputs)
        kept = ", ".join(f"{name}: {size}" if depth == 1 else f"{name}: {depth} x {size}" for name, depth, size, _ in signature.state)
        return f"{signature.name}: ({given}) -> ({taken}), state ({kept})"


_States = TypeVar("_States")


def detach(state: _States) -> _States:
    """The same state, or tuple, list or dict of states, through which no errors go back: between the windows of truncated BPTT."""
    if state is None:
        return state
    if isinstance(state, Tensor):
        return state.detach()  # pyright: ignore
    if isinstance(state, dict):
        return {key: detach(one) for key, one in state.items()}  # pyright: ignore
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*(detach(one) for one in state))
    return type(state)(detach(one) for one in state)  # pyright: ignore


