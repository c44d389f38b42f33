"""How far a long piece of work has come, for who shows it: nobody, unless it runs inside `watched`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Tell = Callable[[float], None]

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
    tell, lock = _WATCHER.get(), threading.Lock()
    done = 0.0

    def advance(size: float) -> None:
        nonlocal done
        with lock:
            done += size
            share = done / total if total else 1.0
        if tell is not None:
            tell(share)

    return advance
