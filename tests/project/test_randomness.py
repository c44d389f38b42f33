"""The order in which a battery is given random integers, and how its p-values are counted."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from autoinit.writing._words import BLOCK, RandomStream

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def randomness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("randomness")


@pytest.mark.parametrize("order", ["one", "names", "heads"])
def test_integers_go_on_where_they_were(randomness: ModuleType, order: str) -> None:
    first = [block.copy().ravel() for block in islice(randomness.integers(order, 0), 3)]
    again = next(randomness.integers(order, 2 * BLOCK)).ravel()
    assert all(block.size == BLOCK for block in first)
    assert np.array_equal(first[2], again)
    assert not np.array_equal(first[1], again)


def test_names_take_turns(randomness: ModuleType) -> None:
    """Number 16 a + b of the 256 is layer a under seed b; the second integers of all follow the first of all."""
    block = next(randomness.integers("names", 0)).ravel()
    expected = RandomStream.of(3, "layers.2.weight", (4096, 4096)).run(0, 2)
    assert [block[35], block[256 + 35]] == expected.tolist()


def test_p_values_near_both_ends_are_counted(randomness: ModuleType) -> None:
    """0.004 and 0.996 are weak, 10^-7 is weak and failed; the nearest end is 10^-7 away."""
    done = [
        {"order": "one", "words": 2**20, "p": [0.004, 0.5, 0.996]},
        {"order": "one", "words": 2**20, "p": [1e-7]},
        {"order": "names", "words": 5, "p": [0.2]},
    ]
    found = randomness.total("one", done)
    assert (found["words"], found["values"], found["weak"], found["failed"]) == (2**21, 4, 3, 1)
    assert found["nearest"] == pytest.approx(1e-7)
    row = [next(iter(column.cells)) for column in randomness.table([found]).columns]
    assert row == ["one", "2^21.0", "4", "3", "0.0", "1", "1e-07"]


@pytest.mark.skipif(shutil.which("dieharder") is None, reason="dieharder is not installed")
def test_a_battery_is_run_and_gone_on_with(
    randomness: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "done.jsonl"
    arguments = ["--orders", "one", "--tests", "15", "--words", "1", "--resume", str(file)]
    monkeypatch.setattr(sys, "argv", ["randomness.py", *arguments])
    randomness.main()
    (line,) = file.read_text().splitlines()
    assert len(json.loads(line)["p"]) == 2  # runs up and runs down
    randomness.main()
    assert file.read_text().splitlines() == [line]
