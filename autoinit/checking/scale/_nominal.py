"""The std that rows of a weight were drawn with: by name where a call is known, else the sample's, with its noise.

A sample's std differs from draw to draw, so that a verdict by it could change from run to run of the same code. A
record names the call. Without one the pattern does: all layers of a kind are drawn by the same line of code as a rule,
so the recipe that suits most of them better than the plan, and all together beyond doubt, was the call: at those, too,
that are too small to tell alone.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from autoinit.checking._part import Part
from autoinit.checking._subject import Subject
from autoinit.checking.scale._recorded import recorded_recipe
from autoinit.recognising.families import kurtosis_of
from autoinit.recognising.noise import TAIL, spread
from autoinit.recognising.recipes import Recipe

MANY = 1000
"""From so many elements on, a sample's kurtosis tells that of what it was drawn from."""
NOISE = 3.0
"""Standard errors beyond which rows are looked at more closely."""
EVIDENCE = -math.log(TAIL)
"""Logarithm of the odds from which on a call is taken for certain."""
_CALLS = ("default", "kaiming", "xavier", "orthogonal", "absolute")
"""Kinds of recipes that are one call for all layers."""


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
        if _could_be_within(self.part, least, most) if self.recipe is None else least <= self.std <= most:
            return None
        return self.std / (high if self.std > high else low)

    def at_least(self, ratio: float) -> float:
        """How far off a ratio is at least, either way, noise allowed for."""
        if self.recipe is not None:
            return max(ratio, 1 / ratio)
        less, more = spread(self.part.count, _kurtosis(self.part))
        return ratio / more if ratio > 1 else less / ratio


def drawn(subject: Subject, part: Part) -> Drawn:
    """What rows were drawn with, as a record, else the pattern of all layers of their kind, tells."""
    origin = subject.origin(part.layer.param)
    recorded = recorded_recipe(origin, part) if origin is not None else None
    if recorded is not None:
        return Drawn(recorded.std, recorded, part, recorded=True)
    call = subject.once(_calls).get(part.layer.op)
    named = next((each for each in part.recognition.recipes if call is not None and _call(each) == call), None)
    return Drawn(named.std if named is not None else part.actual, named, part)


def _calls(subject: Subject) -> Mapping[str, Hashable]:
    """By the operation of layers the call that drew most of them, where the plan did not."""
    kinds: dict[str, list[Part]] = {}
    for part in (each for each in subject.parts if not each.fixed):
        kinds.setdefault(part.layer.op, []).append(part)
    found = {kind: _common_call(parts, subject.tolerance) for kind, parts in kinds.items()}
    return {kind: call for kind, call in found.items() if call is not None}


def _common_call(parts: Sequence[Part], tolerance: float) -> Hashable | None:
    """The call that suits most of some parts better than the plan, and all of them by `EVIDENCE`; None without one."""
    low, high = 1 / (1 + tolerance), 1 + tolerance
    planned = {part: _distance(part, part.scales[0] * low, part.scales[1] * high) for part in parts}
    if len(parts) < 2 or max(planned.values()) < NOISE:
        return None
    evidence: dict[Hashable, dict[Part, float]] = {}
    for part in parts:
        for each in (recipe for recipe in part.recognition.recipes if recipe.kind in _CALLS):
            gained = (planned[part] ** 2 - _distance(part, each.std, each.std) ** 2) / 2
            evidence.setdefault(_call(each), {}).setdefault(part, gained)
    best = max(evidence, key=lambda call: sum(evidence[call].values()), default=None)
    if best is None or 2 * sum(each > 0 for each in evidence[best].values()) <= len(parts):
        return None
    return best if sum(evidence[best].values()) > EVIDENCE else None


def _distance(part: Part, low: float, high: float) -> float:
    """How many standard errors the sample's std lies outside a range; 0 within it."""
    error = math.sqrt((_kurtosis(part) - 1) / (4 * part.count))
    return max(0.0, math.log(low / part.actual), math.log(part.actual / high)) / error


def _call(recipe: Recipe) -> Hashable:
    """What stands for the call that a recipe is, whatever layer it is made on."""
    if recipe.kind == "absolute":
        return recipe.name
    return recipe.kind, recipe.distribution, recipe.mode, recipe.nonlinearity, recipe.factor, recipe.corrected


def _could_be_within(part: Part, low: float, high: float) -> bool:
    """Whether the rows could have been drawn with a std between two."""
    less, more = spread(part.count, 3.0)
    # Which family they are of takes a closer look, so it is asked for only where it could matter.
    if not low * less <= part.actual <= high * more and part.count < MANY:
        return False
    less, more = spread(part.count, _kurtosis(part))
    return low * less <= part.actual <= high * more and (not _is_uniform(part) or _bound_fits(part, low))


def _bound_fits(part: Part, low: float) -> bool:
    """Whether the largest of n uniform magnitudes may be as small as it is: below b (1 - d) with odds (1 - d)^n."""
    peak, count = part.portrait.peak(part.rows)
    return bool(peak >= math.sqrt(3) * low * TAIL ** (1 / max(1, count)))


def _is_uniform(part: Part) -> bool:
    return part.portrait.fit(part.rows).likely == ("uniform",)


def _kurtosis(part: Part) -> float:
    """That of the family, if there is but one, else the sample's, if it is larger than the normal's and is known."""
    if _is_uniform(part):
        return kurtosis_of("uniform")
    return max(3.0, part.portrait.kurtosis) if part.count >= MANY else 3.0
