"""Surroundings that the work must not depend on: the garbage collector, and the caller's default device."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def collector_paused() -> Iterator[None]:
    """Run a block without cyclic garbage collection, whose full passes over a large heap cost more than the work."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def tensors_on_cpu() -> Iterator[None]:
    """Make new tensors on the CPU, also inside a caller's `with torch.device("meta")`."""
    if torch.get_default_device().type == "cpu":
        yield
    else:
        with torch.device("cpu"):
            yield
