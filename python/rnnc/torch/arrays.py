"""Tensors as the engine takes them: their memory, on which device it is, and whether it has what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .. import _native
from . import gpus

_KINDS = {
    torch.float32: "f32",
    torch.float64: "f64",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.uint8: "u8",
    torch.bool: "bool",
}
_PLAIN = (torch.Tensor, torch.nn.Parameter)


def _takes_tensors() -> bool:
    """Whether the engine can look at tensors itself. From PyTorch 2.10 on it can."""
    exchange = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    try:
        return exchange is not None and _native.take_tensors(exchange, *_PLAIN)
    except (TypeError, ValueError):
        return False


if _takes_tensors():

    def array(tensor: torch.Tensor) -> _native.Array:
        """A tensor as an array."""
        return tensor

    def arrays(tensors: Sequence[torch.Tensor | None]) -> Sequence[_native.Array | None]:
        """Tensors as arrays."""
        return tensors

    are_plain = _native.are_plain
else:

    def array(tensor: torch.Tensor) -> _native.Array:
        """A tensor as an array."""
        return tensor.data_ptr(), _KINDS[tensor.dtype], tensor.shape, tensor.stride(), tensor.get_device()

    def arrays(tensors: Sequence[torch.Tensor | None]) -> Sequence[_native.Array | None]:
        """Tensors as arrays."""
        return [None if tensor is None else array(tensor) for tensor in tensors]

    def _is_plain(tensor: torch.Tensor | None) -> bool:
        return tensor is None or (
            type(tensor) in _PLAIN
            and (tensor.is_cpu or tensor.is_cuda)
            and not tensor.is_neg()
            and not tensor._is_zerotensor()
            and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        )

    def are_plain(tensors: list[torch.Tensor | None]) -> bool:
        """Whether memory has what tensors say: no subclass, no sign that is still to be taken, no zeros that are nowhere."""
        return all(map(_is_plain, tensors))


def gpu_of(tensor: torch.Tensor) -> int | None:
    """The number of the GPU that a tensor is on, if it is on one."""
    place = tensor.get_device()
    return None if place < 0 else place


def run(call: Any, gpu: int | None, *arguments: Any) -> None:
    """Makes a call of the engine's; on a GPU, on the stream that is the current one."""
    if gpu is None:
        call(*arguments, 0)
        return
    stream = gpus.current_stream(gpu)
    try:
        call(*arguments, stream)
    except _native.OutOfMemory:
        gpus.make_room()
        call(*arguments, stream)
