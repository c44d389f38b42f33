"""Which test runs which line, kept in a file: read again as long as the tests and the lines stay the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

QUIET = (
    "-q", "--tb=no", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist",
    "-W", "ignore::pytest.PytestAssertRewriteWarning",
)  # fmt: skip
"""Plain assertions, since pytest would import the package of a plugin, as this one is, in its own way."""


@dataclass
class Recorder:
    """A plugin of pytest that notes the seconds of each test that passes, and names its lines to coverage."""

    coverage: Any
    seconds: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Lines that run from here on are this test's."""
        self.coverage.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self.coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how long it took; what fails without any change can notice none."""
        if report.failed:
            self.failed.append(report.nodeid)
        elif report.passed:
            self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration


@dataclass(frozen=True)
class Covering:
    """Which test runs which line.

    Attributes:
        seconds: of each test that passes.
        lines: for each file and line, the tests that run it.
        outside: for each file, the lines that run outside of all tests, as on import.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]
    outside: dict[str, frozenset[int]]

    def of(self, file: str, line: int) -> list[str]:
        """The tests that run a line; none where it runs on import alone."""
        return self.lines.get(file, {}).get(line, [])

    def of_file(self, file: str) -> list[str]:
        """The tests that run any line."""
        return list(dict.fromkeys(test for tests in self.lines.get(file, {}).values() for test in tests))

    @cached_property
    def files(self) -> list[str]:
        """The files of the tests."""
        return sorted({test.partition("::")[0] for test in self.seconds})


def collect(tests: Sequence[str], files: Iterable[Path], root: Path) -> dict[str, Any]:
    """Run tests under coverage, in this process: it must not have imported what is measured."""
    import coverage

    measuring = coverage.Coverage(data_file=None, include=[str(each) for each in files], messages=False)
    recorder = Recorder(measuring)
    measuring.start()
    try:
        pytest.main([*tests, *QUIET], plugins=[recorder])
    finally:
        measuring.stop()
    data = measuring.get_data()
    known = list(recorder.seconds)
    number = {test: place for place, test in enumerate(known)}
    contexts = {str(Path(file).relative_to(root)): data.contexts_by_lineno(file) for file in data.measured_files()}
    lines = {
        file: {
            line: sorted(number[test] for test in tests if test in number and test not in recorder.failed)
            for line, tests in of_file.items()
        }
        for file, of_file in contexts.items()
    }
    outside = {file: [line for line, tests in of_file.items() if "" in tests] for file, of_file in contexts.items()}
    return {
        "tests": known, "seconds": list(recorder.seconds.values()), "failed": recorder.failed, "lines": lines,
        "outside": outside,
    }  # fmt: skip


def read(made: dict[str, Any]) -> Covering:
    """From what `collect` made."""
    tests = made["tests"]
    lines = {
        file: {int(line): [tests[number] for number in numbers] for line, numbers in of_file.items() if numbers}
        for file, of_file in made["lines"].items()
    }
    outside = {file: frozenset(numbers) for file, numbers in made["outside"].items()}
    return Covering(dict(zip(tests, made["seconds"], strict=True)), lines, outside)


def fingerprint(files: Iterable[Path]) -> str:
    """Changes with any of the files."""
    made = hashlib.sha256()
    for file in sorted(files):
        made.update(file.read_bytes())
    return made.hexdigest()
