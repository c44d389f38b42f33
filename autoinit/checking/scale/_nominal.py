"""The std that rows of a weight were drawn with: by name where a call is known, else the sample's, with its noise.

A sample's std differs from draw to draw, so that a verdict by it could change from run to run of the same code. A
record names the call. Without one the pattern of all layers of a kind does (`_calls`). Where neither does, the sample
is given the benefit of all doubt (`_noise`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoinit.checking._part import Part
from autoinit.checking._subject import Subject
from autoinit.checking.scale._calls import common_call
from autoinit.checking.scale._noise import within_noise
from autoinit.checking.scale._recorded import recorded_recipe
from autoinit.recognising.recipes import Recipe

ROUNDED = 1.05
"""What a std loses or gains when it is rounded to a digit or two: 0.02 is off by a factor of 10 where 0.2001 is due."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """What rows were drawn with.

    Attributes:
        std: by the recipe, else the root mean square of the sample.
        recipe: that a record or the pattern names; None where there are only statistics.
        part: the rows.
        recorded: whether it is a record that names it.
    """

    std: float
    recipe: Recipe | None
    part: Part
    recorded: bool = False

    def ratio(self, low: float, high: float, tolerance: float) -> float | None:
        """The std over the nearer end of a range; None within it, tolerance and noise allowed for."""
        least, most = low / (1 + tolerance), high * (1 + tolerance)
        if within_noise(self.part, least, most) if self.recipe is None else least <= self.std <= most:
            return None
        return self.std / (high if self.std > high else low)

    def is_small_head(self, tolerance: float) -> bool:
        """Whether they are a head that starts small on purpose, whatever call the digits of its std suggest."""
        if self.part.small is None:
            return False
        least, most = self.part.small[0] / (1 + tolerance), self.part.small[1] * (1 + tolerance)
        return least <= self.std <= most if self.recorded else within_noise(self.part, least, most)

    def exceeds(self, ratio: float, limit: float) -> bool:
        """Whether a std that is `ratio` times the one called for is off by more than a factor, noise allowed for."""
        most = limit * ROUNDED
        if self.recipe is not None:
            return max(ratio, 1 / ratio) > most
        called_for = self.std / ratio
        if ratio > 1:
            return not within_noise(self.part, 0.0, called_for * most)
        return not within_noise(self.part, called_for / most, math.inf)


def drawn(subject: Subject, part: Part) -> Drawn:
    """What rows were drawn with, as a record, else the pattern of all layers of their kind, tells."""
    origin = subject.origin(part.layer.param)
    recorded = recorded_recipe(origin, part) if origin is not None else None
    if recorded is not None:
        return Drawn(recorded.std, recorded, part, recorded=True)
    named = common_call(subject, part)
    return Drawn(named.std if named is not None else part.actual, named, part)
