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
        self._buffers: dict[int, _Buffers] = {}

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
        alone = self._is_alone(inputs, 1)
        outputs = self._run(1, inputs, resets, alone, True)
        return outputs[0] if len(outputs) == 1 else outputs

    def run(self, *inputs: Any, resets: Any = None) -> Any:
        """Several frames: numbers [T, B, N], or [T, N] of one stream; symbols [T, B], or [T]; resets [T, B], or [T].
        Returns the output alike, or a tuple of all outputs."""
        alone = self._is_alone(inputs, 2)
        frames = self._numpy.shape(inputs[0])[0] if inputs and self._numpy.ndim(inputs[0]) else 0
        if frames == 0:
            raise _native.Error("a run needs at least one frame")
        outputs = self._run(frames, inputs, resets, alone, False)
        return outputs[0] if len(outputs) == 1 else outputs

    def _is_alone(self, inputs: Sequence[Any], dimensions: int) -> bool:
        """Whether inputs come without the dimension of streams."""
        if len(inputs) != len(self.inputs):
            raise _native.Error(f"the network takes the inputs {self.inputs}; {len(inputs)} came")
        if self.streams != 1:
            return False
        symbols = self._network_symbols
        return self._numpy.ndim(inputs[0]) == dimensions - (1 if symbols[0] else 0)

    @property
    def _network_symbols(self) -> list[bool]:
        found = self.__dict__.get("_symbols")
        if found is None:
            found = self.__dict__["_symbols"] = [symbols for _, _, symbols in self._network.inputs]
        return found

    def _run(self, frames: int, inputs: Sequence[Any], resets: Any, alone: bool, one: bool) -> tuple[Any, ...]:
        buffers = self._buffers.get(frames)
        if buffers is None:
            if len(self._buffers) >= 8:
                self._buffers.clear()
            buffers = self._buffers[frames] = _Buffers(self._numpy, self._network, frames, self.streams)
        for name, array, value in zip(self.inputs, buffers.inputs, inputs):
            view = array[0] if one else array
            if alone:
                view = view[0] if one else view[:, 0]
            shape = self._numpy.shape(value)
            if shape != view.shape:
                raise _native.Error(f"input `{name}` has shape {list(shape)}; the session takes {list(view.shape)}")
            self._numpy.copyto(view, value, casting="same_kind")
        if resets is not None:
            view = buffers.resets[0] if one else buffers.resets
            shape = self._numpy.shape(resets)
            if shape != view.shape and not (alone and shape == view.shape[:-1]):
                raise _native.Error(f"resets have shape {list(shape)}; the session takes {list(view.shape)}")
            view[...] = self._numpy.asarray(resets, dtype=bool).reshape(view.shape)
        where = buffers.resets_at if resets is not None else 0
        self._session.run(frames, buffers.inputs_at, where, buffers.outputs_at)
        outputs = []
        for array in buffers.outputs:
            view = array[0] if one else array
            outputs.append((view[0] if one and alone else view[:, 0] if alone else view).copy())
        return tuple(outputs)

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
    """Arrays that live as long as the session, so that their addresses are found once."""

    def __init__(self, numpy: Any, network: _native.Network, frames: int, streams: int) -> None:
        rows = (frames, streams)
        self.inputs = [
            numpy.zeros(rows, numpy.int32) if symbols else numpy.zeros((*rows, size), numpy.float32)
            for _, size, symbols in network.inputs
        ]
        self.outputs = [numpy.zeros((*rows, size), numpy.float32) for _, size in network.outputs]
        self.resets = numpy.zeros(rows, numpy.uint8)
        self.inputs_at = [array.ctypes.data for array in self.inputs]
        self.outputs_at = [array.ctypes.data for array in self.outputs]
        self.resets_at = self.resets.ctypes.data
