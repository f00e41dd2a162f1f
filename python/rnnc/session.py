"""A network that runs as frames arrive, NumPy in and out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from . import _native, sources


class Session:
    """Runs a network frame by frame, or block by block, with its state carried on.

    ``network`` is a text, a path, or a cell of the library (then with ``inputs`` and the cell's options). ``weights`` is a path of a weights
    file or a checkpoint, or a mapping from the engine's names (`h.i.W.x`) to arrays; a module of ``rnnc.torch`` gives a session of itself by
    ``module.session()``. Of ``streams`` streams side by side, B; each call takes one frame (`step`) or several (`run`).

    >>> session = rnnc.Session("net.rnn", "weights.safetensors")  # doctest: +SKIP
    >>> y = session.step(x)  # x [N] or [B, N]; y alike # doctest: +SKIP
    """

    def __init__(
        self,
        network: str | os.PathLike[str],
        weights: str | os.PathLike[str] | Mapping[str, Any],
        *,
        name: str | None = None,
        streams: int = 1,
        threads: int = 1,
        block: int = 1,
        precision: str = "f32",
        inputs: int | Sequence[int] | None = None,
        **options: object,
    ) -> None:
        import numpy

        self._numpy = numpy
        text, file_name = sources.read(network, inputs, options)
        self._network = _native.Network(text, name, file_name)
        if isinstance(weights, (str, os.PathLike)):
            values = self._network.load_weights(weights)
        else:
            values = self._of_mapping(weights)
        self._session = _native.Session(self._network, values, streams, threads, block, precision)
        self.streams = streams
        self.inputs = [name for name, _, _ in self._network.inputs]
        self.outputs = [name for name, _ in self._network.outputs]
        self._symbols = [symbols for _, _, symbols in self._network.inputs]
        self._buffers: dict[tuple[int, bool, bool], _Buffers] = {}

    def _of_mapping(self, weights: Mapping[str, Any]) -> list[bytes]:
        names = [name for name, _ in self._network.weights]
        unknown = [name for name in weights if name not in names]
        missing = [name for name in names if name not in weights]
        if unknown or missing:
            raise _native.Error(f"weights of another network: missing {missing}, unknown {unknown}")
        values = []
        for name, shape in self._network.weights:
            array = self._numpy.ascontiguousarray(weights[name], dtype=self._numpy.float32)
            if list(array.shape) != shape:
                raise _native.Error(f"weight `{name}` has shape {list(array.shape)}; the network takes {shape}")
            values.append(array.tobytes())
        return values

    def step(self, *inputs: Any, resets: Any = None) -> Any:
        """One frame: numbers [B, N], or [N] of one stream; symbols [B], or one. Resets [B]: these streams begin anew with this frame.
        Returns the output alike, or a tuple of all outputs."""
        return self._run(1, True, inputs, resets)

    def run(self, *inputs: Any, resets: Any = None) -> Any:
        """Several frames: numbers [T, B, N], or [T, N] of one stream; symbols [T, B], or [T]; resets [T, B], or [T].
        Returns the output alike, or a tuple of all outputs."""
        shape = self._numpy.shape(inputs[0]) if inputs else ()
        if not shape or not shape[0]:
            raise _native.Error(f"a run needs frames: the network takes the inputs {self.inputs}, at least one frame of each")
        return self._run(shape[0], False, inputs, resets)

    def _run(self, frames: int, one: bool, inputs: Sequence[Any], resets: Any) -> Any:
        numpy = self._numpy
        if len(inputs) != len(self.inputs):
            raise _native.Error(f"the network takes the inputs {self.inputs}; {len(inputs)} came")
        # Of one stream, arrays may come without the dimension of streams.
        dimensions = (0 if one else 1) + (0 if self._symbols[0] else 1)
        alone = self.streams == 1 and numpy.ndim(inputs[0]) == dimensions
        buffers = self._buffers.get((frames, one, alone))
        if buffers is None:
            if len(self._buffers) >= 8:
                self._buffers.clear()
            buffers = _Buffers(numpy, self._network, frames, self.streams, one, alone)
            self._buffers[frames, one, alone] = buffers
        for place, (view, value) in enumerate(zip(buffers.inputs, inputs)):
            shape = numpy.shape(value)
            if shape != view.shape:
                name = self.inputs[place]
                raise _native.Error(f"input `{name}` has shape {list(shape)}; the session takes {list(view.shape)}")
            numpy.copyto(view, value, casting="same_kind")
        if resets is not None:
            shape = numpy.shape(resets)
            if shape != buffers.resets.shape:
                raise _native.Error(f"resets have shape {list(shape)}; the session takes {list(buffers.resets.shape)}")
            numpy.copyto(buffers.resets, numpy.asarray(resets, dtype=bool))
        where = 0 if resets is None else buffers.resets_at
        self._session.run(frames, buffers.inputs_at, where, buffers.outputs_at)
        outputs = buffers.outputs
        return outputs[0].copy() if len(outputs) == 1 else tuple(output.copy() for output in outputs)

    def reset(self) -> None:
        """Begins all streams anew."""
        self._session.reset()

    def state(self) -> _native.SessionState:
        """What the next frame will read of those before, to be handed to `set_state`."""
        return self._session.state()

    def set_state(self, state: _native.SessionState) -> None:
        """Goes on from a state."""
        self._session.set_state(state)


class _Buffers:
    """Arrays that live as long as the session, so that their addresses are found once, as calls of one shape see them."""

    def __init__(
        self, numpy: Any, network: _native.Network, frames: int, streams: int, one: bool, alone: bool
    ) -> None:
        rows = (frames, streams)
        seen = (0 if one else slice(None), 0 if alone else slice(None), ...)
        inputs = [
            numpy.zeros(rows, numpy.int32) if symbols else numpy.zeros((*rows, size), numpy.float32)
            for _, size, symbols in network.inputs
        ]
        outputs = [numpy.zeros((*rows, size), numpy.float32) for _, size in network.outputs]
        resets = numpy.zeros(rows, numpy.uint8)
        self.inputs_at = [array.ctypes.data for array in inputs]
        self.outputs_at = [array.ctypes.data for array in outputs]
        self.resets_at = resets.ctypes.data
        self.inputs = [array[seen] for array in inputs]
        self.outputs = [array[seen] for array in outputs]
        # Of one stream, a call of one frame takes one reset too.
        self.resets = resets[seen]
