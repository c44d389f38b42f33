"""Does it help? Networks as people build them, trained for a short while from every start."""

import argparse
import json
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from _practice_running import HELD, LEARN, Outcome, Runs, outcome
from _practice_starts import STARTS
from rich.console import Console


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=("learn", "held", "both"), default="both")
    parser.add_argument("--networks", nargs="+", metavar="GLOB", default=["*"])
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on from, and add to, these JSON lines")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # what has vanished leaves numbers too small for full speed
    names = [
        name for half, names in (("learn", LEARN), ("held", HELD)) if options.half in (half, "both") for name in names
    ]
    names = [name for glob in options.networks for name in names if fnmatchcase(name, glob)]
    runs = Runs(options.resume)
    failed = {}
    found: list[Outcome] = []
    for name in names:
        for start in options.starts:
            try:
                made = outcome(runs, name, start)
            except Exception as error:
                failed[name, start] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                continue
            if made is not None:
                found.append(made)
        print(
            name,
            "  ".join(f"{e.start} {e.mean:.4f}±{e.error:.4f}@{e.rate:g}" for e in found if e.network == name),
            flush=True,
        )
    for k, v in failed.items():
        print(*k, v)
    return 0


if __name__ == "__main__":
    sys.exit(main())
