"""The native module (crates/rnnc-python)."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

__version__: str
# A tensor, once `take_tensors` has said so, or (address, kind, shape, strides, number of the GPU or -1).
Array = tuple[int, str, Sequence[int], Sequence[int], int] | Any

class Error(ValueError): ...
class OutOfMemory(Error): ...

def take_tensors(exchange: Any, tensor: type, parameter: type) -> bool: ...
def are_plain(tensors: list[Any]) -> bool: ...
def search_cuda_libraries_in(directories: Sequence[str | PathLike[str]]) -> None: ...

def cells() -> list[tuple[str, str, str, str, list[str], list[str]]]: ...

class Network:
    def __init__(
        self, text: str, network: str | None = None, file_name: str = "network", state: Sequence[str] | None = None
    ) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> list[tuple[str, int, bool]]: ...
    @property
    def outputs(self) -> list[tuple[str, int]]: ...
    @property
    def weights(self) -> list[tuple[str, list[int]]]: ...
    @property
    def state(self) -> list[tuple[str, int, int, bool]]: ...
    @property
    def looks_ahead(self) -> bool: ...
    @property
    def has_dropout(self) -> bool: ...
    def initial(self, seed: int) -> list[bytes]: ...
    def load_weights(self, path: str | PathLike[str]) -> list[bytes]: ...
    def save_weights(self, path: str | PathLike[str], weights: Sequence[bytes]) -> None: ...
    def compile(
        self,
        streams: int,
        frames: int,
        gradients: bool = True,
        dropout: bool = False,
        precision: str = "f32",
        threads: int = 0,
        gpu: int | None = None,
    ) -> Compiled: ...
    def plan(
        self,
        streams: int = 1,
        frames: int = 256,
        gradients: bool = True,
        threads: int = 0,
        precision: str = "f32",
        verbose: bool = False,
    ) -> str: ...
    def svg(self, streams: int = 1, frames: int = 256) -> str: ...

class Compiled:
    @property
    def tape_len(self) -> int: ...
    def forward(
        self,
        frames: int,
        weights: Sequence[Array],
        inputs: Sequence[Array],
        resets: Array | None,
        state_in: Sequence[Array] | None,
        seed: int,
        outputs: Sequence[Array | None],
        state_out: Sequence[Array | None],
        tape: Array | None,
        seed_at: int | None,
        stream: int,
    ) -> None: ...
    def backward(
        self,
        frames: int,
        weights: Sequence[Array],
        resets: Array | None,
        tape: Array,
        d_outputs: Sequence[Array | None],
        d_state_out: Sequence[Array | None],
        d_weights: Sequence[Array | None],
        d_inputs: Sequence[Array | None],
        d_state_in: Sequence[Array | None],
        stream: int,
    ) -> None: ...

class SessionState: ...

class Session:
    def __init__(
        self, network: Network, weights: Sequence[bytes], streams: int, threads: int, block: int, precision: str
    ) -> None: ...
    def run(
        self, frames: int, inputs: Sequence[int], resets: int, outputs: Sequence[int]
    ) -> None: ...
    def reset(self) -> None: ...
    def state(self) -> SessionState: ...
    def set_state(self, state: SessionState) -> None: ...
