"""Every weight layer of every truth model resolves as derived by hand, whichever tier traces it.

The models are torchvision's, timm's and the tests' own; those of transformers stand in a file of their own.
"""

from __future__ import annotations

import pytest
import torch

from autoinit.resolving import resolve
from autoinit.tracing import trace
from tests.truth import CASES, Case, rows_of, timm_tables, torchvision_tables
from tests.truth.checks import (
    assert_covers_every_parameter,
    assert_default_gives_the_truth,
    assert_recorded_gives_the_truth,
    assert_same,
    assert_symbolic_agrees,
    traced_rows,
)

EVERY = (*CASES, *timm_tables.CASES, *torchvision_tables.CASES)
"""Classification and the tests' own; timm's families; segmentation, detection, video and optical flow."""
OPEN = {case.name for case in torchvision_tables.CASES if not case.symbolic}
"""What tracing without running the model is known to leave open."""

every_case = pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)


@every_case
def test_table_covers_every_parameter_of_two_or_more_dimensions(case: Case):
    assert_covers_every_parameter(case)


@every_case
def test_recorded_tier_gives_the_truth(case: Case):
    assert_recorded_gives_the_truth(case)


@every_case
def test_default_tier_gives_the_truth_without_an_input(case: Case):
    assert_default_gives_the_truth(case)


@pytest.mark.parametrize("case", [case for case in EVERY if case.name not in OPEN], ids=lambda case: case.name)
def test_symbolic_tier_agrees_with_the_recorded(case: Case):
    assert_symbolic_agrees(case)


@pytest.mark.filterwarnings("ignore:The tensor attributes .*_flat_weights:UserWarning")
@pytest.mark.parametrize("case", [case for case in CASES if case.exported], ids=lambda case: case.name)
def test_exported_tier_agrees_with_the_recorded(case: Case):
    program = torch.export.export(case.build(), case.inputs())
    found = rows_of(resolve(trace(program)))
    assert_same(found, traced_rows(case, "recorded", True))


def test_evaluation_mode_traces_as_training_does():
    case = next(case for case in CASES if case.name == "googlenet")
    model = case.build().eval()
    assert_same(rows_of(resolve(trace(model))), case.table())
    assert not any(module.training for module in model.modules())
