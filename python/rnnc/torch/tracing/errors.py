"""What is said of a step that cannot be traced: which operation, on what, in which line of the user's."""

from __future__ import annotations

import linecache
import os
import re
import traceback
from typing import Any, NamedTuple

import torch

TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_FRAME = re.compile(r'^\s*File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>.+)$', re.MULTILINE)


class TraceError(ValueError):
    """A step that the language cannot express, or sizes that do not fit it."""


class Frame(NamedTuple):
    """A line of Python on the way to an operation."""

    file: str
    line: int
    function: str

    @property
    def is_users(self) -> bool:
        """Neither PyTorch's nor this package's."""
        name = os.path.abspath(self.file)
        return not (name.startswith((TORCH, HERE)) or name.endswith("rnnc/torch/trace.py") or self.file.startswith("<"))

    def __str__(self) -> str:
        source = linecache.getline(self.file, self.line).strip()
        return f"{self.file}:{self.line}" + (f": {source}" if source else "")


def frames(node: Any) -> list[Frame]:
    """The lines that led to a node of the graph, outermost first."""
    text = node.meta.get("stack_trace") or ""
    return [Frame(m["file"], int(m["line"]), m["function"].strip()) for m in _FRAME.finditer(text)]


def user_frame(node: Any) -> Frame | None:
    """The user's innermost line that led to a node, or PyTorch's if there is no such line."""
    all_frames = [f for f in frames(node) if not os.path.abspath(f.file).startswith(HERE)]
    users = [f for f in all_frames if f.is_users]
    return (users or all_frames or [None])[-1]


def exception_frame(error: BaseException) -> Frame | None:
    """The user's innermost line in an exception's traceback."""
    found = [Frame(f.filename, f.lineno or 0, f.name) for f in traceback.extract_tb(error.__traceback__)]
    users = [f for f in found if f.is_users]
    return users[-1] if users else None


def shape_in_words(shape: Any, streams: int) -> str:
    """`[B, 256]`: the length that stands for the batch while tracing is no other length of the step."""
    return "[" + ", ".join("B" if s == streams else str(s) for s in shape) + "]"


def refusal(node: Any, why: str, instead: str, streams: int) -> TraceError:
    """The error that refuses one operation."""
    name = str(node.target).removesuffix(".default")
    values = [n.meta.get("val") for n in node.all_input_nodes]
    shapes = ", ".join(shape_in_words(v.shape, streams) for v in values if isinstance(v, torch.Tensor))
    frame = user_frame(node)
    return TraceError(
        f"`{name}`{f' of {shapes}' if shapes else ''} cannot be traced: {why}\n"
        + (f"  at {frame}\n" if frame else "")
        + f"  {instead}"
    )
