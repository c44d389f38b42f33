"""Going through many models: one after the other, each within a time, with a file from which a stopped run goes on."""

import argparse
import gc
import itertools
import json
import platform
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console, RenderableType
from rich.progress import Progress

Record = dict[str, Any]
Key = tuple[str, str]

TRIES = 2
"""How often a model may end the process before it is given up."""
PERIOD = 2.0
"""Seconds from an alarm that went unheard, as one inside a destructor does, to the next."""


class TimeUpError(BaseException):
    """Raised by the alarm. Not an Exception: no tier may take it for its own failure and try another."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Ends the block by TimeUpError after so long: at its end at the latest, if no alarm was heard within it."""
    rung = False

    def ring(_signal: int, _frame: FrameType | None) -> None:
        nonlocal rung
        rung = True
        raise TimeUpError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, PERIOD)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if rung:
        raise TimeUpError


def go_through(
    chosen: Sequence[Key], resume: Path | None, doing: str, work: Callable[[str, str], Record]
) -> tuple[list[Record], bool]:
    """The records of all models, and whether it was stopped on the way.

    Args:
        chosen: library and name of each.
        resume: JSON lines to go on from and to add to.
        doing: a word for the progress bar, such as `planning`.
        work: makes the record of a model by its library and name.
    """
    done, tries = _resumed(resume)
    records = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(doing, total=len(chosen))
        for key in chosen:
            progress.update(task, description=f"{key[0]} {key[1]}"[:48].ljust(48))
            try:
                records.append(done[key] if key in done else _attempted(key, tries.get(key, 0), resume, doing, work))
            except KeyboardInterrupt:
                return records, True
            progress.advance(task)
    return records, False


def stored(file: Path | None) -> set[Key]:
    """Library and name of all that a file to go on from holds."""
    return set(_resumed(file)[0])


def _attempted(key: Key, tries: int, resume: Path | None, doing: str, work: Callable[[str, str], Record]) -> Record:
    """One model, with its lines in the resume file before and after."""
    library, name = key
    if tries >= TRIES:
        record = {"library": library, "name": name, "state": "failed", "kind": "fault"}
        record["cause"] = f"the process died {tries} times while {doing} it"
    else:
        _append(resume, {"library": library, "name": name, "state": "started"})
        record = work(library, name)
        gc.collect()
    _append(resume, record)
    return record


def _append(file: Path | None, record: Record) -> None:
    """A line more, on disk before the next model begins."""
    if file is not None:
        with file.open("a") as lines:
            lines.write(json.dumps(record) + "\n")


def _resumed(file: Path | None) -> tuple[dict[Key, Record], Counter[Key]]:
    """Models that are done, and how often each other one was started."""
    done: dict[Key, Record] = {}
    tries: Counter[Key] = Counter()
    text = file.read_text() if file is not None and file.exists() else ""
    if file is not None and text and not text.endswith("\n"):
        with file.open("a") as lines:
            lines.write("\n")
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue  # the line that was being written when the process died
        key = record["library"], record["name"]
        if record["state"] == "started":
            tries[key] += 1
        else:
            done[key] = record
    return done, tries


def sliced(every: Sequence[str], options: argparse.Namespace) -> list[str]:
    """The names that match --models, cut by --offset and --every."""
    matching = [name for name in every if any(fnmatchcase(name, glob) for glob in options.models)]
    return matching[options.offset :: options.every]


def shortened(line: str, width: int) -> str:
    """One line, cut where it is too long."""
    text = " ".join(line.split())
    return text if len(text) <= width else f"{text[: width - 3]}..."


def totalled(
    records: Sequence[Record], libraries: Sequence[str], summary: Callable[[str, Sequence[Record]], Record]
) -> list[Record]:
    """The summary of each library of which there are records."""
    grouped = {library: [each for each in records if each["library"] == library] for library in libraries}
    return [summary(library, found) for library, found in grouped.items() if found]


def finish(
    console: Console,
    shown: Iterable[Iterable[RenderableType]],
    totals: Sequence[Record],
    records: Sequence[Record],
    file: Path | None,
    *,
    complete: bool,
) -> int:
    """Print what is shown, write the file if one is asked for, and give the exit status: 130 for a run that stopped."""
    for each in itertools.chain.from_iterable(shown):
        console.print(each, soft_wrap=isinstance(each, str), highlight=False)
    if not records:
        console.print("no architecture matches")
    if file is not None:
        write(file, totals, records, complete=complete)
    return 0 if complete else 130


def write(file: Path, totals: Sequence[Record], records: Sequence[Record], *, complete: bool) -> None:
    """All figures and records, as JSON."""
    environment = {"python": platform.python_version(), "torch": torch.__version__}
    found = {"environment": environment, "complete": complete, "libraries": totals, "models": records}
    file.write_text(json.dumps(found, indent=2) + "\n")
