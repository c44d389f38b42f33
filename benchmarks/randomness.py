"""Random integers of the sampler against a public battery: Brown's dieharder, fed through a pipe.

    python benchmarks/randomness.py
    python benchmarks/randomness.py --orders names --tests 15 200 --multiple 1
    python benchmarks/record.py randomness --resume randomness.jsonl

The integers (32 bits each) come in four orders:

- `one`: those of one weight, one after the other.
- `names`: of 256 weights of different names and seeds in turn: the first of each, the second of each, and so on.
- `heads`: the first 256 of ever new weights, so that mostly the hash of names and seeds is tested.
- `philox`: numpy's Philox, to compare with.

The tests are those that dieharder itself calls good, less one that takes as long as all others, with its own sizes,
repeated until each order has given at least --words integers. A p-value within 0.005 of 0 or 1 is weak, as dieharder
calls it: under a good generator one in a hundred is, but those of one test depend on each other, so that they come in
groups. One within 10^-6 has failed; then it exits with 1. Needs the program `dieharder`.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from autoinit.writing._words import BLOCK, Bits, RandomStream

ORDERS = ("one", "names", "heads", "philox")
GOOD: tuple[tuple[int, Sequence[int]], ...] = (
    *((test, ()) for test in (0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 15, 16, 100, 101, 102)),
    (200, (1, 2, 3, 5, 8)),
    (201, (2, 3)),
    (202, (3, 5)),
    (203, (1, 7)),
    *((test, ()) for test in (204, 205, 206, 207, 208, 209)),
)
"""Numbers of dieharder's tests that it calls good, each with the sizes of tuples to try; not 17, which is slow."""
WEAK, FAILED = 0.005, 1e-6
"""How near to 0 or 1 a p-value is called weak, and how near it has failed."""
ASSESSMENTS = ("PASSED", "WEAK", "FAILED")
"""How a line with a p-value ends."""
MANY = 256

Figures = dict[str, Any]


def integers(order: str, begin: int) -> Iterator[Bits]:
    """Blocks of random integers without end, from a multiple of a block's size on."""
    if order == "one":
        stream = RandomStream.of(0, "layer.weight", (4096, 4096))
        for start in range(begin, sys.maxsize, BLOCK):
            yield stream.run(start, BLOCK)
    elif order == "names":
        streams = [
            RandomStream.of(number % 16, f"layers.{number // 16}.weight", (4096, 4096)) for number in range(MANY)
        ]
        for start in range(begin // MANY, sys.maxsize, BLOCK // MANY):
            rows = [stream.run(start, BLOCK // MANY).copy() for stream in streams]
            yield np.ascontiguousarray(np.stack(rows, axis=1))
    elif order == "philox":
        generator = np.random.Philox(begin)
        for _ in range(begin, sys.maxsize, BLOCK):
            yield generator.random_raw(BLOCK // 2).view(np.int32)
    else:
        for first in range(begin // MANY, sys.maxsize, BLOCK // MANY):
            numbers = range(first, first + BLOCK // MANY)
            streams = [RandomStream.of(number % 7, f"layers.{number // 7}.weight", (MANY,)) for number in numbers]
            yield np.concatenate([stream.run(0, MANY).copy() for stream in streams])


def p_values(test: int, size: int | None, multiple: int, source: Iterator[Bits]) -> tuple[list[float], int]:
    """What one test of dieharder says of the next integers, and how many it was given."""
    command = ["dieharder", "-g", "200", "-d", str(test), "-m", str(multiple), "-c", ",", "-k", "2"]
    command += [] if size is None else ["-n", str(size)]
    given = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for block in source:
                process.stdin.write(memoryview(block.reshape(-1)).cast("B"))
                given += block.size
        except BrokenPipeError:
            pass
        said = process.stdout.read().decode()
    rows = [line.split(",") for line in said.splitlines() if line.rstrip().endswith(ASSESSMENTS)]
    found = [float(row[4]) for row in rows]
    if process.returncode or not found:
        raise SystemExit(f"dieharder -d {test} ended with {process.returncode} and said:\n{said}")
    return found, given


def battery(order: str, options: argparse.Namespace, done: list[Figures], progress: Progress) -> None:
    """All tests, round after round, until enough integers were given or the time is over; goes on from what is done."""
    chosen = [(test, size) for test, sizes in GOOD for size in sizes or [None] if test in options.tests]
    mine = [each for each in done if each["order"] == order]
    words = sum(each["words"] for each in mine)
    source = integers(order, words)
    task = progress.add_task(order, total=options.words, completed=words)
    for test, size in islice(cycle(chosen), len(mine), None):
        if (words >= options.words and len(mine) >= len(chosen)) or time.monotonic() > options.until:
            return
        progress.update(task, description=f"{order}, test {test}")
        values, given = p_values(test, size, options.multiple, source)
        words += given
        mine.append({"order": order, "test": test, "size": size, "words": given, "p": values})
        done.append(mine[-1])
        if options.resume is not None:
            with options.resume.open("a") as lines:
                lines.write(json.dumps(mine[-1]) + "\n")
        progress.update(task, completed=words)


def total(order: str, done: Sequence[Figures]) -> Figures:
    """What the tests of one order came to."""
    mine = [each for each in done if each["order"] == order]
    values = np.array([value for each in mine for value in each["p"]])
    near = np.minimum(values, 1 - values)
    return {
        "order": order,
        "words": sum(each["words"] for each in mine),
        "values": values.size,
        "weak": int((near < WEAK).sum()),
        "failed": int((near < FAILED).sum()),
        "nearest": float(near.min()),
    }


def table(found: Sequence[Figures]) -> Table:
    """The figures for people."""
    made = Table(title="Random integers against dieharder")
    for column in ("order", "integers", "p-values", "weak", "expected", "failed", "nearest to 0 or 1"):
        made.add_column(column, justify="left" if column == "order" else "right")
    for each in found:
        count = each["values"]
        expected, nearest = f"{2 * WEAK * count:.1f}", f"{each['nearest']:.1g}"
        words = f"2^{np.log2(each['words']):.1f}"
        made.add_row(each["order"], words, str(count), str(each["weak"]), expected, str(each["failed"]), nearest)
    return made


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = sorted({test for test, _ in GOOD})
    parser.add_argument("--orders", nargs="+", choices=ORDERS, default=list(ORDERS), help="default: all")
    parser.add_argument("--tests", nargs="+", type=int, choices=every, default=every, help="default: all")
    parser.add_argument("--words", type=int, default=2**32, metavar="N", help="integers of each order (default 2^32)")
    parser.add_argument("--multiple", type=int, default=1, metavar="M", help="of each test's samples (default 1)")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="begin no test later than this (default: never)"
    )
    parser.add_argument("--resume", type=Path, metavar="FILE", help="lines of what is done: goes on there")
    options = parser.parse_args(arguments)
    options.until = time.monotonic() + options.seconds
    return options


def main() -> None:
    """Measure, print, and write the JSON."""
    options = parse()
    if shutil.which("dieharder") is None:
        raise SystemExit("The program dieharder is not installed. Debian has it in a package of that name.")
    done: list[Figures] = []
    if options.resume is not None and options.resume.exists():
        done = [json.loads(line) for line in options.resume.read_text().splitlines()]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for order in options.orders:
            battery(order, options, done, progress)
    found = [total(order, done) for order in options.orders if any(each["order"] == order for each in done)]
    Console(width=None if sys.stdout.isatty() else 130).print(table(found))
    if any(each["failed"] for each in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
