"""`benchmarks/explore.py` finds what fails of drawn examples, shows it made small, and repeats itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "explore.py"
CLAIMS = """
from hypothesis import given, settings, strategies as st

@settings(max_examples=300)
@given(number=st.integers(0, 10_000), name=st.sampled_from(["a", "b"]))
def test_small(number, name):
    assert number < 100, f"{number} is large"

@given(number=st.integers())
def test_right(number):
    assert number == number

def test_not_drawn():
    raise AssertionError
"""


def explored(tmp_path: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    claims, written = tmp_path / "test_claims.py", tmp_path / "explored.json"
    claims.write_text(CLAIMS)
    command = [sys.executable, str(SCRIPT), "--tests", str(claims), "--json", str(written), *arguments]
    wide = {**os.environ, "COLUMNS": "400"}  # a name that is cut off is not found
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=wide)
    return done, json.loads(written.read_text()) if written.exists() else {}


def test_a_finding_is_an_example(tmp_path: Path) -> None:
    """The smallest number that is not small is 100; the first of the names is the simplest."""
    done, found = explored(tmp_path, "--seed", "7", "--rounds", "3")
    assert done.returncode == 1, done.stderr
    assert "@example(\n    number=100,\n    name='a',\n)" in done.stdout
    small, right = sorted(found["tests"], key=lambda each: each["test"], reverse=True)
    assert (small["rounds"], small["seed"], small["error"]) == (1, 7, "AssertionError: 100 is large")
    assert small["examples"] == ["number=100,\nname='a',"]
    assert (right["rounds"], right["seed"], right["examples"]) == (3, None, [])


def test_tests_that_cannot_run_are_told(tmp_path: Path) -> None:
    done, found = explored(tmp_path, "--tests", str(tmp_path / "nothing.py"))
    assert done.returncode == 2
    assert "nothing.py" in done.stdout
    assert found["tests"] == []
    assert "--minutes takes a number above 0" in explored(tmp_path, "--minutes", "0")[0].stderr
