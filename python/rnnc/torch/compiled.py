"""A cell of one's own, written as one step in PyTorch, compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .. import sources
from .recurrent import Network, State
from .trace import trace


class Compiled(Network):
    """A cell of one's own over all frames: what `compile` returns. ``module`` is the cell, whose parameters stay its own."""

    def __init__(self, module: nn.Module, traced: Any, batch_first: bool, precision: str, threads: int | None) -> None:
        source = sources.Source(traced.text, type(module).__name__)
        super().__init__(source, None, traced.state, batch_first, precision, threads)
        self.module = module
        self._traced = traced

    def _engine_weights(self) -> dict[str, Tensor]:
        return self._traced.weights(self.module)

    def forward(
        self, *args: Any, state: Sequence[Tensor] | Tensor | None = None, resets: Tensor | None = None
    ) -> tuple[Any, State]:
        """Inputs [T, B, N], and perhaps the state (also by name), to (output [T, B, N], state)."""
        inputs = args
        if len(args) == len(self.input_names) + 1 and state is None:
            *inputs, state = args
        weights = self._engine_weights()
        return self._run(inputs, [weights[name] for name, _ in self._signature.weights], state, resets)


def compile(
    module: nn.Module,
    inputs: Sequence[int],
    state: Sequence[int],
    *,
    batch_first: bool = False,
    precision: str = "f32",
    threads: int | None = None,
    **options: Any,
) -> Compiled:
    """Makes a cell of one's own a module that runs it over all frames::

        class Cell(torch.nn.Module):
            def forward(self, x, h, c):             # one step: [B, 40], [B, 256], [B, 256]
                ...
                return h, (h, c)                    # output, new state

        rnn = rnnc.torch.compile(Cell(), inputs=[40], state=[256, 256])
        y, (h, c) = rnn(x)                          # x [T, B, 40]; y [T, B, 256]

    ``inputs`` and ``state`` are the numbers of units of `forward`'s arguments. The step is traced once, and becomes a text of the language (`.text`);
    parameters and buffers stay the cell's own, and are read at each call. What cannot be written in the language is an error that
    names the operation and the line.
    """
    traced = trace(module, inputs, state, **options)
    return Compiled(module, traced, batch_first, precision, threads)
