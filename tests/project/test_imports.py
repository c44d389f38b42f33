"""How the package's files import each other: in one direction, and no one another's private parts."""

from __future__ import annotations

import ast
import re
from collections import Counter

import networkx as nx
import pytest

from tests.project.package_imports import ROOT, Import, graph, imports, modules

STEP_UP = ("autoinit.plans.plan", "autoinit.writing.applying")
"""`Plan.apply` hands the plan to the writer: the one import against the way of the data."""
LIMIT_AT_THE_TOP = 12

LATE = {
    "autoinit.cli": "`autoinit --help` and errors of usage must not wait for torch",
    "autoinit.plans.plan": "`Plan.apply` is the step up",
    "autoinit.pytest_plugin": "pytest loads it at every start",
    "autoinit.comparing.trainings": "the package is imported wherever a model is built; a bar is for terminals",
    "autoinit.formats": "values print without rich until they are asked to",
    "autoinit.reporting.signals.plotting": "matplotlib is an extra",
    "autoinit.reporting.scalings.plotting": "matplotlib is an extra",
    "autoinit.reporting.comparisons.plotting": "matplotlib is an extra",
    "autoinit.saving": "the command line asks it for formats before torch is loaded; safetensors is an extra",
}
"""Modules and rooms that import inside functions, and why."""


def test_no_circle_of_files() -> None:
    """Imports in functions and under `TYPE_CHECKING` count as all others do."""
    found = graph()
    assert found.has_edge(*STEP_UP)
    found.remove_edge(*STEP_UP)
    circles = [sorted(each) for each in nx.strongly_connected_components(found) if len(each) > 1]
    assert circles == []


def test_the_step_up_is_taken_in_one_function_only() -> None:
    up = [(each.function, each.name) for each in imports() if (each.importer, each.imported) == STEP_UP]
    assert up == [("apply", "applied")]


def test_private_modules_are_imported_in_their_own_room_only() -> None:
    foreign = [each for each in imports() if (home := private_home(each)) and not is_in(each.importer, home)]
    assert foreign == []


@pytest.mark.parametrize(
    ("importer", "imported", "name", "home"),
    [
        ("autoinit.signal.batches", "autoinit.checking._part", "Part", "autoinit.checking"),
        ("autoinit.api", "autoinit.tracing.guessing._request", "", "autoinit.tracing.guessing"),
        ("autoinit.api", "autoinit.plans.plan", "_some", "autoinit.plans.plan"),
        ("autoinit.api", "autoinit._version", "__version__", ""),
        ("autoinit.api", "torch._C", "_nn", ""),
    ],
)
def test_what_counts_as_private(importer: str, imported: str, name: str, home: str) -> None:
    assert private_home(Import(importer, imported, name)) == home


def private_home(each: Import) -> str:
    """The room that a private module, or the module that a private name, belongs to; empty for what is public.

    Beside the package's own modules at the top, which all may use, and other packages'.
    """
    parts = [*each.imported.split("."), *([each.name] if each.name else [])]
    if parts[0] != "autoinit":
        return ""
    private = [at for at, part in enumerate(parts) if part.startswith("_") and not part.startswith("__")]
    return ".".join(parts[: private[0]]) if private and private[0] > 1 else ""


def is_in(module: str, home: str) -> bool:
    """Whether a module belongs to a room, or to a part of it."""
    return module == home or module.startswith(f"{home}.")


def test_few_modules_stand_at_the_top() -> None:
    assert len(list(ROOT.glob("*.py"))) <= LIMIT_AT_THE_TOP


def test_imports_in_functions_have_a_reason() -> None:
    late = {each.importer for each in imports() if each.function}
    assert {module for module in late if not any(is_in(module, home) for home in LATE)} == set()
    assert {home for home in LATE if not any(is_in(module, home) for module in late)} == set()


def test_every_module_was_read() -> None:
    assert {"autoinit", "autoinit.plans.plan", "autoinit.checking.rules.ini001_nonfinite"} <= set(modules())
    assert Import("autoinit.plans.plan", "autoinit.writing.applying", "applied", "apply") in imports()


def test_the_architecture_names_every_room_and_module_at_the_top() -> None:
    document = (ROOT.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    tops = {path.stem if path.is_file() else path.name for path in ROOT.iterdir() if path.suffix in ("", ".py")}
    named = set(re.findall(r"`(\w+)`", document.partition("## Rooms")[2].partition("## What is")[0]))
    assert {top for top in tops if not top.startswith("_")} - named == set()
    assert {room for room in named if room.islower()} - tops == set()


def test_one_class_name_is_one_thing() -> None:
    """Also where one of them is private."""
    named = [
        node.name.lstrip("_")
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    assert {name for name, count in Counter(named).items() if count > 1} == set()
