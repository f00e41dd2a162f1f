"""What a text takes for granted of a module's tensors, and whether it is still so at a call.

Parameters and buffers of floats are read at each call. Buffers of whole numbers and bools decide which numbers stand where, and so does
which names are one parameter: a text has both as they were when the step was traced.
"""

from __future__ import annotations

import weakref
from typing import Any, Iterable

import torch

from .errors import TraceError


def tensor_of(module: torch.nn.Module, name: str) -> torch.Tensor:
    """A parameter or buffer by its name."""
    owner, _, leaf = name.rpartition(".")
    return getattr(module.get_submodule(owner), leaf)


def ties(module: torch.nn.Module, names: Iterable[str]) -> list[tuple[str, str]]:
    """Which of the parameters of these names have a second name, and which."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    return [
        (name, other)
        for name in names
        if name in parameters
        for other, parameter in parameters.items()
        if other != name and parameter is parameters[name]
    ]


class Frozen:
    """Buffers with the values that they had, and names that were one parameter."""

    def __init__(self, buffers: dict[str, torch.Tensor], ties: list[tuple[str, str]]) -> None:
        self._buffers = buffers
        self._ties = ties
        self._seen: dict[str, tuple[weakref.ref[torch.Tensor], int]] = {}
        """Tensors that were compared, and their versions then."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_seen": {}}

    def check(self, module: torch.nn.Module) -> None:
        """Refuses a module that is otherwise. Values are compared once, and again when a tensor was written to."""
        for name, value in self._buffers.items():
            tensor = tensor_of(module, name)
            transformed = torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # pyright: ignore[reportAttributeAccessIssue]
            if type(tensor) is not torch.Tensor or tensor.is_meta or transformed:
                continue
            version = -1 if tensor.is_inference() else tensor._version
            seen = self._seen.get(name)
            if seen is not None and seen[0]() is tensor and seen[1] == version >= 0:
                continue
            if not torch.equal(tensor, value.to(tensor.device)):
                raise TraceError(
                    f"buffer `{name}` is another than when the step was traced, and the text has its values of then.\n"
                    "  Compile the module again; or make it a buffer of floats, which is read at each call."
                )
            self._seen[name] = weakref.ref(tensor), version
        for name, other in self._ties:
            if tensor_of(module, name) is not tensor_of(module, other):
                raise TraceError(
                    f"`{name}` and `{other}` were one parameter when the step was traced, and are two now.\n  Compile the module again."
                )
