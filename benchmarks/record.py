"""Runs a benchmark and keeps the tables that it prints, for the manual's page of benchmarks.

    python benchmarks/record.py coverage --library torchvision
    python benchmarks/record.py --name training methods --part training --resume training.jsonl

Writes `benchmarks/results/NAME.json`: the command, the date, versions, and each table with its title, columns and rows.
NAME is the benchmark's, unless --name says otherwise. A run that was stopped, or that failed, is not kept.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import runpy
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console
from rich.table import Table
from rich.text import Text

RESULTS = Path(__file__).parent / "results"


def plain(cell: Any) -> str:
    """The text of a cell, without its colours."""
    return cell.plain if isinstance(cell, Text) else Text.from_markup(str(cell)).plain


def data(table: Table) -> dict[str, Any]:
    """A table as plain values: its title, the heads of its columns (none if they are not shown), its rows."""
    return {
        "title": plain(table.title or ""),
        "columns": [plain(column.header) if table.show_header else "" for column in table.columns],
        "rows": [list(row) for row in zip(*(map(plain, column.cells) for column in table.columns), strict=True)],
    }


@contextmanager
def noted() -> Iterator[list[dict[str, Any]]]:
    """While it lasts, each table that any console prints is noted as well."""
    found: list[dict[str, Any]] = []
    show = Console.print

    def printing(console: Console, *objects: Any, **options: Any) -> None:
        found.extend(data(each) for each in objects if isinstance(each, Table))
        show(console, *objects, **options)

    with mock.patch.object(Console, "print", printing):
        yield found


def run(benchmark: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What a run of a benchmark came to.

    Raises:
        SystemExit: it failed or was stopped.
    """
    script = Path(__file__).with_name(f"{benchmark}.py")
    with noted() as tables, mock.patch.object(sys, "argv", [str(script), *arguments]):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise
    return {
        "command": shlex.join(["python", f"benchmarks/{benchmark}.py", *what_counts(arguments)]),
        "date": datetime.date.today().isoformat(),
        "environment": {"python": platform.python_version(), "torch": version("torch"), "cores": os.cpu_count()},
        "tables": tables,
    }


def what_counts(arguments: Sequence[str]) -> list[str]:
    """Arguments without those that say which files a run goes on from or leaves behind."""
    files = ("--resume", "--json")
    pairs = zip(("", *arguments), arguments, strict=False)
    return [each for before, each in pairs if before not in files and each not in (*files, "--stored")]


def main() -> None:
    """Run the benchmark that is named, and write what it came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", help="of the file in benchmarks/results; the benchmark's by default")
    parser.add_argument("benchmark", choices=sorted(each.stem for each in Path(__file__).parent.glob("[a-z]*.py")))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the benchmark")
    options = parser.parse_args()
    found = run(options.benchmark, options.arguments)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{options.name or options.benchmark}.json"
    file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
