"""Networks as operators of PyTorch find them: by a string that says all, compiled for shapes as they come."""

from __future__ import annotations

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .. import _native

log = logging.getLogger("rnnc.torch")

#: The most shapes for which a network stays compiled; of more, the one that was not used for longest goes.
MOST_COMPILED = 32
#: A network that is compiled for this many shapes is told of as a warning, once.
MANY = 16


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
        if self.precision not in ("f32", "tf32", "bf16"):
            raise _native.Error(f"there is no precision `{self.precision}`; there are `f32`, `tf32` and `bf16`")
        self.network = network = _native.Network(text, name, file_name, state)
        self.signature = Signature(
            description,
            network.name,
            tuple(network.inputs),
            tuple(network.outputs),
            tuple((weight, tuple(shape)) for weight, shape in network.weights),
            tuple(network.state),
            network.has_dropout,
        )
        self._compiled: OrderedDict[tuple[int, int, bool, bool, int], _native.Compiled] = OrderedDict()
        self._times = 0

    @staticmethod
    def of(description: str) -> Program:
        """The one that a string says."""
        return _interned(description)

    def compiled(self, streams: int, frames: int, gradients: bool, dropout: bool, threads: int) -> _native.Compiled:
        """It for so many streams and at least so many frames."""
        # No lock: what two threads compile at a time is compiled twice, and a forked process finds nothing locked.
        window = window_of(frames)
        key = (streams, window, gradients, dropout, threads)
        found = self._compiled.get(key)
        if found is None:
            begun = time.perf_counter()
            found = self.network.compile(streams, window, gradients, dropout, self.precision, threads)
            took = time.perf_counter() - begun
            what = "with gradients" if gradients else "without gradients"
            log.info(
                "network `%s` compiled for %d streams and up to %d frames, %s: %.3f s",
                self.network.name, streams, window, what, took,
            )  # fmt: skip
            self._times += 1
            if self._times == MANY:
                log.warning(
                    "network `%s` was compiled for %d shapes: batches of one size (`drop_last=True`) and windows of one length "
                    "are compiled once",
                    self.network.name, MANY,
                )  # fmt: skip
            self._compiled[key] = found
            while len(self._compiled) > MOST_COMPILED:
                try:
                    self._compiled.popitem(last=False)
                except KeyError:
                    break
        else:
            try:
                self._compiled.move_to_end(key)
            except KeyError:
                pass
        return found


_interned = lru_cache(maxsize=128)(Program)


def window_of(frames: int) -> int:
    """The window that is compiled for so many frames: the next of eight to each power of two, so that sequences of any lengths
    share a few programs, and a tape is at most an eighth longer than it must be."""
    if frames <= 16:
        return 16
    step = 1 << ((frames - 1).bit_length() - 4)
    return -(-frames // step) * step
