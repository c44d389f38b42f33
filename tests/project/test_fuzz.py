"""Damaged files of every kind, some hundred of them: the same in every run."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.shared.started import python

FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"
KINDS = {
    "m.pt",
    "old.pt",
    "w.pt",
    "m.pt2",
    "w.safetensors",
    "w.safetensors.index.json",
    "pyproject.toml",
    "known.json",
    "odd.pt",
}


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return python(FUZZ, *arguments, timeout=240)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each file is read in a process that is forked")
def test_no_damaged_file_does_harm(tmp_path):
    done = fuzz("--count", "90", "--seed", "1", "--json", str(tmp_path / "fuzz.json"))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    outcomes = json.loads((tmp_path / "fuzz.json").read_text())
    assert {each["kind"] for each in outcomes} == KINDS
    assert {each["status"] for each in outcomes} <= {0, 1, 2}
    assert {0, 2} <= {each["status"] for each in outcomes}, "some are read and some refused"
    assert "90 files, 0 faults" in done.stdout


def test_kinds_that_there_are_not_are_refused():
    done = fuzz("--kinds", "m.onnx")
    assert done.returncode == 2
    assert "--kinds m.onnx: expected some of m.pt" in done.stderr
