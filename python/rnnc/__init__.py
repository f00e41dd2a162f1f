"""Recurrent networks from their equations, compiled.

A network is a text (docs/language.md). ``rnnc.torch`` makes it a module of PyTorch; `Session` runs it as frames arrive;
`plan` says what becomes of it. Nothing here but ``rnnc.torch`` needs PyTorch, and only `Session` needs NumPy.
"""

from ._native import Error, __version__
from .plans import Plan, plan
from .session import Session
from .sources import Cell, cells

__all__ = ["Cell", "Error", "Plan", "Session", "__version__", "cells", "plan"]
