"""Every truth model that exports: its file, read as data, against the program that torch holds in memory.

    python benchmarks/exported.py
    python benchmarks/exported.py --every 10 --json exported.json

The models are those of the tests' truth tables: by hand, of torchvision, timm and transformers. Each is exported,
saved and read while `torch.export.load` raises. It is a fault if its resolutions, or the names and bytes of its
tensors, are others than the program's. (A model on the meta device whose weights are tied is named differently: its
file has no bytes, which would tell that two tensors are one.) Each model is a process of its own; with --json a run
goes on where it stopped.
Exit status 1 if there is a fault.
"""

import argparse
import importlib
import io
import json
import logging
import multiprocessing
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import _truth
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

TABLES = ("torchvision_tables", "timm_tables", "transformers_tables")
SECONDS = 600


def cases() -> list[Any]:
    """Every model with a truth table."""
    tables = [importlib.import_module(f"tests.truth.{name}") for name in TABLES]
    return [*_truth.CASES, *(case for table in tables for case in table.CASES)]


def compared(case: Any) -> dict[str, Any]:
    """What becomes of one model. outcome: the same, another, or why it could not be exported."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    start = time.perf_counter()
    torch.manual_seed(0)
    try:
        program = torch.export.export(case.build(), case.inputs())
        held = io.BytesIO()
        torch.export.save(program, held)
    except Exception as error:  # noqa: BLE001 - torch cannot export every model
        return {"outcome": "not exported", "why": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:90]}"}
    faults = differences(program, held)
    seconds = time.perf_counter() - start
    found = {"bytes": len(held.getvalue()), "seconds": round(seconds, 1)}
    return {"outcome": "another" if faults else "the same", "why": "; ".join(faults), **found}


def differences(program: Any, held: io.BytesIO) -> list[str]:
    """In what the file, read as data, is not the program."""
    from autoinit.loading import exported
    from autoinit.resolving import resolve
    from autoinit.tracing import trace

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("torch.export.load was called")

    torch.export.load = refuse
    read = exported.read(held, 1 << 40, "model.pt2")
    ours, theirs = read.state_dict, program.state_dict
    faults = []
    if ours.keys() != theirs.keys():
        faults.append("other names")
    if not all(alike(ours[name], each) for name, each in theirs.items() if name in ours):
        faults.append("other values")
    if resolve(trace(read)) != resolve(trace(program)):
        faults.append("other resolutions")
    return faults


def alike(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Whether two tensors are the same; those without values by their shapes. Uninitialised ones may hold NaN."""
    if theirs.is_meta or ours.is_meta:
        return ours.is_meta == theirs.is_meta and ours.shape == theirs.shape and ours.dtype == theirs.dtype
    return torch.equal(ours.contiguous().view(-1).view(torch.uint8), theirs.contiguous().view(-1).view(torch.uint8))


def apart(case: Any) -> dict[str, Any]:
    """`compared` in a process of its own, which gives its memory back."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=lambda: theirs.send(compared(case)))
    process.start()
    theirs.close()
    try:
        found: dict[str, Any] = mine.recv() if mine.poll(SECONDS) else {"outcome": "too slow", "why": f"{SECONDS} s"}
    except EOFError:
        found = {"outcome": "another", "why": "the process ended"}
    process.kill()
    process.join()
    return found


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each Nth model only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes, and go on where they end")
    given = parser.parse_args()
    if given.every < 1:
        parser.error("--every: expected a number from 1")
    known = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    chosen = cases()[:: given.every]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for case in progress.track(chosen):
            if case.name not in known:
                known[case.name] = apart(case)
                if given.json:
                    given.json.write_text(json.dumps(known, indent=1))
    return show({case.name: known[case.name] for case in chosen})


def show(known: dict[str, dict[str, Any]]) -> int:
    """The models by outcome; 1 if one of them is a fault."""
    table = Table("outcome", "models", "of them")
    for outcome in dict.fromkeys(each["outcome"] for each in known.values()):
        here = {name: each for name, each in known.items() if each["outcome"] == outcome}
        some = [f"{name} ({each['why']})" for name, each in here.items() if each.get("why")]
        table.add_row(outcome, str(len(here)), "\n".join(some))
    Console().print(table)
    return int(any(each["outcome"] in ("another", "too slow") for each in known.values()))


if __name__ == "__main__":
    sys.exit(main())
