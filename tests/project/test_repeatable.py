"""The suite draws the same examples whichever modules are loaded, and none of them is kept between runs."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shared import profiles
from tests.shared.started import python

ROOT = Path(__file__).parents[2]

DRAWING = """
import sys
sys.path[:0] = [{root!r}, {local!r}]
from tests.shared import profiles
profiles.load()
if "loaded" in sys.argv:
    import local_numbers
from hypothesis import given, strategies as st

drawn = []

@given(st.lists(st.integers(0, 999), max_size=20))
def example(numbers):
    drawn.append(numbers)

example()
print(drawn)
"""


def drawn(script: Path, *arguments: str) -> str:
    done = python(script, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loaded_modules_do_not_change_what_is_drawn(tmp_path: Path) -> None:
    """hypothesis draws one number in twenty from the constants of local modules: here from six hundred of them."""
    local = tmp_path / "local"
    local.mkdir()
    (local / "local_numbers.py").write_text(f"NUMBERS = {list(range(300, 900))}\n")
    script = local / "drawing.py"
    script.write_text(DRAWING.format(root=str(ROOT), local=str(local)))
    alone = drawn(script)
    assert alone.count("[") == 101
    assert drawn(script, "loaded") == alone


@pytest.mark.parametrize("_turn", [1, 2])
def test_every_test_begins_with_the_same_random_numbers(_turn: int) -> None:
    """Those of seed 0, of which each turn takes some. numpy's first is 0.5488, Python's 0.8444."""
    assert (random.random(), np.random.rand()) == pytest.approx((0.84442185, 0.54881350))
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(0)))


def test_every_test_is_derandomised() -> None:
    """Of what hypothesis takes from a profile; `pytest --hypothesis-profile=explore` is the way to other examples."""
    assert settings.get_current_profile_name() == profiles.SUITE
    assert settings.default is not None
    assert (settings.default.derandomize, settings.default.deadline, settings.default.database) == (True, None, None)


def test_no_example_is_made_of_another_but_to_explore(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a mutation starts from depends on hashes of addresses; the suite's examples must not."""
    made: list[object] = []
    monkeypatch.setattr(profiles, "_mutated", lambda *given: made.append(given))

    def draws(derandomize: bool) -> None:
        @settings(derandomize=derandomize, database=None, max_examples=50)
        @given(st.lists(st.lists(st.integers())))
        def example(numbers: list[list[int]]) -> None:
            pass

        example()

    draws(derandomize=True)
    assert made == []
    draws(derandomize=False)
    assert made != []
