"""Draws ever new examples for what the tests claim of random ones, and prints those that fail, to be added to them.

    python benchmarks/explore.py --minutes 60
    python benchmarks/explore.py --minutes 10 --seed 100 --tests tests/resolving --json explored.json

Every test that hypothesis draws for is run again and again, each round with the next seed, until the time is up; a test
that has failed is left out from then on. The same seeds draw the same examples, which the suite itself never does: it
has examples of its own, always the same. `pytest --hypothesis-profile=explore --hypothesis-seed=N TEST` repeats a
finding. What fails is made smaller first, which takes up to five minutes.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import re
import sys
import textwrap
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent


@dataclass
class Explored:
    """One test: its rounds, how long they took, and what failed: the seed, the first error, and examples."""

    test: str
    rounds: int = 0
    seconds: float = 0.0
    seed: int | None = None
    error: str = ""
    examples: list[str] = field(default_factory=list)


@dataclass
class Exploration:
    """A plugin of pytest that runs what hypothesis draws for, notes how it ended, and stops when the time is up."""

    until: float
    seed: int
    tests: dict[str, Explored] = field(default_factory=dict)

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self) -> None:
        """Have the profiles registered, also for tests that stand elsewhere; imported late, as pytest wants it."""
        from tests.shared import profiles

        profiles.load()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Only tests with drawn examples, and only those that have not failed yet."""
        items[:] = [
            each
            for each in items
            if hasattr(getattr(each, "obj", None), "hypothesis") and not self.noted(each.nodeid).error
        ]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test ended."""
        noted = self.noted(report.nodeid)
        if report.when == "call":
            noted.rounds += 1
            noted.seconds += report.duration
        if report.failed:
            noted.seed = self.seed
            noted.error, noted.examples = told(report.longreprtext, report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """Stop when the time is up."""
        if time.monotonic() > self.until:
            item.session.shouldstop = "the time is up"

    def noted(self, test: str) -> Explored:
        """What is known of a test."""
        return self.tests.setdefault(test, Explored(test))


def told(report: str, test: str) -> tuple[str, list[str]]:
    """The first error of a failure report, and the examples in it, without the margins of pytest and of groups."""
    lines = [re.sub(r"^(E   |\s+\| )", "", line) for line in report.splitlines()]
    error = next(
        (line.strip() for line in lines if re.match(r"\s*(\w+\.)*\w+(Error|Exception|Exit)\b", line)), lines[-1]
    )
    name = re.sub(r"\[.*", "", test).rpartition("::")[2]
    starts = [number for number, line in enumerate(lines) if line.endswith(f": {name}(")]
    examples = []
    for start in starts:
        inside = list(itertools.takewhile(lambda line: line.strip() != ")", lines[start + 1 :]))
        examples.append(textwrap.dedent("\n".join(inside)))
    return error, examples


def explore(tests: list[str], minutes: float, seed: int, rounds: int | None) -> tuple[Exploration, list[str]]:
    """All rounds, and what pytest said where it could not run the tests at all."""
    exploration = Exploration(time.monotonic() + 60 * minutes, seed)
    for exploration.seed in itertools.count(seed) if rounds is None else range(seed, seed + rounds):
        if time.monotonic() > exploration.until:
            break
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            ended = pytest.main(
                [*tests, "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-profile=explore",
                 f"--hypothesis-seed={exploration.seed}"],
                plugins=[exploration],
            )  # fmt: skip
        if ended not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
            return exploration, said.getvalue().splitlines()
    return exploration, []


def table(exploration: Exploration) -> Table:
    """A line for each test."""
    made = Table(title="Explored", title_justify="left")
    for head in ("test", "rounds", "seconds", "failed with seed"):
        made.add_column(head, justify="left" if head == "test" else "right", overflow="fold")
    for each in sorted(exploration.tests.values(), key=lambda each: each.test):
        failed = "" if each.seed is None else f"[red]{each.seed}"
        made.add_row(each.test, str(each.rounds), f"{each.seconds:.0f}", failed)
    return made


def main() -> int:
    """Explore and print. Exit status: 1 if anything failed, 2 if the tests could not be run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="for how long (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the first round (default 0)")
    parser.add_argument(
        "--tests", nargs="+", default=["tests"], help="files, folders or names of tests (default tests)"
    )
    parser.add_argument("--rounds", type=int, help="stop after so many, even if there is time left")
    parser.add_argument("--json", type=Path, help="write all figures and findings to this file")
    options = parser.parse_args()
    if options.minutes <= 0:
        parser.error("--minutes takes a number above 0")
    written = options.json.resolve() if options.json is not None else None
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    exploration, trouble = explore(options.tests, options.minutes, options.seed, options.rounds)
    console = Console()
    console.print(table(exploration))
    findings = [each for each in exploration.tests.values() if each.error]
    for each in findings:
        console.print(f"\n[red]{each.test}[/] with seed {each.seed}: {each.error}", soft_wrap=True, highlight=False)
        for example in each.examples:
            console.print(
                f"@example(\n{textwrap.indent(example, '    ')}\n)", soft_wrap=True, highlight=False, markup=False
            )
    for line in trouble:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    if written is not None:
        found: dict[str, Any] = {
            "minutes": options.minutes,
            "seed": options.seed,
            "tests": [asdict(each) for each in exploration.tests.values()],
        }
        written.write_text(json.dumps(found, indent=2) + "\n")
    return 2 if trouble else 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
