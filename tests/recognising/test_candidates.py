"""What is offered as having drawn a weight: numbers and scales as people write them, the usual ones first."""

from __future__ import annotations

import math

import pytest

from autoinit.recognising._candidates import EVERYTHING, _absolute_of, candidates, scaled
from autoinit.recognising.recipes import Recipe
from tests.shared.plan_builders import layer_plan


@pytest.mark.parametrize(
    ("usual", "unusual"),
    [(0.02, 0.03), (0.03, 0.025), (0.025, 0.017), (1.0, 0.9), (0.001, 0.004), (0.15, 0.16)],
)
def test_numbers_that_people_write_more_often_come_first(usual: float, unusual: float) -> None:
    """0.02, 0.01 and the like before other single digits, these before halves (0.025), these before the rest."""
    one, other = _absolute_of("normal", usual), _absolute_of("normal", unusual)
    assert one.doubt < other.doubt


def test_an_absolute_number_is_a_std_but_for_a_uniform_distribution_a_bound() -> None:
    """U(-b, b) has std b / sqrt(3)."""
    assert _absolute_of("normal", 0.02).recipe == Recipe("normal(0.02)", "absolute", "normal", 0.02)
    assert _absolute_of("truncated_normal", 0.02).recipe.std == 0.02
    bounded = _absolute_of("uniform", 0.05).recipe
    assert bounded.name == "uniform(-0.05, 0.05)"
    assert bounded.std == pytest.approx(0.05 / math.sqrt(3))


def test_absolute_numbers_go_from_a_millionth_to_one() -> None:
    """Of one digit each: 9 in each of six decades, and 1."""
    layer = layer_plan("weight", (8, 8), distribution="orthogonal")
    absolute = sorted(each.recipe.std for each in candidates(layer, (), "normal") if each.recipe.kind == "absolute")
    assert len(absolute) == 6 * 9 + 1
    assert absolute[0] == pytest.approx(1e-6)
    assert absolute[-1] == pytest.approx(1.0)


SCALES = {"x 0.1": 0.1, "x 0.5": 0.5, "x 0.01": 0.01, "x 2": 2.0, "x 0.2": 0.2, "x 10": 10.0, "x 0.001": 0.001,
          "/ sqrt(2)": 0.5**0.5, "/ sqrt(2*12)": 24**-0.5, "/ sqrt(2*126)": 252**-0.5}  # fmt: skip


@pytest.mark.parametrize(("words", "factor"), SCALES.items(), ids=SCALES)
def test_scales_on_top(words: str, factor: float) -> None:
    """Of the usual recipes: kaiming for a ReLU of 32 inputs has std sqrt(2 / 32) = 1 / 4."""
    layer = layer_plan("weight", (16, 32), fan_in=32.0, fan_out=16.0, distribution="orthogonal")
    made = candidates(layer, (), "normal")
    (one,) = [each.recipe for each in made if each.recipe.name == "kaiming_normal(fan_in, relu)"]
    assert one.std == pytest.approx(0.25)
    found = {each.recipe.name: each.recipe for each in scaled(made, EVERYTHING)}
    assert found[f"{one.name} {words}"].std == pytest.approx(0.25 * factor)
    assert found[f"{one.name} {words}"].factor == pytest.approx(factor)


BLOCKS = {
    "nanoGPT and other small ones": (2, 3, 4, 5, 6, 8, 10),
    "GPT-2": (12, 24, 36, 48),
    "Pythia, OPT": (6, 16, 32, 40, 64),
    "Gemma": (18, 28, 42),
    "nanochat, DeepSeek": (20, 30),
    "LLaMA": (32, 40, 60, 80, 126),
    "GPT-3": (96,),
    "as deep as MLPs go": (120,),
}
"""Depths of published transformers."""


@pytest.mark.parametrize("depth", sorted({depth for depths in BLOCKS.values() for depth in depths}))
def test_a_branch_is_scaled_by_the_depth_of_a_model_that_there_is(depth: int) -> None:
    """By 1 / sqrt(2 L), two branches a block."""
    layer = layer_plan("weight", (16, 32), fan_in=32.0, fan_out=16.0, distribution="orthogonal")
    found = {each.recipe.name: each.recipe.factor for each in scaled(candidates(layer, (), "normal"), EVERYTHING)}
    assert found[f"kaiming_normal(fan_in, relu) / sqrt(2*{depth})"] == pytest.approx((2 * depth) ** -0.5)
