"""Whether the tests would notice: random changes of one operator, comparison, condition or constant at a time.

    python benchmarks/mutants.py --each 40
    python benchmarks/mutants.py --rooms autoinit/theory autoinit/resolving --seed 3 --resume mutants.jsonl
    python benchmarks/mutants.py --rooms autoinit/theory --again mutants.json

First every test of the rooms (the folders of `tests` named as they are, and those of --tests) runs once, to learn which
test runs which line; --covering FILE keeps this for the next call, until a file of a room or of the tests changes. Then
each change runs the tests that run its line, the quickest of each file first and those of its own room before others,
until one fails, hangs, or --limit seconds of tests are done. A change that nothing notices is a survivor: it wants a
test, or an entry in equivalent_mutants.json that says why it changes nothing that anyone could see.

Each change is made in a fork, in a function that is loaded or as the module is imported: nothing is written into the
package. POSIX only.
"""

import argparse
import contextlib
import importlib
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from _covering import Covering, collect, fingerprint, read
from _mutations import Change, changes
from _trying import ROOT, Bench, in_a_fork, inside_a_function
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

PACKAGE = "autoinit"
ROOMS = ("theory", "ops", "resolving", "methods", "planning", "writing", "recognising", "tensors", "checking")
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.json")
HEAVY = (
    "torch", "torch.export", "torch._dynamo", "torch.distributed", "hypothesis", "networkx", "scipy.stats", "rich",
    "tests.shared.torchvision_ops", "torchvision.models", "timm", "transformers", "matplotlib.pyplot",
)  # fmt: skip
"""Imported once, before all forks; nothing that imports the package."""
IMPORT = 1.0
"""Seconds that it takes to import a file of tests anew, about."""
KEY = ("file", "function", "text", "before", "after")
STATES = ("noticed", "survived", "equivalent", "uncovered")
Record = dict[str, Any]


# One change.


def ordered(change: Change, covering: Covering, limit: float, *, warm: bool) -> tuple[list[str], float]:
    """The tests that run the line, as many as take `limit` seconds: the quickest of each file, then the second of each.

    They come file by file, the quickest file first. Of what runs on import, the tests that run any line of its file.
    """
    price = 0.0 if warm else IMPORT
    room = room_of(change.file).removesuffix(".py")
    own = f"tests/{room}/"
    by_file: dict[str, list[str]] = {}
    tests = covering.of(change.file, change.line) if warm else covering.of_file(change.file)
    if not tests:  # all of it runs on import
        asking = [file for file in covering.files if f"from {PACKAGE}.{room}" in (ROOT / file).read_text()]
        tests = [test for test in covering.seconds if test.startswith((own, *asking))]
    for test in sorted(tests, key=lambda each: covering.seconds[each]):
        by_file.setdefault(test.partition("::")[0], []).append(test)
    in_turn = [(place, not file.startswith(own), test) for file, tests in by_file.items()
               for place, test in enumerate(tests)]  # fmt: skip
    chosen: set[str] = set()
    total = 0.0
    for place, _, test in sorted(in_turn):
        cost = covering.seconds[test] + (price if place == 0 else 0.0)
        if total + cost <= limit:
            chosen.add(test)
            total += cost
    kept = [(file, [test for test in tests if test in chosen]) for file, tests in by_file.items()]
    kept.sort(key=lambda each: (not each[0].startswith(own), sum(covering.seconds[test] for test in each[1])))
    return [test for _, tests in kept for test in tests], total


def room_of(file: str) -> str:
    """The folder, or the module, of the package that a file stands in."""
    return Path(file).parts[1]


def tried(change: Change, covering: Covering, limit: float, bench: Bench) -> Record:
    """What became of a change: the test that noticed it, or none."""
    warm = change.line not in covering.outside.get(change.file, ()) and inside_a_function(change)
    tests, seconds = ordered(change, covering, limit, warm=warm)
    record: Record = asdict(change) | {"room": room_of(change.file), "tests": len(tests)}
    if not tests:
        return record | {"state": "uncovered", "by": ""}
    started = time.perf_counter()
    by = bench.noticing(change, tests, 30 + 3 * seconds, warm=warm)
    return record | {"state": "noticed" if by else "survived", "by": by, "seconds": time.perf_counter() - started}


# All of them.


def covered(rooms: Sequence[Path], tests: Sequence[str], kept: Path | None) -> Covering:
    """Which test runs which line: from the file, if nothing has changed since."""
    files = [file for room in rooms for file in files_of(room)]
    mark = fingerprint([*files, *(file for test in tests for file in files_of(ROOT / test))])
    if kept is not None and kept.exists() and (made := json.loads(kept.read_text()))["mark"] == mark:
        return read(made)
    made = in_a_fork(lambda: collect(tests, files, ROOT), 7200)
    if not isinstance(made, dict) or not made["tests"]:
        raise SystemExit(f"the tests could not be run under coverage: {made}")
    if kept is not None:
        kept.write_text(json.dumps(made | {"mark": mark}))
    return read(made)


