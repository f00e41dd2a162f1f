"""Recurrent networks as modules of PyTorch: docs/pytorch.md."""

from .programs import log
from .compiled import Compiled, compile
from .layers import GRU, LSTM, RNN
from .recurrent import Recurrent, State, detach
from .sequences import Packed, Stream, pack, unpack
from .trace import TraceError

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Compiled",
    "Packed",
    "Recurrent",
    "State",
    "Stream",
    "TraceError",
    "compile",
    "detach",
    "log",
    "pack",
    "unpack",
]
