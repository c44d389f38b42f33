"""Recognition: which recipes fit a weight."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from autoinit.recognising.candidates import Candidate, candidates, exact, scaled
from autoinit.recognising.families import Drawn, Fit, kurtosis_of, truncated_std
from autoinit.recognising.noise import TAIL, spread
from autoinit.recognising.recipes import Recipe, written

if TYPE_CHECKING:
    from autoinit.plans import LayerPlan
    from autoinit.recognising.portrait import Portrait, Rows

PRECISION = 0.005
"""What finite precision may add to the relative error of a std."""
ORTHOGONAL_GAINS = (1.0, math.sqrt(2), 5 / 3, 0.01, 0.1, 0.5, 2.0, math.sqrt(2 / 1.04), 0.75)
NAMED = 3
"""How many recipes are told by name."""


@dataclass(frozen=True)
class Recognition:
    """What produced some rows of a weight, as far as their values can tell.

    family: the most likely distribution. std: the root mean square of the elements. recipes: all that fit, most
    plausible first; empty when nothing does.
    """

    family: str
    std: float
    recipes: tuple[Recipe, ...]

    def __str__(self) -> str:
        if not self.recipes:
            return (
                f"unknown ({self.family}, std {self.std:.3g})"
                if self.family != "unknown"
                else (f"unknown (std {self.std:.3g})")
            )
        told = [recipe.name for recipe in self.recipes[:NAMED]]
        more = len(self.recipes) - len(told)
        return " or ".join([*told, f"{more} more"] if more else told)


def recognise(portrait: Portrait, layer: LayerPlan, rows: Rows = ()) -> Recognition:
    """Names the recipes that fit a weight, or some rows of it.

    Args:
        portrait: of the weight.
        layer: its plan: operation, axes, fans and gain.
        rows: half-open runs of its output features; the whole without them.
    """
    filled = _filled(portrait, rows)
    std = math.sqrt(float(filled.mean())) if filled.size else 0.0
    stats = portrait.stats
    if not filled.size and not stats.nonfinite:
        return Recognition("zeros", 0.0, (Recipe("zeros", "zeros", "", 0.0),))
    if portrait.family == "constant":
        return Recognition("constant", std, (Recipe(f"constant({written(stats.mean)})", "constant", "", 0.0),))
    if portrait.identity:
        value = stats.minimum + stats.maximum
        name = "identity" if value == 1 else f"identity x {written(value)}"
        return Recognition("identity", std, (Recipe(name, "identity", "", std, gain=abs(value), factor=abs(value)),))
    if portrait.frames:
        return Recognition("orthogonal", std, tuple(_orthogonal(portrait, layer, rows, std)))
    fit = portrait.fit(rows)
    if not fit.likely:
        return Recognition("unknown", std, ())
    evidence = Evidence(fit, std, filled.size * portrait.width, portrait.fit_peak(rows))
    return Recognition(fit.likely[0], std, tuple(_drawn(evidence, layer, rows)))


@dataclass(frozen=True)
class Evidence:
    """What candidates are held against: families and their odds, root mean square, count, largest magnitude."""

    fit: Fit
    std: float
    count: int
    peak: float

    def misfit(self, candidate: Candidate, odds: float) -> float | None:
        """Minus the logarithm of how likely the candidate is beside others; None if it cannot be."""
        recipe = candidate.recipe
        kurtosis = kurtosis_of(recipe.distribution, self.fit.cut)
        low, high = spread(self.count, kurtosis)
        ratio = self.std / recipe.std
        if not low * (1 - PRECISION) <= ratio <= high * (1 + PRECISION):
            return None
        if recipe.distribution == "uniform" and not self._fits_bound(math.sqrt(3) * recipe.std):
            return None
        variance = (kurtosis - 1) / (4 * self.count) + (PRECISION / 5) ** 2
        return candidate.doubt - odds + math.log(ratio) ** 2 / (2 * variance)

    def _fits_bound(self, bound: float) -> bool:
        """The largest of n uniform magnitudes is below b (1 - d) with probability (1 - d)^n."""
        least = TAIL ** (1 / self.count)
        return least * (1 - PRECISION) <= self.peak / bound <= 1 + PRECISION


def _filled(portrait: Portrait, rows: Rows) -> npt.NDArray[np.float64]:
    """The mean squares of those features that are not zero, as those of padding are."""
    power = portrait.power_of(rows)
    filled: npt.NDArray[np.float64] = power[power > 0]
    return filled


def _drawn(evidence: Evidence, layer: LayerPlan, rows: Rows) -> list[Recipe]:
    """Recipes without a scale on top if any fits, else those with one, and round numbers of two digits."""
    shrunk = truncated_std(evidence.fit.cut)
    odds = dict(zip(evidence.fit.likely, evidence.fit.odds, strict=True))
    plain = {family: candidates(layer, rows, family, shrunk) for family in odds}
    found = _fitting(evidence, plain, odds)
    if not found:
        more = {family: (*exact(family, shrunk), *scaled(made)) for family, made in plain.items()}
        found = _fitting(evidence, more, odds)
    return found


def _fitting(
    evidence: Evidence, made: Mapping[Drawn, tuple[Candidate, ...]], odds: Mapping[Drawn, float]
) -> list[Recipe]:
    scored = [(evidence.misfit(each, odds[family]), each.recipe) for family in made for each in made[family]]
    fitting = [(score, recipe) for score, recipe in scored if score is not None]
    return [recipe for _, recipe in sorted(fitting, key=lambda each: each[0])]


def _orthogonal(portrait: Portrait, layer: LayerPlan, rows: Rows, std: float) -> Iterator[Recipe]:
    """One recipe for each way in which the weight is orthogonal, whole before parts."""
    for frame in portrait.frames:
        gain = std / frame.unit
        known = next((each for each in ORTHOGONAL_GAINS if abs(gain / each - 1) <= PRECISION), None)
        told = f"gain={written(known if known is not None else float(f'{gain:.3g}'))}"
        joint = frame.parts == 1 and (rows or layer.slices)
        parts = f" of each of {frame.parts} parts" if frame.parts > 1 else ""
        yield Recipe(f"orthogonal({told}){parts}", "orthogonal", "orthogonal", frame.unit * (known or gain),
                     known or gain, fans="packed" if joint else "true")  # fmt: skip