def files_of(room: Path) -> list[Path]:
    """The files of a folder, or the file itself."""
    return sorted(room.rglob("*.py")) if room.is_dir() else [room]


def drawn(rooms: Sequence[Path], each: int, seed: int) -> list[Change]:
    """So many changes of each room, at random among all, in the order of their lines; of more, these are the first."""
    chosen: list[Change] = []
    for room in rooms:
        every = [change for file in files_of(room) for change in changes(file, ROOT)]
        random.Random(f"{seed} {room.relative_to(ROOT)}").shuffle(every)
        chosen += sorted(every[:each], key=lambda change: (change.file, change.line))
    return chosen


def run(chosen: Sequence[Change], covering: Covering, options: argparse.Namespace) -> list[Record]:
    """What became of each; those that an earlier run has told of are not tried again."""
    equivalent = {tuple(each[name] for name in KEY) for each in json.loads(EQUIVALENT.read_text())}
    lines = options.resume.read_text().splitlines() if options.resume and options.resume.exists() else []
    done = {(each["file"], each["place"], each["variant"]): each for each in map(json.loads, lines)}
    records: list[Record] = []
    bench = Bench(covering.files)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for change in progress.track(chosen, description="changing"):
            record = done.get((change.file, change.place, change.variant))
            if change.key in equivalent:
                record = asdict(change) | {"room": room_of(change.file), "state": "equivalent", "by": ""}
            elif record is None:
                record = tried(change, covering, options.limit, bench)
                if options.resume is not None:
                    with options.resume.open("a") as file:
                        file.write(json.dumps(record) + "\n")
            records.append(record)
    return records


def table(records: Sequence[Record]) -> Table:
    """Counts by room, and of all."""
    made = Table(title="Changes", title_justify="left")
    made.add_column("room")
    for head in (*STATES, "noticed, %"):
        made.add_column(head, justify="right")
    rooms = list(dict.fromkeys(each["room"] for each in records))
    groups = [(room, [each for each in records if each["room"] == room]) for room in rooms]
    for name, group in [*groups, ("all", list(records))]:
        counts = [sum(each["state"] == state for each in group) for state in STATES]
        made.add_row(name, *map(str, counts), f"{100 * share(group):.1f}", end_section=name == rooms[-1])
    return made


def share(records: Sequence[Record]) -> float:
    """Of the changes that change anything, those that a test notices."""
    states = [each["state"] for each in records if each["state"] != "equivalent"]
    return states.count("noticed") / max(1, len(states))


def main() -> int:
    """Change and print. Exit status: 1 if less than nine in ten are noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", nargs="+", type=Path, default=[Path(PACKAGE) / each for each in ROOMS],
                        help="folders and files of the package to change")  # fmt: skip
    parser.add_argument("--tests", nargs="+", default=[], help="more folders of tests than those of the rooms")
    parser.add_argument("--each", type=int, default=40, help="changes of each room (default 40)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (default 0)")
    parser.add_argument("--limit", type=float, default=60, help="seconds of tests for a change (default 60)")
    parser.add_argument("--again", type=Path, help="only what survived, by the JSON of an earlier run")
    parser.add_argument("--covering", type=Path, help="keep which test runs which line in this file")
    parser.add_argument("--resume", type=Path, help="note each change in this file, and go on from it")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    options = parser.parse_args()
    if options.each < 1:
        parser.error("--each takes a number above 0")
    here = str(Path(__file__).parent)  # whose coverage.py is a benchmark
    sys.path[:] = [str(ROOT), *(each for each in sys.path if each != here)]
    rooms = [(ROOT / each).resolve() for each in options.rooms]
    if missing := [str(each) for each in rooms if not each.exists()]:
        parser.error(f"--rooms {missing[0]} is no file or folder")
    chosen = drawn(rooms, options.each, options.seed)
    if options.again is not None:
        survived = [each for each in json.loads(options.again.read_text())["changes"] if each["state"] == "survived"]
        keys = {tuple(each[name] for name in KEY) for each in survived}
        chosen = [each for room in rooms for file in files_of(room) for each in changes(file, ROOT) if each.key in keys]
    kept, written = [each and each.resolve() for each in (options.covering, options.json)]
    options.resume = options.resume and options.resume.resolve()
    os.chdir(ROOT)
    for name in HEAVY:
        with contextlib.suppress(ImportError):  # tests of what is not installed are skipped
            importlib.import_module(name)
    own = [f"tests/{room.stem}" for room in rooms if (ROOT / "tests" / room.stem).is_dir()]
    covering = covered(rooms, list(dict.fromkeys([*own, *options.tests])), kept)
    records = run(chosen, covering, options)
    console = Console()
    for each in records:
        if each["state"] in ("survived", "uncovered"):
            where = f"{each['file']}:{each['line']} {each['function'] or 'module'}"
            line = f"{each['state']} {where}: {each['before']}  ->  {each['after']}"
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    console.print(table(records))
    if written is not None:
        found = {"seed": options.seed, "noticed": share(records), "changes": records}
        written.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if share(records) >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
