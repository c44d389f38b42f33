"""Being one of several processes, of which the others do not exist."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.testing._internal.distributed.fake_pg import FakeStore


@contextmanager
def stand_in_process(rank: int, processes: int) -> Iterator[None]:
    """Be this one of so many. Collectives do nothing: what waits for another process, or reads what it sent, shows."""
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=processes)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()
