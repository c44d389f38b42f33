"""Causes: which single fault explains a scale that is not the one called for.

Several recipes may fit a weight. Each is held against what the layer's place calls for, and the one that leaves the
fewest things wrong explains it: a wrong fan with the right gain rather than another gain over another fan. Among equals
the recipe that is more usual decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from autoinit.recognising.recipes import Recipe
from autoinit.theory.truncation import TRUNCATED_STD

if TYPE_CHECKING:
    from autoinit.checking._subject import Part

SAME = 0.03
"""Gains and fans that differ by less are the same here."""

LARGEST_GAIN = 2.0
"""No nonlinearity in use calls for a larger gain."""
FAR_FETCHED = ("shape[0]", "ungrouped", "unstrided")
"""Fans that are met seldom: together with a wrong gain they explain nothing."""


class Verdict(NamedTuple):
    """faults: how many things are wrong with a recipe. code: of the rule that says so."""

    faults: int
    code: str


def cause(part: Part, recipes: Sequence[Recipe], ratio: float, *, recorded: bool) -> tuple[str, Recipe | None]:
    """The code of the rule that explains the rows' std, and the recipe by which it does.

    Args:
        part: rows whose std is not the one that their place calls for.
        recipes: that could have produced them, the most usual first.
        ratio: actual over expected std.
        recorded: whether they are what a record tells, and not what statistics allow.
    """
    near = recipes if recorded else [recipe for recipe in recipes if _near(part, recipe)]
    verdicts = [(verdict, each) for each in near if (verdict := _verdict(part, each, ratio, recorded)) is not None]
    if not verdicts:
        return _code_of_gain(part) or _plain(ratio), None
    verdict, recipe = min(verdicts, key=lambda each: each[0].faults)
    return verdict.code or _code_of_gain(part) or _plain(ratio), recipe


def cause_by_recipe(part: Part, recipes: Sequence[Recipe], expected: float, ratio: float) -> tuple[str, Recipe | None]:
    """The same for rows that are meant to follow a published recipe: what kept them from its std.

    Args:
        part: such rows.
        recipes: that could have produced them, the most usual first.
        expected: the std by the published recipe.
        ratio: actual over expected std.
    """
    for recipe in recipes:
        if recipe.kind == "default" and recipe.fans in ("", "true"):
            return "INI103", recipe
    for recipe in recipes:
        if recipe.mode and _same(recipe.gain / math.sqrt(part.place.fan_in), expected):
            return "INI106", recipe
    return _plain(ratio), recipes[0] if recipes else None


def _plain(ratio: float) -> str:
    return "INI101" if ratio < 1 else "INI102"


def _near(part: Part, recipe: Recipe) -> bool:
    """Whether a recipe is within three standard errors: further off it may be true, but explains little."""
    error = math.sqrt((max(3.0, part.portrait.kurtosis) - 1) / (4 * part.count))
    return recipe.std > 0 and abs(math.log(recipe.std / part.actual)) <= 3 * error + 0.01


def _verdict(part: Part, recipe: Recipe, ratio: float, recorded: bool) -> Verdict | None:
    """What is wrong with a recipe at this place; None if nothing is. An empty code: no rule of its own."""
    place = part.place
    if not recipe.corrected and _same(recipe.std, TRUNCATED_STD * place.std):
        return Verdict(0, "INI108")
    if (
        recipe.fans == "packed"
        and recipe.factor == 1
        and _same(recipe.gain, 1.0 if recipe.kind != "kaiming" else place.gain)
    ):
        return Verdict(0, "INI107")
    if recipe.kind == "default":
        return Verdict(0, "INI103")
    if recipe.kind == "absolute":
        return Verdict(1, "INI109") if recorded or _round(recipe) else Verdict(2, "")
    if recipe.factor != 1 or recipe.kind not in ("kaiming", "xavier", "orthogonal") or not _by_fan(part, recipe):
        return Verdict(1, "")
    if recipe.kind == "orthogonal":
        return _wrong_gain(part, recipe) or Verdict(1, "")
    wrong_fan = recipe.mode == "fan_out" or recipe.fans != "true"
    wrong_gain = _wrong_gain(part, recipe)
    if wrong_gain is not None:
        if not wrong_fan:
            return wrong_gain
        return (
            Verdict(3, "") if recipe.fans in FAR_FETCHED and not recorded else _graver(part, recipe, ratio, wrong_gain)
        )
    return Verdict(1, "INI106") if wrong_fan else None


def _graver(part: Part, recipe: Recipe, ratio: float, wrong_gain: Verdict) -> Verdict:
    """Of a wrong gain over a wrong fan, the one that is further off."""
    by_gain = recipe.gain / part.place.gain
    by_fan = ratio / by_gain
    return Verdict(2, wrong_gain.code if abs(math.log(by_gain)) > abs(math.log(by_fan)) else "INI106")


def _round(recipe: Recipe) -> bool:
    """Whether an absolute std is a number that people choose: 1, 2 or 5 times a power of ten, before truncation."""
    nominal = recipe.std if recipe.corrected else recipe.std / TRUNCATED_STD
    if recipe.distribution == "uniform":
        nominal *= math.sqrt(3)
    return any(
        math.isclose(nominal, digit * 10.0**decade, rel_tol=1e-3) for digit in (1, 2, 5) for decade in range(-6, 1)
    )


def _code_of_gain(part: Part) -> str:
    """INI105 where the std is that of a rectifier with some slope between 0 and 1; empty otherwise."""
    place = part.place
    slope_one, slope_zero = (gain / math.sqrt(place.fan_in) for gain in (1.0, math.sqrt(2)))
    inside = slope_one / (1 + SAME) < part.actual < slope_zero * (1 + SAME)
    return "INI105" if place.scheme == "he" and place.mode == "fan_in" and inside else ""


def _wrong_gain(part: Part, recipe: Recipe) -> Verdict | None:
    """A gain where none belongs, or another than belongs there."""
    if _same(recipe.gain, part.place.gain):
        return None
    if part.place.scheme == "he":
        return Verdict(1, "INI105")
    return Verdict(1, "INI104" if 1 < recipe.gain / part.place.gain <= LARGEST_GAIN else "")


def _by_fan(part: Part, recipe: Recipe) -> bool:
    """Whether the recipe's std is its gain over the root of a fan, as far as that can be told."""
    if recipe.fans != "true" or recipe.mode != "fan_in":
        return True
    return _same(recipe.gain / math.sqrt(part.place.fan_in) * (1 if recipe.corrected else TRUNCATED_STD), recipe.std)


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=SAME)
