"""Every weight layer of every truth model resolves as derived by hand, whichever tier traces it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pytest
import torch

from autoinit.errors import TraceError
from autoinit.ops.roles import Role
from autoinit.resolving import resolve
from autoinit.tracing import Dataflow, trace
from tests.truth import CASES, Case, Row, rows_of

BY_NAME = {case.name: case for case in CASES}

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@cache
def traced(name: str, tier: str | None, with_input: bool) -> Dataflow:
    """A truth model, traced once each way in a run of the tests."""
    case = BY_NAME[name]
    return trace(case.build(), case.inputs() if with_input else None, tier=tier)


def traced_rows(name: str, tier: str | None, with_input: bool) -> dict[str, Row]:
    return rows_of(resolve(traced(name, tier, with_input)))


def assert_same(found: Mapping[str, Row], expected: Mapping[str, Row]) -> None:
    """Fails with one line for each layer that differs."""
    names = [*expected, *(name for name in found if name not in expected)]
    differing = [name for name in names if found.get(name) != expected.get(name)]
    lines = [f"{name}: found {found.get(name)}, expected {expected.get(name)}" for name in differing]
    assert not differing, "\n".join([f"{len(differing)} of {len(names)} layers differ:", *lines])


@every_case
def test_table_covers_every_parameter_of_two_or_more_dimensions(case: Case):
    parameters = {name for name, parameter in case.build().named_parameters() if parameter.dim() > 1}
    known = {f"{name}.weight" if f"{name}.weight" in parameters else name for name in case.table()}
    assert known | set(case.others) == parameters
    assert not known & set(case.others)


@every_case
def test_recorded_tier_gives_the_truth(case: Case):
    assert_same(traced_rows(case.name, "recorded", True), case.table())


@every_case
def test_default_tier_gives_the_truth_without_an_input(case: Case):
    assert_same(traced_rows(case.name, None, False), case.table())


def is_complete(dataflow: Dataflow) -> bool:
    """Whether every operation is known and no split depends on a size that tracing by symbols does not know."""
    return not dataflow.unsupported and not any(op.role is Role.SPLIT and op.signal for op in dataflow.graph.nodes)


@every_case
def test_symbolic_tier_agrees_with_the_recorded(case: Case):
    try:
        complete = is_complete(traced(case.name, "symbolic", False))
    except TraceError:
        complete = False
    if not complete and not case.symbolic:
        pytest.skip("reads sizes or calls wrapped functions, so that tracing without running it leaves it open")
    found = traced_rows(case.name, "symbolic", False)
    assert_same(found, traced_rows(case.name, "recorded", True))


@pytest.mark.filterwarnings("ignore:The tensor attributes .*_flat_weights:UserWarning")
@pytest.mark.parametrize("case", [case for case in CASES if case.exported], ids=lambda case: case.name)
def test_exported_tier_agrees_with_the_recorded(case: Case):
    program = torch.export.export(case.build(), case.inputs())
    found = rows_of(resolve(trace(program)))
    assert_same(found, traced_rows(case.name, "recorded", True))


def test_evaluation_mode_traces_as_training_does():
    case = BY_NAME["googlenet"]
    model = case.build().eval()
    assert_same(rows_of(resolve(trace(model))), case.table())
    assert not any(module.training for module in model.modules())
