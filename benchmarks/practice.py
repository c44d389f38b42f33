"""Does it help? Networks as people build them, trained for a short while from every start.

    python benchmarks/practice.py --resume practice.jsonl --json practice.json
    python benchmarks/practice.py --half learn --networks 'vgg*' gpt --starts library plain train

32 networks on scikit-learn's digits, on the source of Python's library, and on data that is made: convolutional ones
with and without norms, U-Net, autoencoders, a GAN, transformers, recurrent networks, a graph, points, fields, an
actor-critic, a detector's head, a flow, a differential equation. Each is trained from the library's default, a He
loop, a Xavier loop, LSUV, the literature's recipe for it, and from autoinit's methods and options, at the same three to
five learning rates and for the same 30 to 300 steps, 120 seconds at most.

The first seed is trained at every rate; the others at the best of them, and at the second best where its score is
within a fifth of it. What counts is the mean of the seeds' scores at the rate where it is lowest; lower is better.
A win or a loss is a difference of more than two standard errors.

The networks are split: `learn` are those that the rows of `preset="train"` were chosen by, `held` those that were added
afterwards and that no preset was tried on until the rows were fixed. Once looked at, held ones are learnt from: a
next choice needs new ones.

One thread. What was trained from the same numbers is trained once, so that a file of --resume goes on after a change of
autoinit, too: what the change moved is trained anew. After a change of a network or a task, begin a new file.
"""

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from _practice_running import HELD, LEARN, SEEDS, Outcome, Runs, outcome
from _practice_starts import STARTS
from _practice_tables import MAIN, counted, counts, figures
from rich.console import Console
from rich.progress import Progress

HALVES = {"learn": ("Learnt from", LEARN), "held": ("Held out", HELD)}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", nargs="+", choices=HALVES, default=list(HALVES), help="default: both")
    parser.add_argument("--networks", nargs="+", metavar="GLOB", default=["*"], help="names to take, such as 'vgg*'")
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS), help="default: all")
    parser.add_argument("--seeds", type=int, metavar="N", default=len(SEEDS),
                        help="of all but other options of ours, which get three (default: 3)")  # fmt: skip
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on from, and add to, these JSON lines")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    return parser.parse_args(arguments)


def main() -> int:
    """Train, print, and write the JSON; 130 if it was stopped."""
    options = parse()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # what has vanished leaves numbers too small for full speed
    chosen = [
        (name, start)
        for half in options.half
        for glob in options.networks
        for name in HALVES[half][1]
        if fnmatchcase(name, glob)
        for start in options.starts
    ]
    runs = Runs(options.resume)
    found: list[Outcome] = []
    failed: dict[tuple[str, str], str] = {}
    stopped = False
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("training", total=len(chosen))
        for name, start in chosen:
            progress.update(task, description=f"{name}, {start}".ljust(24))
            try:
                made = outcome(runs, name, start, range(options.seeds) if start in MAIN else SEEDS)
            except KeyboardInterrupt:
                stopped = True
                break
            except Exception as error:  # noqa: BLE001 - listed
                failed[name, start] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            else:
                found += [made] if made is not None else []
            progress.advance(task)
    console = Console(width=max(180, Console().width))
    for title, names in HALVES.values():
        half = [each for each in found if each.network in names]
        if half:
            for table in (*figures(half, title), counts(half, title)):
                console.print(table)
    console.print(counts(found, "All"))
    for (name, start), cause in failed.items():
        console.print(f"failed: {start} on {name}: {cause}", highlight=False)
    if options.json is not None:
        options.json.write_text(json.dumps(document(found, failed, complete=not stopped), indent=1) + "\n")
    return 130 if stopped else 0


def document(found: Sequence[Outcome], failed: dict[tuple[str, str], str], *, complete: bool) -> dict[str, Any]:
    """All figures as JSON."""
    return {
        "environment": {"python": platform.python_version(), "torch": torch.__version__},
        "complete": complete,
        "halves": {half: list(names) for half, (_, names) in HALVES.items()},
        "outcomes": [each.as_dict() for each in found],
        "totals": counted(found),
        "failed": {f"{name} {start}": cause for (name, start), cause in failed.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
