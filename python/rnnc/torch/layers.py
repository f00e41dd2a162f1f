"""`torch.nn`'s recurrent layers, compiled: the same arguments, parameters, `state_dict` and results.

All layers of one direction are one network, so that they run in a pipeline. Of both directions, each layer is a network of two independent
loops: one over the sequence, the other over the sequence turned round, since its state comes in at the sequence's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from .. import _native
from ..plans import Plan
from .arguments import NotScriptable, check_tensor, check_threads, state_tensors
from .operators import call
from .programs import Signature


class _Kind:
    """What is particular of a cell: its equations, and how its weights are those of `torch.nn`."""

    def __init__(self, equations: str, projected: str, carried: Sequence[str]) -> None:
        self.equations = equations
        self.projected = projected
        #: Names of the state, h first.
        self.carried = carried


# In these, @ is the suffix of the layer, and BIAS says whether there are biases; the input is x@.
_LSTM = """
    g@ = dense(x@, h@[t-1]; {gates}{bias})
    i@ = sigmoid(slice(g@; 0, {n}))
    f@ = sigmoid(slice(g@; {n}, 2 * {n}))
    z@ = tanh(slice(g@; 2 * {n}, 3 * {n}))
    o@ = sigmoid(slice(g@; 3 * {n}, 4 * {n}))
    c@ = f@ * c@[t-1] + i@ * z@
"""
_KINDS = {
    "LSTM": _Kind(
        _LSTM + "    h@ = o@ * tanh(c@)\n",
        _LSTM + "    m@ = o@ * tanh(c@)\n    h@ = dense(m@; {projection}, bias = none)\n",
        ("h", "c"),
    ),
    "GRU": _Kind(
        """
    a@ = dense(x@; {gates}{bias})
    b@ = dense(h@[t-1]; {gates}{bias})
    r@ = sigmoid(slice(a@; 0, {n}) + slice(b@; 0, {n}))
    u@ = sigmoid(slice(a@; {n}, 2 * {n}) + slice(b@; {n}, 2 * {n}))
    v@ = tanh(slice(a@; 2 * {n}, 3 * {n}) + r@ * slice(b@; 2 * {n}, 3 * {n}))
    h@ = (1 - u@) * v@ + u@ * h@[t-1]
