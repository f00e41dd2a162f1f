"""What each operation of PyTorch becomes: one table, filled by the files of this folder."""

from __future__ import annotations

from typing import Any, Callable

import torch

RULES: dict[Any, Callable[..., Any]] = {}
"""What an operation of tensors that depend on inputs or state becomes. These operations are not decomposed."""
MOVES: dict[Any, Callable[..., Any]] = {}
"""Operations that only move numbers about: on an array of units, or of places in a parameter."""
SHAPED: dict[Any, Callable[..., Any]] = {}
"""Operations that read of their tensor nothing but its shape."""


def overloads(name: str) -> list[Any]:
    """The overloads that `matmul` or `where.self` name."""
    packet, _, overload = name.partition(".")
    found = getattr(torch.ops.aten, packet, None)
    if found is None:
        return []
    names = [overload] if overload else [o for o in found.overloads() if "out" not in o.split("_")]
    return [getattr(found, o) for o in names if hasattr(found, o)]


def rule(*names: str, table: dict[Any, Callable[..., Any]] = RULES) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enters a function in a table, for each of the operations named."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            for overload in overloads(name):
                table[overload] = function
        return function

    return enter


from . import elementwise, linear, structure, vector  # noqa: E402,F401
