"""What is particular of CUDA: where NVIDIA's libraries are, which stream is the current one, and room in PyTorch's memory."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import torch

from .. import _native

_Result = TypeVar("_Result")


@lru_cache(maxsize=1)
def _find_libraries() -> None:
    """Tells the engine of PyTorch's own NVRTC and cublasLt: those beside PyTorch, and in packages of PyPI's."""
    places = [os.path.join(torch.__path__[0], "lib")]
    nvidia = importlib.util.find_spec("nvidia")
    for root in (nvidia.submodule_search_locations or ()) if nvidia is not None else ():
        places += [os.path.join(root, part, "lib") for part in sorted(os.listdir(root), reverse=True)]
    _native.search_cuda_libraries_in([place for place in places if os.path.isdir(place)])


def is_capturing() -> bool:
    """Whether what this thread tells the GPU becomes part of a graph."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def make_room() -> None:
    """PyTorch gives back the memory of GPUs that it keeps for later. Of what runs out of memory, to be called before it is tried again."""
    if is_capturing():
        raise  # noqa: PLE0704  of the error that is being handled
    torch.cuda.empty_cache()


def compile(make: Callable[[], _Result]) -> _Result:
    """What is made for a GPU, which takes what a graph cannot hold."""
    if is_capturing():
        raise _native.Error(
            "a network is compiled when it is first called with a batch size and a length, which cannot happen while a CUDA graph is captured: "
            "call it once before, as PyTorch asks of all that is captured"
        )
    _find_libraries()
    try:
        return make()
    except _native.OutOfMemory:
        make_room()
        return make()


def _ask(gpu: int) -> int:
    return torch.cuda.current_stream(gpu).cuda_stream


# As the kernels of `torch.compile` ask, which takes a tenth of the time.
_raw_stream: Callable[[int], int] = getattr(torch._C, "_cuda_getCurrentRawStream", _ask)


def current_stream(gpu: int) -> int:
    """The address of the stream to which PyTorch tells what this thread wants of that GPU."""
    return _raw_stream(gpu)
