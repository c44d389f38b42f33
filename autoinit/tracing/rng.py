"""Keeping random number generators as they were."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from autoinit.tensors.process_state import alone, surely


def drawn() -> tuple[Any, ...]:
    """Where the generators of torch, numpy and Python stand: equal as long as nothing was drawn."""
    numpy = sys.modules.get("numpy")
    held = numpy.random.get_state() if numpy is not None else ()
    places = tuple(each.tobytes() if hasattr(each, "tobytes") else each for each in held)
    return bytes(torch.default_generator.get_state().numpy()), random.getstate(), places


@contextmanager
def untouched_generators(seed: int = 0) -> Iterator[None]:
    """Run a block with torch, numpy and Python seeded alike each time, and leave their states as they were."""
    with alone():
        python = random.getstate()
        numpy = sys.modules.get("numpy")
        numpy_state = numpy.random.get_state() if numpy is not None else None
        state = torch.default_generator.get_state()
        devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
        try:
            with torch.random.fork_rng(devices=devices):
                torch.default_generator.manual_seed(as_torch_takes(seed))
                random.seed(seed)
                yield
        finally:

            def take_back() -> None:
                torch.default_generator.set_state(state)
                random.setstate(python)
                if numpy is not None and numpy_state is not None:
                    numpy.random.set_state(numpy_state)

            surely(take_back)


def as_torch_takes(seed: int) -> int:
    """Any integer as a seed of torch's generators: its last 64 bits, which is what torch makes of negative ones."""
    return seed % 2**64
