"""`benchmarks/mutants.py` makes one change at a time, runs the tests of its line, and tells what nothing notices."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared.started import python

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "mutants.py"
SOURCE = '''"""A docstring with 3 numbers."""
from typing import Literal

LIMIT: Literal[5] = 5

def clipped(x: float, low: bool = True) -> float:
    if low and not x >= 1:
        return -x * LIMIT
    return max(x, 0.5) + 0.0 + 0.01
'''
CHANGES = {
    ("", "5", "6"),
    ("", "5", "4"),
    ("clipped", "True", "False"),
    ("clipped", "low and (not x >= 1)", "low or not x >= 1"),
    ("clipped", "low and (not x >= 1)", "not x >= 1"),
    ("clipped", "low and (not x >= 1)", "low"),
    ("clipped", "not x >= 1", "x >= 1"),
    ("clipped", "x >= 1", "x > 1"),
    ("clipped", "x >= 1", "x < 1"),
    ("clipped", "1", "2"),
    ("clipped", "1", "0"),
    ("clipped", "-x * LIMIT", "-x / LIMIT"),
    ("clipped", "-x", "x"),
    ("clipped", "max(x, 0.5)", "min(x, 0.5)"),
    ("clipped", "0.5", "1.5"),
    ("clipped", "0.0", "1.0"),
    ("clipped", "0.01", "1.0"),
    ("clipped", "max(x, 0.5) + 0.0", "max(x, 0.5) - 0.0"),
    ("clipped", "max(x, 0.5) + 0.0 + 0.01", "max(x, 0.5) + 0.0 - 0.01"),
}


LISTING = """
import ast, json, pathlib, sys
sys.path.append(sys.argv[1])
from _mutations import changed, changes
root = pathlib.Path(sys.argv[2])
file = root / "source.py"
told = [(each.function, each.before, each.after, ast.unparse(changed(file, each))) for each in changes(file, root)]
print(json.dumps(told))
"""


def test_every_change_is_made_once(tmp_path: Path) -> None:
    """By hand: annotations and docstrings are left as they are, and each change alone is in its tree."""
    (tmp_path / "source.py").write_text(SOURCE)
    command = [sys.executable, "-c", LISTING, str(SCRIPT.parent), str(tmp_path)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
    assert {(function, before, after) for function, before, after, *_ in found} == CHANGES
    assert len(found) == len(CHANGES)
    plain = ast.unparse(ast.parse(SOURCE)).splitlines()
    for *change, made in found:
        differing = [pair for pair in zip(plain, made.splitlines(), strict=True) if pair[0] != pair[1]]
        assert len(differing) == 1, change


@pytest.mark.skipif(not hasattr(os, "fork"), reason="changes are made in forks")
def test_changes_of_a_file_against_its_tests(tmp_path: Path) -> None:
    written, kept = tmp_path / "mutants.json", tmp_path / "covering.json"
    command = [SCRIPT, "--rooms", "autoinit/theory/layouts.py", "autoinit/theory/fans.py"]
    command += ["--tests", "tests/theory/test_fans.py", "--each", "3", "--json", str(written), "--covering", str(kept)]
    done = python(*command, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(written.read_text())
    assert [each["room"] for each in found["changes"]] == ["theory"] * len(found["changes"])
    fans = [each for each in found["changes"] if each["file"].endswith("fans.py")]
    assert len(fans) == 3
    for each in fans:
        assert each["state"] == "noticed", each
        assert each["by"].startswith("tests/theory/test_fans.py::test_")
    assert json.loads(kept.read_text())["failed"] == []


LATE = """
import sys
sys.path.append(sys.argv[1])
from _mutations import changes
from _trying import ROOT, _put_in
sys.path.insert(0, str(ROOT))
file = ROOT / "autoinit" / "theory" / "gains.py"
change = next(each for each in changes(file, ROOT) if each.after == "0 >= gain < math.inf")
assert "autoinit.theory.gains" not in sys.modules
_put_in(change)
from autoinit.theory.fans import Fans
from autoinit.theory.gains import std
std(1.0, Fans(1.0, 1.0), "fan_in")
"""


def test_what_is_loaded_late_is_changed_too() -> None:
    """A gain of 1 is refused by the change, in a module that nothing had loaded when it was made."""
    command = [sys.executable, "-c", LATE, str(SCRIPT.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "ArgumentError: gain is 1.0" in done.stderr, done.stderr


def test_the_rooms_that_are_changed_are_there() -> None:
    """By default those that the benchmark names: each a folder of the package, with a folder of tests."""
    rooms = ast.literal_eval(re.search(r"^ROOMS = (\(.*?\))$", SCRIPT.read_text(), re.M | re.S)[1])
    for room in rooms:
        assert (SCRIPT.parents[1] / "autoinit" / room).is_dir(), room
        assert (SCRIPT.parents[1] / "tests" / room).is_dir(), room


def test_equivalent_changes_say_why() -> None:
    entries = json.loads(SCRIPT.with_name("equivalent_mutants.json").read_text())
    assert all(each.keys() == {"file", "function", "text", "before", "after", "why"} for each in entries)
    assert all(len(each["why"].split()) > 4 for each in entries)
