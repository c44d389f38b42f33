"""Segmentation, detection, video and optical flow: every weight layer resolves as derived by hand."""

from __future__ import annotations

import pytest

from tests.truth import Case
from tests.truth.checks import (
    assert_covers_every_parameter,
    assert_default_gives_the_truth,
    assert_recorded_gives_the_truth,
    assert_symbolic_agrees,
)
from tests.truth.torchvision_tables import CASES

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@every_case
def test_table_covers_every_parameter_of_two_or_more_dimensions(case: Case):
    assert_covers_every_parameter(case)


@every_case
def test_recorded_tier_gives_the_truth(case: Case):
    assert_recorded_gives_the_truth(case)


@every_case
def test_default_tier_gives_the_truth_without_an_input(case: Case):
    assert_default_gives_the_truth(case)


@pytest.mark.parametrize("case", [case for case in CASES if case.symbolic], ids=lambda case: case.name)
def test_symbolic_tier_agrees_with_the_recorded(case: Case):
    assert_symbolic_agrees(case)
