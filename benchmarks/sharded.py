"""What writing a sharded weight costs each process: memory above its own shard, and processor time by its share.

    python benchmarks/sharded.py [--processes 4] [--size 8192]

One linear layer of size x size float32 numbers (256 MB) is parted among processes over gloo by `fully_shard`, and
written by `Plan.apply`, with the report. Beside it one process that holds all. The exit status is 1 where a target is
missed.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.distributed.fsdp import fully_shard

from autoinit import plan

MOST_MEGABYTES, MOST_SHARE = 48.0, 0.35


def write(size: int, *, sharded: bool) -> dict[str, float]:
    """Write the layer, and tell the cost: processor seconds, and megabytes above what is written."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(size, size), nn.ReLU())
    made = plan(model)
    small = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    plan(small).apply(small, seed=0)  # what is loaded once
    if sharded:
        fully_shard(model)
    model.to_empty(device="cpu")
    weight = next(model.parameters())
    own = (weight.to_local() if sharded else weight).nbytes  # type: ignore[attr-defined]
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    made.apply(model, seed=0)
    seconds = time.process_time() - began
    above = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": seconds, "megabytes": above / 1024 - own / 2**20, "own": own / 2**20}


def work(rank: int, processes: int, size: int, folder: str) -> None:
    """One process among several."""
    torch.set_num_threads(1)
    if processes > 1:
        store = dist.FileStore(f"{folder}/store", processes)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=processes, timeout=timedelta(minutes=5))
    Path(folder, f"{processes}-{rank}.json").write_text(json.dumps(write(size, sharded=processes > 1)))
    if processes > 1:
        dist.destroy_process_group()


def costs(processes: int, size: int, folder: str) -> list[dict[str, float]]:
    """What writing costs each of several processes."""
    torch.multiprocessing.spawn(work, (processes, size, folder), nprocs=processes)  # type: ignore[no-untyped-call]
    return [json.loads(Path(folder, f"{processes}-{rank}.json").read_text()) for rank in range(processes)]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=4, help="how many hold the weight (default 4)")
    parser.add_argument("--size", type=int, default=8192, help="rows and columns of the weight (default 8192)")
    options = parser.parse_args()
    if options.processes < 2 or options.size < 1:
        parser.error("--processes takes a number above 1, --size one above 0")
    with tempfile.TemporaryDirectory() as folder:
        (alone,) = costs(1, options.size, folder)
        several = costs(options.processes, options.size, folder)
    table = Table(title=f"writing {alone['own']:.0f} MB")
    for head in ("process", "own MB", "MB above", "CPU seconds", "share of one process's"):
        table.add_column(head, justify="right")
    table.add_row("alone", f"{alone['own']:.0f}", f"{alone['megabytes']:.0f}", f"{alone['seconds']:.2f}", "")
    for rank, each in enumerate(several):
        share = each["seconds"] / alone["seconds"]
        table.add_row(
            str(rank), f"{each['own']:.0f}", f"{each['megabytes']:.0f}", f"{each['seconds']:.2f}", f"{share:.2f}"
        )
    Console().print(table)
    most_share = MOST_SHARE * 4 / options.processes
    missed = [
        rank
        for rank, each in enumerate(several)
        if each["megabytes"] > MOST_MEGABYTES or each["seconds"] > most_share * alone["seconds"]
    ]
    Console().print(
        f"targets: {MOST_MEGABYTES:.0f} MB above, a share of {most_share:.2f}; missed by {missed or 'none'}"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
