"""How far a long piece of work has come, for who shows it: `watched`, or a notebook; otherwise nobody."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Tell = Callable[[float], None]

PATIENCE = 1.0
"""Seconds before a notebook shows a bar."""
_WATCHER: ContextVar[Tell | None] = ContextVar("progress", default=None)


@contextmanager
def watched(tell: Tell) -> Iterator[None]:
    """Has `tell` called with the share of the work that is done, from 0 to 1, by any thread and for each piece anew."""
    token = _WATCHER.set(tell)
    try:
        yield
    finally:
        _WATCHER.reset(token)


def counted(total: float) -> Tell:
    """A function to call with the size of each piece that is done, by any thread; `total` is the size of all."""
    tell, lock = _WATCHER.get() or _in_notebook(), threading.Lock()
    done = 0.0

    def advance(size: float) -> None:
        nonlocal done
        with lock:
            done += size
            share = done / total if total else 1.0
        if tell is not None:
            tell(share)

    return advance


def _in_notebook() -> Tell | None:
    """Shows a bar in the output of the cell, if the work takes long; None outside of notebooks."""
    if "ipykernel" not in sys.modules or getattr(sys.modules["IPython"].get_ipython(), "kernel", None) is None:
        return None
    started = time.monotonic()
    bars: list[Any] = []

    def tell(share: float) -> None:
        if not bars and share < 1 and time.monotonic() - started > PATIENCE:
            bars.append(importlib.import_module("IPython.display").ProgressBar(100))
            bars[0].display()
        for bar in bars:
            bar.progress = round(100 * share)

    return tell
