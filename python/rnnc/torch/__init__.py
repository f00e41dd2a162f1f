"""Recurrent networks as modules of PyTorch: docs/pytorch.md."""

from .programs import log
from .layers import GRU, LSTM, RNN
from .recurrent import Recurrent, State, detach
from .sequences import Packed, Stream, pack, unpack

__all__ = ["GRU", "LSTM", "RNN", "Packed", "Recurrent", "State", "Stream", "detach", "log", "pack", "unpack"]
