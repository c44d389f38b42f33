"""Values are frozen: what is made stays as it was made, but for the few classes that hold the state of some work."""

from __future__ import annotations

import dataclasses
import importlib

import pytest

from tests.project.package_imports import modules

STATES = {
    "Found", "Origins", "Pickled", "Progress", "Taken", "_Build", "_Following", "_Panel", "_Settling", "_Solver",
    "_Storage", "_Unrolling", "_Wanted", "_Writing",
}  # fmt: skip
"""What changes while it is worked on: sums, what has been found so far, an axis that is drawn on."""


def dataclasses_of(module: str) -> dict[str, type]:
    found = vars(importlib.import_module(module)).values()
    classes = (each for each in found if isinstance(each, type) and dataclasses.is_dataclass(each))
    return {each.__name__: each for each in classes if each.__module__ == module}


@pytest.mark.parametrize("module", [name for name in modules() if not name.endswith("__main__")])
def test_values_are_frozen(module: str) -> None:
    changing = {name for name, each in dataclasses_of(module).items() if not each.__dataclass_params__.frozen}
    assert changing == STATES & set(dataclasses_of(module))


def test_every_state_is_there() -> None:
    known = {name for module in modules() if not module.endswith("__main__") for name in dataclasses_of(module)}
    assert known > STATES
