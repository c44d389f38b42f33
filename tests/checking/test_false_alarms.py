"""A model fresh out of autoinit has no finding at all, whatever the seed and the distribution.

`benchmarks/faults.py --false-alarms` holds this for every truth model.
"""

from __future__ import annotations

import pytest
import torch

import tests.shared.torchvision_ops  # noqa: F401
from autoinit import autoinit, plan
from autoinit.checking._subject import Subject, subject
from autoinit.checking.checker import check
from autoinit.models import ModelView
from autoinit.plans.distributions import DISTRIBUTIONS
from autoinit.tracing import trace
from tests.shared.fresh import constructed, findings, seen_anew
from tests.truth import CASES, Case
from tests.truth.fixture_tables import FIXTURE_CASES

BY_NAME = {case.name: case for case in CASES}


def alarms(case: Case, seeds: int, seeds_by_depth: int) -> list[str]:
    """Every finding of every distribution and seed; of fewer seeds with residual streams scaled by depth."""
    torch.manual_seed(0)
    model = constructed(case)
    dataflow = trace(model)
    base: Subject | None = None
    found: list[str] = []
    for residual, count in (("keep", seeds), ("depth", seeds_by_depth)):
        for distribution in DISTRIBUTIONS:
            planned = plan(model, residual=residual, distribution=distribution)
            for seed in range(count):
                planned.apply(model, seed)
                base = subject(ModelView.of(model), dataflow) if base is None else seen_anew(base)
                told = (f"{residual} {distribution} {seed}: {finding}" for finding in findings(base))
                found.extend(told)
    return found


@pytest.mark.parametrize("case", FIXTURE_CASES, ids=lambda case: case.name)
def test_no_fixture_has_a_finding(case: Case):
    assert alarms(case, 6, 1) == []


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_no_torchvision_model_has_a_finding(name: str):
    assert alarms(BY_NAME[name], 1, 1) == []


@pytest.mark.parametrize("name", ["unet", "gru", "mobilenet_v2"])
def test_check_finds_what_these_tests_look_for(name: str):
    """Before and after autoinit, the findings of `check` are those of the shortcut that the tests above take."""
    model = constructed(BY_NAME[name])
    fresh = subject(ModelView.of(model), trace(model))
    before = findings(fresh)
    assert len(before) > 3
    assert sorted(map(str, before)) == sorted(map(str, check(model).findings))
    autoinit(model, seed=3, verbose=False)
    assert findings(seen_anew(fresh)) == check(model).findings == ()
