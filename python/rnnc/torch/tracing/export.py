"""PyTorch's own trace of a step: an exported graph, decomposed as far as the table of rules does not know its operations."""

from __future__ import annotations

import contextlib
import os
import threading
import traceback
import warnings
from typing import Any, Iterator

import torch

from .errors import HERE, TORCH, TraceError, exception_frame, refusal
from .rules import MOVES, RULES, SHAPED
from .step import Prepared

_LOCK = threading.RLock()


@contextlib.contextmanager
def _no_functions_of_the_users() -> Iterator[None]:
    """A torch.autograd.Function is traced by its forward formula alone, which would lose its gradient in silence."""
    original = torch.autograd.Function.__dict__["apply"]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if cls.__module__.split(".")[0] != "torch":
            raise TraceError(
                f"the step calls {cls.__name__}, a torch.autograd.Function: its own gradient would be lost.\n"
                "  Write it by operations that PyTorch differentiates."
            )
        return original.__get__(None, cls)(*args, **kwargs)

    torch.autograd.Function.apply = classmethod(apply)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        torch.autograd.Function.apply = original  # type: ignore[method-assign]


@contextlib.contextmanager
def _all_of_the_users_lines() -> Iterator[None]:
    """PyTorch notes of a node the lines of functions called `forward`; this notes those of all functions below the step."""
    tracer = torch.fx.proxy.TracerBase
    original = getattr(tracer, "_filter_traceback_frames", None)
    if original is None:
        yield
        return

    def kept(_: Any, summary: traceback.StackSummary) -> traceback.StackSummary:
        own = [i for i, frame in enumerate(summary) if frame.filename.startswith(HERE) and frame.name == "forward"]
        below = summary[own[-1] + 1 :] if own else []
        layers = os.path.join(TORCH, "nn", "")
        return traceback.StackSummary.from_list([f for f in below if not f.filename.startswith(TORCH) or f.filename.startswith(layers)])

    tracer._filter_traceback_frames = kept
    try:
        yield
    finally:
        tracer._filter_traceback_frames = original


def export(prepared: Prepared) -> torch.export.ExportedProgram:
    """The graph of one step."""
    try:
        with _LOCK, warnings.catch_warnings(), torch.random.fork_rng(devices=[]), _no_functions_of_the_users(), _all_of_the_users_lines():
            warnings.simplefilter("ignore")
            program = torch.export.export(prepared.call, tuple(prepared.examples), strict=False)
            _no_switched_gradients(program, prepared.streams)
            table = torch.export.default_decompositions()
            for operation in (*RULES, *MOVES, *SHAPED):
                table.pop(operation, None)
            program = program.run_decompositions(table)
    except TraceError:
        raise
    except Exception as error:
        raise _explained(error) from error
    changed = program.graph_signature.buffers_to_mutate
    if changed:
        names = ", ".join(sorted(n.removeprefix("module.") for n in changed.values()))
        raise TraceError(
            f"the step changes {names}, a buffer of the module.\n"
            "  What changes from frame to frame is state: take it as an argument and return it. A BatchNorm in training "
            "mixes the streams of a batch: use LayerNorm, or call .eval() on it."
        )
    return program


def _no_switched_gradients(program: torch.export.ExportedProgram, streams: int) -> None:
    """`torch.no_grad` within the step would be lost by decomposition."""
    for node in program.graph.nodes:
        if node.op == "call_function" and "grad_enabled" in str(node.target):
            inner = getattr(program.graph_module, str(node.args[1].target)) if len(node.args) > 1 else None
            first = next((n for n in inner.graph.nodes if n.op == "call_function"), node) if inner else node
            raise refusal(first, "it stands within torch.no_grad or torch.enable_grad", "Use .detach() for what gets no gradient.", streams)


def _explained(error: Exception) -> TraceError:
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, TraceError):
            return inner
        inner = inner.__cause__ or inner.__context__
    text = str(error).strip() or type(error).__name__
    frame = exception_frame(error)
    where = f"\n  at {frame}" if frame else ""
    if "data-dependent" in text.lower() or "DataDependent" in type(error).__name__ or "_local_scalar_dense" in text or ".item()" in text:
        return TraceError(
            f"what the step does depends on values of tensors (an `if`, a `while`, an index or .item()).{where}\n"
            "  One step must do the same operations in every frame: write torch.where(a > b, a, b), maximum, minimum or a smooth gate."
        )
    return TraceError(f"torch.export cannot trace the step: {text.splitlines()[0]}{where}\n  The step must be plain tensor operations.")
