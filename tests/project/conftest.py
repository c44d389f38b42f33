"""What tests of benchmarks share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def benchmarks() -> Iterator[None]:
    """The benchmarks' own modules; behind all others, since one of them is called `signal`."""
    room = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.append(room)
    yield
    sys.path.remove(room)
