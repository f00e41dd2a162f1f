"""Recurrent networks as modules of PyTorch: docs/pytorch.md."""

from .programs import log
from .recurrent import Recurrent, State, detach

__all__ = ["Recurrent", "State", "detach", "log"]
