"""Misfit and Case: a scale that is not the one called for, and a recipe that could have made it so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from autoinit.checking._part import Part
from autoinit.recognising.recipes import Recipe
from autoinit.theory.truncation import TRUNCATED_STD

SAME = 0.03
"""Gains and fans that differ by less are the same here."""
FAR_FETCHED = ("shape[0]", "ungrouped", "unstrided")
"""Fans that are met seldom: together with a wrong gain they explain nothing."""
_OF_FAN = ("kaiming", "xavier", "orthogonal")


@dataclass(frozen=True, eq=False)
class Misfit:
    """Rows of a weight whose std is not the one called for.

    Attributes:
        part: the rows.
        expected: the std that they are held against.
        ratio: their std over the nearest that would do.
        named: whether a record, or the pattern of all layers of the kind, tells what produced them.
        recorded: whether it is a record that does, and not statistics.
        strays: whether they are held against a published recipe that they are meant to follow, and not against the
            plan.
    """

    part: Part
    expected: float
    ratio: float
    named: bool = False
    recorded: bool = False
    strays: bool = False


@dataclass(frozen=True, eq=False)
class Case:
    """A recipe that could have produced a misfit, held against the place.

    Attributes:
        misfit: what is to be explained.
        recipe: that could have produced it.
    """

    misfit: Misfit
    recipe: Recipe

    @property
    def part(self) -> Part:
        """The rows."""
        return self.misfit.part

    @property
    def is_absolute(self) -> bool:
        """Whether the std was chosen as a number: as recorded, or 1, 2 or 5 times a power of ten before truncation."""
        return self.recipe.kind == "absolute" and (self.misfit.recorded or is_round(self.recipe))

    @cached_property
    def faults(self) -> int | None:
        """How many things are wrong with the recipe at this place, named by a rule or not; None if none is."""
        if self.recipe.kind == "absolute":
            return 1 if self.is_absolute else 2
        if not self._is_of_fan or self.recipe.kind == "orthogonal":
            return 1
        if self._has_wrong_gain and self._has_wrong_fan:
            return 3 if self._is_far_fetched else 2
        return 1 if self._has_wrong_gain or self._has_wrong_fan else None

    @property
    def blames_gain(self) -> bool:
        """Whether the gain is wrong, and further off than the fan is."""
        return self._is_of_fan and self._has_wrong_gain and (not self._has_wrong_fan or self._is_gain_graver is True)

    @property
    def blames_fan(self) -> bool:
        """Whether the fan is wrong, and further off than the gain is."""
        return self._is_of_fan and self._has_wrong_fan and (not self._has_wrong_gain or self._is_gain_graver is False)

    @property
    def gain_over_expected(self) -> float:
        """The recipe's gain over the one that the place calls for."""
        return self.recipe.gain / self.part.place.gain

    @property
    def _is_gain_graver(self) -> bool | None:
        """Of a wrong gain over a wrong fan, whether the gain is further off; None where the fan is far-fetched."""
        if self._is_far_fetched:
            return None
        by_fan = self.misfit.ratio / self.gain_over_expected
        return abs(math.log(self.gain_over_expected)) > abs(math.log(by_fan))

    @property
    def _has_wrong_gain(self) -> bool:
        return not same(self.recipe.gain, self.part.place.gain)

    @property
    def _has_wrong_fan(self) -> bool:
        recipe = self.recipe
        return recipe.kind != "orthogonal" and (recipe.mode == "fan_out" or recipe.fans != "true")

    @property
    def _is_far_fetched(self) -> bool:
        return self.recipe.fans in FAR_FETCHED and not self.misfit.recorded

    @property
    def _is_of_fan(self) -> bool:
        """Whether the recipe's std is its gain over the root of a fan, as far as that is known."""
        recipe = self.recipe
        if recipe.factor != 1 or recipe.kind not in _OF_FAN:
            return False
        if recipe.fans != "true" or recipe.mode != "fan_in":
            return True
        by_fan = recipe.gain / math.sqrt(self.part.place.fan_in)
        return same(by_fan * (1 if recipe.corrected else TRUNCATED_STD), recipe.std)


def same(one: float, other: float) -> bool:
    """Whether two gains, fans or stds are taken for one."""
    return math.isclose(one, other, rel_tol=SAME)


def is_round(recipe: Recipe) -> bool:
    """Whether an absolute std is a number that people choose: 1, 2 or 5 times a power of ten, before truncation."""
    nominal = recipe.std if recipe.corrected else recipe.std / TRUNCATED_STD
    if recipe.distribution == "uniform":
        nominal *= math.sqrt(3)
    return any(
        math.isclose(nominal, digit * 10.0**decade, rel_tol=1e-3) for digit in (1, 2, 5) for decade in range(-6, 1)
    )
