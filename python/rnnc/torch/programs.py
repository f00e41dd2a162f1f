"""Networks as operators of PyTorch find them: by a string that says all, compiled for shapes as they come."""

from __future__ import annotations

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any
from weakref import WeakValueDictionary

import torch

from .. import _native
from . import gpus

log = logging.getLogger("rnnc.torch")

#: How coarsely products may round their operands; "f64" is the reference executor, which runs frame by frame in double precision.
PRECISIONS = ("f32", "tf32", "bf16", "f64")
#: The most shapes for which a network stays compiled; of more, the one that was not used for longest goes.
MOST_COMPILED = 32
#: A network that is compiled for this many shapes is told of as a warning, once.
MANY = 16


#: Streams, window, whether with gradients and with dropout, threads, GPU.
_Key = tuple[int, int, bool, bool, int, "int | None"]


@dataclass(frozen=True)
class Signature:
    """What a network takes and gives, as plain data that `torch.compile` follows."""

    #: The string that says all of the network: see `Program.of`.
    description: str
    name: str
    #: Name, size, whether it takes symbols.
    inputs: tuple[tuple[str, int, bool], ...]
    #: Name, size.
    outputs: tuple[tuple[str, int], ...]
    #: Name, canonical shape.
    weights: tuple[tuple[str, tuple[int, ...]], ...]
    #: Name, depth in frames, size, whether it is of symbols.
    state: tuple[tuple[str, int, int, bool], ...]
    has_dropout: bool
    #: What its numbers are.
    dtype: torch.dtype

    @staticmethod
    def of(
        text: str,
        *,
        network: str | None = None,
        state: Sequence[str] | None = None,
        precision: str = "f32",
        file_name: str = "network",
    ) -> Signature:
        """That of a text's network."""
        description = json.dumps([text, network, state if state is None else list(state), precision, file_name])
        return Program.of(description).signature

    @property
    def program(self) -> Program:
        """The network, and what it was compiled to."""
        return Program.of(self.description)

    def state_shape(self, place: int, streams: Any) -> tuple[Any, ...]:
        """[B, N], or [depth, B, N] where more than the last frame is read; of symbols without N."""
        _, depth, size, symbols = self.state[place]
        shape = (streams,) if symbols else (streams, size)
        return (depth, *shape) if depth > 1 else shape


class Program:
    """A network, and what it was compiled to: for so many streams, and windows of so many frames."""

    def __init__(self, description: str) -> None:
        text, name, state, self.precision, file_name = json.loads(description)
        if self.precision not in PRECISIONS:
            known = ", ".join(f"`{precision}`" for precision in PRECISIONS)
            raise _native.Error(f"there is no precision `{self.precision}`; there are {known}")
        self.network = network = _native.Network(text, name, file_name, state)
        self.signature = Signature(
            description,
            network.name,
            tuple(network.inputs),
            tuple(network.outputs),
            tuple((weight, tuple(shape)) for weight, shape in network.weights),
            tuple(network.state),
            network.has_dropout,
            torch.float64 if self.precision == "f64" else torch.float32,
        )
        #: Those that are in use: by the shapes of late, and by forward calls that wait for their backward calls.
        self._recent: OrderedDict[_Key, _native.Compiled] = OrderedDict()
        self._all: WeakValueDictionary[_Key, _native.Compiled] = WeakValueDictionary()
        self._times = 0

    @staticmethod
    def of(description: str) -> Program:
        """The one that a string says."""
        return _interned(description)

    def compiled(
        self, streams: int, frames: int, gradients: bool, dropout: bool, threads: int, gpu: int | None = None
    ) -> _native.Compiled:
        """It for so many streams and at least so many frames, on the GPU of that number or on so many threads. Whoever has a tape keeps
        what wrote it, for the backward call."""
        # No lock: what two threads compile at a time is compiled twice, and a forked process finds nothing locked.
        key = (streams, window_of(frames), gradients, dropout, threads if gpu is None else 0, gpu)
        found = self._recent.get(key)
        if found is not None:
            try:
                self._recent.move_to_end(key)
            except KeyError:
                pass
            return found
        found = self._all.get(key)
        if found is None:
            # Of two threads' the first counts: a tape goes back through the one that wrote it.
            found = self._all.setdefault(key, self._compile(key))
        self._recent[key] = found
        # What goes gives memory back, which must not happen while a graph is captured.
        while len(self._recent) > MOST_COMPILED and not (gpu is not None and gpus.is_capturing()):
            try:
                self._recent.popitem(last=False)
            except KeyError:
                break
        return found

    def _compile(self, key: _Key) -> _native.Compiled:
        streams, window, gradients, dropout, threads, gpu = key
        begun = time.perf_counter()
        compile = partial(self.network.compile, streams, window, gradients, dropout, self.precision, threads, gpu)
        compiled = compile() if gpu is None else gpus.compile(compile)
        log.info(
            "network `%s` compiled for %d streams and up to %d frames, %s gradients%s: %.3f s",
            self.network.name, streams, window, "with" if gradients else "without", "" if gpu is None else f", on GPU {gpu}",
            time.perf_counter() - begun,
        )  # fmt: skip
        self._times += 1
        if self._times == MANY:
            log.warning(
                "network `%s` was compiled for %d shapes: batches of one size (`drop_last=True`) and windows of one length are "
                "compiled once",
                self.network.name, MANY,
            )  # fmt: skip
        return compiled


_all: WeakValueDictionary[str, Program] = WeakValueDictionary()


@lru_cache(maxsize=128)
def _interned(description: str) -> Program:
    found = _all.get(description)
    return _all.setdefault(description, Program(description)) if found is None else found


def window_of(frames: int) -> int:
    """The window that is compiled for so many frames: the next of eight to each power of two, so that sequences of any lengths
    share a few programs, and a tape is at most an eighth longer than it must be."""
    if frames <= 16:
        return 16
    step = 1 << ((frames - 1).bit_length() - 4)
    return -(-frames // step) * step
