"""What becomes of a network, in words and as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence

from . import _native, sources


class Plan:
    """What becomes of a network: `str` of it is a dozen lines; in a notebook it is a picture."""

    def __init__(self, network: _native.Network, streams: int, frames: int, gradients: bool, threads: int) -> None:
        self._network = network
        self._shape = {"streams": streams, "frames": frames, "gradients": gradients, "threads": threads}

    def __str__(self) -> str:
        return self._network.plan(**self._shape)

    __repr__ = __str__

    def explain(self, verbose: bool = False) -> str:
        """What runs over all frames at once, what is a scan, what is a loop, and why; verbose: all stages and operations."""
        return self._network.plan(**self._shape, verbose=verbose)

    def svg(self) -> str:
        """A picture of layers and cycles."""
        return self._network.svg(self._shape["streams"], self._shape["frames"])

    def _repr_svg_(self) -> str:
        return self.svg()


def plan(
    source: str | os.PathLike[str],
    *,
    network: str | None = None,
    streams: int = 1,
    frames: int = 256,
    gradients: bool = True,
    threads: int = 0,
    inputs: int | Sequence[int] | None = None,
    **options: object,
) -> Plan:
    """What becomes of a network on a CPU: of a text, a path, or a cell of the library (then with `inputs` and its options).

    >>> print(rnnc.plan("gru", inputs=40, n=256))  # doctest: +SKIP
    """
    text, file_name = sources.read(source, inputs, options)
    return Plan(_native.Network(text, network, file_name), streams, frames, gradients, threads)
