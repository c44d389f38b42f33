"""What every truth table is held to, whichever library its model comes from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pytest

from autoinit.errors import TraceError
from autoinit.ops.roles import Role
from autoinit.resolving import resolve
from autoinit.tracing import Dataflow, trace
from tests.truth.cases import Case
from tests.truth.rows import Row, rows_of


@cache
def traced(case: Case, tier: str | None, with_input: bool) -> Dataflow:
    """A truth model, traced once each way in a run of the tests."""
    return trace(case.build(), case.inputs() if with_input else None, tier=tier)


def traced_rows(case: Case, tier: str | None, with_input: bool) -> dict[str, Row]:
    return rows_of(resolve(traced(case, tier, with_input)))


def assert_same(found: Mapping[str, Row], expected: Mapping[str, Row]) -> None:
    """Fails with one line for each layer that differs."""
    names = [*expected, *(name for name in found if name not in expected)]
    differing = [name for name in names if found.get(name) != expected.get(name)]
    lines = [f"{name}: found {found.get(name)}, expected {expected.get(name)}" for name in differing]
    assert not differing, "\n".join([f"{len(differing)} of {len(names)} layers differ:", *lines])


def assert_covers_every_parameter(case: Case) -> None:
    """Each parameter of two or more dimensions is a weight layer of the table or one of the others, and not both."""
    parameters = {name for name, parameter in case.build().named_parameters() if parameter.dim() > 1}
    known = {f"{name}.weight" if f"{name}.weight" in parameters else name for name in case.table()}
    listed = known | set(case.others)
    assert listed == parameters, f"missing: {sorted(parameters - listed)}; unknown: {sorted(listed - parameters)}"
    twice = known & set(case.others)
    assert not twice, f"both weight layers and others: {sorted(twice)}"


def assert_recorded_gives_the_truth(case: Case) -> None:
    assert_same(traced_rows(case, "recorded", True), case.table())


def assert_default_gives_the_truth(case: Case) -> None:
    """With no input given."""
    assert_same(traced_rows(case, None, False), case.table())


def is_complete(dataflow: Dataflow) -> bool:
    """Whether every operation is known and no split depends on a size that tracing by symbols does not know."""
    return not dataflow.unsupported and not any(op.role is Role.SPLIT and op.signal for op in dataflow.graph.nodes)


def assert_symbolic_agrees(case: Case) -> None:
    """Skips where tracing without running the model leaves something open, unless the case says that it must not."""
    try:
        complete = is_complete(traced(case, "symbolic", False))
    except TraceError:
        complete = False
    if not complete and not case.symbolic:
        pytest.skip("reads sizes or calls wrapped functions, so that tracing without running it leaves it open")
    assert_same(traced_rows(case, "symbolic", False), traced_rows(case, "recorded", True))
