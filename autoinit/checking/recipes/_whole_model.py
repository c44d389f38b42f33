"""Which published recipe a whole model follows, if its weights leave little doubt."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from autoinit.checking._part import Part
from autoinit.checking.recipes._published import Published, noise, published
from autoinit.errors.calling import calling
from autoinit.recipes import marked

_FEWEST = 6
_NEARLY_ALL = 0.95
_PLAN_AT_MOST = 0.75
"""Share of the weights that may be as planned: a few wrong weights beside planned ones are faults, not a recipe."""
_EXACT, _LOOSE = 0.03, 0.10
_UNIFORM_KURTOSIS = 2.1
"""Between that of a uniform distribution, 1.8, and of a normal one cut at two sigma, 2.4."""


def recognised(parts: Sequence[Part]) -> Published | None:
    """The published recipe for whole models that nearly all of these weights follow; None if there is any doubt.

    At least 6 weights, 95 % of which have the recipe's std to within 3 % beyond noise; no more than 75 % of those whose
    scale matters have the planned one; most are normal, or uniform, as the recipe draws them; and the model shows what
    the recipe is for.
    """
    deciding = [part for part in parts if not part.facts.standardised]
    if len(parts) < _FEWEST or sum(_planned(part) for part in deciding) > _PLAN_AT_MOST * len(deciding):
        return None
    for name, mark in marked().items():
        with calling(f"shown= of the mark of recipe {name}"):
            shown = mark.shown(parts)
        if shown:
            recipe = published(mark.declared or name)
            following = sum(recipe.fits(part, _EXACT) for part in parts)
            if following >= _NEARLY_ALL * len(parts) and _uniform(parts) == mark.uniform:
                return recipe
    return None


def _uniform(parts: Sequence[Part]) -> bool:
    """Whether most weights are drawn from uniform distributions."""
    return statistics.median(part.portrait.kurtosis for part in parts) < _UNIFORM_KURTOSIS


def _planned(part: Part) -> bool:
    less, more = noise(part)
    low, high = part.scales
    return low * less / (1 + _LOOSE) <= part.actual <= high * more * (1 + _LOOSE)
