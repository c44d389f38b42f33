"""What a process has only one of, as the work needs it, and put back as it was.

All that touches what a process has only one of (the collector, random states, filters of warnings, torch's hooks for
all modules) is done under one lock, so that several threads may work at a time.
"""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

_lock = threading.RLock()


@contextmanager
def alone() -> Iterator[None]:
    """Run a block while no other thread runs one: each finds, and leaves, the process as it was."""
    with _lock:
        yield


def surely(take_back: Callable[[], None]) -> None:
    """Takes back what was changed, and once more if an interrupt stops that halfway: it must do no harm twice."""
    try:
        take_back()
    except BaseException:
        take_back()
        raise


@contextmanager
def silenced() -> Iterator[None]:
    """Run a block without warnings: those of a forward that is only read are of no use."""
    with alone(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def collector_paused() -> Iterator[None]:
    """Run a block without cyclic garbage collection, whose full passes over a large heap cost more than the work."""
    with alone():
        if not gc.isenabled():
            yield
            return
        try:
            gc.disable()
            yield
        finally:
            surely(gc.enable)


@contextmanager
def tensors_on_cpu() -> Iterator[None]:
    """Make new tensors on the CPU, also inside a caller's `with torch.device("meta")`."""
    with alone():
        if torch.empty(0).device.type == "cpu":  # torch.get_default_device fails on 2.9 after set_default_device(None)
            yield
        else:
            with torch.device("cpu"):
                yield