""",
        "",
        ("h",),
    ),
    "RNN_TANH": _Kind("    h@ = tanh(dense(x@, h@[t-1]; {n}{bias}))\n", "", ("h",)),
    "RNN_RELU": _Kind("    h@ = relu(dense(x@, h@[t-1]; {n}{bias}))\n", "", ("h",)),
}
_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def _network(
    mode: str,
    sizes: tuple[int, int, int],
    layers: tuple[int, ...],
    directions: int,
    bias: bool,
    dropout: float,
    every: bool,
    precision: str,
) -> Signature:
    """The network of some layers. `every`: its outputs are its whole state, in every frame."""
    size, hidden, projection = sizes
    kind = _KINDS[mode]
    equations = kind.projected if projection else kind.equations
    written = equations.format(
        n=hidden, gates=_GATES[mode] * hidden, projection=projection, bias="" if bias else ", bias = none"
    )
    lines = []
    state: list[str] = []
    for layer in layers:
        for direction in range(directions):
            suffix = f"{layer}{'r' if direction else ''}"
            source = f"x{suffix}"
            if layer == layers[0]:
                lines.insert(direction, f"    input {source} : vector({size})")
                body = written
            else:
                before = f"h{layer - 1}"
                if dropout:
                    lines.append(f"    d{layer - 1} = dropout({before}; {dropout!r})")
                    before = f"d{layer - 1}"
                body = written.replace("x@", before)
            lines.append(body.replace("@", suffix).strip("\n"))
            state += [name + suffix for name in kind.carried]
    last = layers[-1]
    tops = [f"h{last}{'r' if direction else ''}" for direction in range(directions)]
    outputs = tops + [name for name in state if name not in tops] if every else tops
    lines.append(f"    output {', '.join(outputs)}")
    text = "\n".join([f"network {mode.lower()} {{", *lines, "}"]) + "\n"
    return Signature.of(text, state=state, precision=precision, file_name=f"rnnc.torch {mode}")


class _Layers(NotScriptable, nn.RNNBase):
    """What the three have in common. Parameters, their names, their initial values and `state_dict` are `nn.RNNBase`'s."""

    #: How coarsely products may round their operands: "f32", "tf32" or "bf16".
    precision: str
    #: How many threads, or None for `torch.get_num_threads()`.
    threads: int | None

    def __init__(self, mode: str, *args: Any, precision: str = "f32", threads: int | None = None, **kwargs: Any) -> None:
        super().__init__(mode, *args, **kwargs)
        check_threads(threads)
        if self.proj_size and mode != "LSTM":
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        self.precision = precision
        self.threads = threads
        if self.dropout == 1:
            raise _native.Error("dropout = 1 leaves nothing of a layer; rnnc takes less than 1")
        self._signatures: dict[tuple[tuple[int, ...], bool, float, str], Signature] = {}
        for layers in self._parts():
            for every in (False, True):
                self._signature(layers, every)

    def flatten_parameters(self) -> None:
        """Does nothing: there is no flat copy of the weights. `nn.RNNBase` calls it."""

    def _weights(self, layers: Sequence[int]) -> list[Tensor]:
        """The engine's weights of some layers, in the order of their texts."""
        # Parameters that are parametrized, or another's for a call, are attributes.
        own: dict[str, Any] = self._parameters
        weights: list[Tensor] = []
        for layer in layers:
            for direction in range(2 if self.bidirectional else 1):
                names = self._all_weights[layer * (2 if self.bidirectional else 1) + direction]
                found = [own[name] if name in own else getattr(self, name) for name in names]
                if self.bias:
                    input_weight, state_weight, input_bias, state_bias, *projection = found
                    if self.mode == "GRU":
                        found = [input_weight, input_bias, state_weight, state_bias]
                    else:
                        found = [input_weight, state_weight, input_bias + state_bias, *projection]
                weights += found
        return weights

    def _signature(self, layers: tuple[int, ...], every: bool) -> Signature:
        key = (layers, every, float(self.dropout), self.precision)
        found = self._signatures.get(key)
        if found is None:
            directions = 2 if self.bidirectional else 1
            out = self.proj_size or self.hidden_size
            size = self.input_size if layers[0] == 0 else out * directions
            sizes = (size, self.hidden_size, self.proj_size)
            found = _network(self.mode, sizes, layers, directions, self.bias, key[2], every, self.precision)
            self._signatures[key] = found
        return found

    def _parts(self) -> list[tuple[int, ...]]:
        """The layers that are a network together."""
        layers = range(self.num_layers)
        return [(layer,) for layer in layers] if self.bidirectional else [tuple(layers)]

    def plan(self, streams: int = 1, frames: int = 256) -> Plan:
        """What becomes of it; of both directions, what becomes of the first layer."""
        threads = torch.get_num_threads() if self.threads is None else self.threads
        return Plan(self._signature(self._parts()[0], False).program.network, streams, frames, True, threads)

    def explain(self, streams: int = 1, frames: int = 256, verbose: bool = False) -> str:
        """What runs over all frames at once, what is a scan, what is a loop, and why."""
        return self.plan(streams, frames).explain(verbose)

    def _run(self, input: Tensor | PackedSequence, given: Sequence[Tensor] | None) -> tuple[Any, list[Tensor]]:
        """Output, and h_n (and c_n) of the sequences."""
        names = [f"{name}_0" for name in _KINDS[self.mode].carried]
        given = state_tensors(given, names)
        if isinstance(input, PackedSequence):
            data, batch_sizes, order, back = input
            self._check_input(data, 2)
            if not batch_sizes.numel() or not data.shape[0]:
                raise _native.Error("the packed sequence is empty")
            # Padded, in the order of lengths: what comes behind a sequence's end is not looked at.
            values, lengths = pad_packed_sequence(PackedSequence(data, batch_sizes))
            if given is not None and order is not None:
                given = [one.index_select(1, order) for one in given]
            outputs, after = self._run_padded(values, given, lengths)
            packed = pack_padded_sequence(outputs, lengths)
            if back is not None:
                after = [one.index_select(1, back) for one in after]
            return PackedSequence(packed.data, packed.batch_sizes, order, back), after
        check_tensor("input", input)
        if input.dim() not in (2, 3):
            raise ValueError(f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.dim()}D instead")
        self._check_input(input, input.dim())
        alone = input.dim() == 2
        if alone:
            input = input.unsqueeze(1)
            if given is not None:
                given = [one.unsqueeze(1) for one in given]
        elif self.batch_first:
            input = input.transpose(0, 1)
        outputs, after = self._run_padded(input, given, None)
        if alone:
            return outputs.squeeze(1), [one.squeeze(1) for one in after]
        return (outputs.transpose(0, 1) if self.batch_first else outputs), after

    def _check_input(self, input: Tensor, dimensions: int) -> None:
        if input.dim() != dimensions or input.size(-1) != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.size(-1)}"
            )

    def _check_state(self, given: Sequence[Tensor], streams: int) -> None:
        directions = 2 if self.bidirectional else 1
        out = self.proj_size or self.hidden_size
        for name, size, one in zip(("hx[0]", "hx[1]") if len(given) > 1 else ("hx",), (out, self.hidden_size), given):
            expected = (self.num_layers * directions, streams, size)
            if tuple(one.shape) != expected:
                raise RuntimeError(f"Expected {name} size {expected}, got {list(one.shape)}")

    def _run_padded(
        self, values: Tensor, given: Sequence[Tensor] | None, lengths: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Of [T, B, N], and the lengths of the sequences in it, longest first."""
        if given is not None:
            self._check_state(given, values.shape[1])
        if not self.bidirectional:
            outputs, after = self._run_layers(self._parts()[0], [values], given, lengths)
            return outputs[0], after
        turned = None if lengths is None else _turned(lengths, values.shape[0])
        all_after: list[list[Tensor]] = []
        for layer in range(self.num_layers):
            own = None if given is None else [one[2 * layer : 2 * layer + 2] for one in given]
            if layer and self.dropout:
                values = torch.dropout(values, float(self.dropout), self.training)
            outputs, after = self._run_layers((layer,), [values, _turn(values, turned)], own, lengths)
            values = torch.cat([outputs[0], _turn(outputs[1], turned)], -1)
            all_after.append(after)
        return values, [torch.cat(one) for one in zip(*all_after)]

    def _run_layers(
        self, layers: tuple[int, ...], inputs: Sequence[Tensor], given: Sequence[Tensor] | None, lengths: Tensor | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Some layers, as one network: its top outputs, and the state of each kind, [layers, B, N]."""
        directions = len(inputs)
        kinds = len(_KINDS[self.mode].carried)
        state = None
        if given is not None:
            state = [one[place] for place in range(len(layers) * directions) for one in given]
        signature = self._signature(layers, lengths is not None)
        weights = self._weights(layers)
        outputs, after = call(signature, inputs, weights, state, None, self.training, self.threads)
        if lengths is not None:
            names = [name for name, _ in signature.outputs]
            last = (lengths - 1).to(outputs[0].device)
            streams = torch.arange(len(lengths), device=last.device)
            after = [outputs[names.index(name)][last, streams] for name, _, _, _ in signature.state]
        if len(after) == kinds:
            return outputs[:directions], [one.unsqueeze(0) for one in after]
        return outputs[:directions], [torch.stack(after[kind::kinds]) for kind in range(kinds)]


def _turned(lengths: Tensor, frames: int) -> Tensor:
    """For each frame of each sequence, the frame that stands there when the sequence is turned round: [T, B]. Padding stays."""
    frame = torch.arange(frames, device=lengths.device).unsqueeze(1)
    return torch.where(frame < lengths, lengths - 1 - frame, frame)


def _turn(values: Tensor, turned: Tensor | None) -> Tensor:
    """Sequences turned round, each by itself."""
    if turned is None:
        return values.flip(0)
    return values.gather(0, turned.to(values.device).unsqueeze(-1).expand_as(values))


class LSTM(_Layers):
    """`torch.nn.LSTM`, compiled.

    The arguments, parameters and results are those of `torch.nn.LSTM`: input [T, B, N], [B, T, N] (``batch_first``), [T, N], or a
    `PackedSequence`; h_0 and c_0 as [layers * directions, B, N], or zeros. A ``state_dict`` of one loads into the other. In addition ``precision`` ("f32", "tf32",
    "bf16": how coarsely products may round their operands) and ``threads`` (`torch.get_num_threads()` unless given).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input: Tensor | PackedSequence, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Any, tuple[Tensor, Tensor]]:
        """Input, (h_0, c_0) to output, (h_n, c_n)."""
        output, (h, c) = self._run(input, hx)
        return output, (h, c)


class GRU(_Layers):
    """`torch.nn.GRU`, compiled: see `LSTM`; its state is h alone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        super().__init__("GRU", *args, **kwargs)

    def forward(self, input: Tensor | PackedSequence, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """Input, h_0 to output, h_n."""
        output, (h,) = self._run(input, None if hx is None else (hx,))
        return output, h


class RNN(_Layers):
    """`torch.nn.RNN`, compiled, with ``nonlinearity`` "tanh" or "relu": see `LSTM`; its state is h alone."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        *args: Any,
        **kwargs: Any,
    ) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        self.nonlinearity = nonlinearity
        super().__init__(f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, *args, **kwargs)

    def forward(self, input: Tensor | PackedSequence, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """Input, h_0 to output, h_n."""
        output, (h,) = self._run(input, None if hx is None else (hx,))
        return output, h
