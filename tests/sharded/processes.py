"""Being one of several processes: of which the others do not exist, or really started."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch.testing._internal.distributed.fake_pg import FakeStore

Case = Callable[[int], Any]
"""Runs in every process, with its number; what it returns must be picklable."""


@contextmanager
def stand_in_process(rank: int, processes: int) -> Iterator[None]:
    """Be this one of so many. Collectives do nothing: what waits for another process, or reads what it sent, shows."""
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=processes)
    try:
        yield
    finally:
        dist.destroy_process_group()


def run_in_processes(cases: Mapping[str, Case], processes: int, folder: Path) -> dict[str, list[Any]]:
    """What each case returned in each process; in place of it the traceback where it raised.

    All cases run in one start of the processes. Where one raises in one process alone, the others are waited for at
    the next collective: cases catch what they expect.
    """
    multiprocessing.set_forkserver_preload(["torch.distributed.tensor", "torch.distributed.fsdp", "torch._dynamo"])
    how = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    torch.multiprocessing.start_processes(_run, (cases, processes, folder), nprocs=processes, start_method=how)
    results = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(processes)]
    return {name: [each[name] for each in results] for name in cases}


def _run(rank: int, cases: Mapping[str, Case], processes: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), processes)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=processes, timeout=timedelta(seconds=60))
    found: dict[str, Any] = {}
    for name, case in cases.items():
        try:
            found[name] = case(rank)
        except Exception:  # noqa: BLE001 - it is the test's to say what it expects
            found[name] = traceback.format_exc()
            break
    torch.save({**dict.fromkeys(cases, "not reached"), **found}, folder / f"{rank}.pt")
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads may still run, and abort a process that ends by and by
