"""Recognition: which recipes fit a weight."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoinit.plans.layers import LayerPlan
from autoinit.recognising._candidates import UNUSUAL, Candidate, Window, candidates, exact, scaled, usual_stds
from autoinit.recognising.families import Drawn, Fit, kurtosis_of, truncated_std
from autoinit.recognising.noise import TAIL, spread
from autoinit.recognising.portrait import Portrait, Rows
from autoinit.recognising.recipes import Recipe, written

__all__ = ["PRECISION", "Recognition", "recognise", "usual_stds"]

PRECISION = 0.005
"""What finite precision may add to the relative error of a std."""
EXACT = 3e-6
"""Relative error of a length in float32."""
ORTHOGONAL_GAINS = (1.0, math.sqrt(2), 5 / 3, 0.01, 0.1, 0.5, 2.0, math.sqrt(2 / 1.04), 0.75)
NAMED = 3
"""How many recipes are named."""


@dataclass(frozen=True)
class Recognition:
    """What produced some rows of a weight, as far as their values can tell.

    Attributes:
        family: the most likely distribution.
        std: the root mean square of the elements, without output features that are all zero.
        recipes: all that fit, most plausible first; empty when nothing does.
    """

    family: str
    std: float
    recipes: tuple[Recipe, ...]

    def __str__(self) -> str:
        if not self.recipes:
            family = f"{self.family}, " if self.family != "unknown" else ""
            return f"unknown ({family}std {self.std:.3g})"
        names = [recipe.name for recipe in self.recipes[:NAMED]]
        more = len(self.recipes) - len(names)
        return " or ".join([*names, f"{more} more"] if more else names)


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
    single = tuple(_single(portrait, rows))
    if not fit.likely:
        return Recognition("unknown", std, single)
    evidence = Evidence(fit, std, filled.size * portrait.width, *portrait.peak(rows))
    return Recognition(fit.likely[0], std, (*single, *_drawn(evidence, layer, rows)))


@dataclass(frozen=True)
class Evidence:
    """What candidates are held against.

    Attributes:
        fit: families and their odds.
        std: root mean square of `count` elements.
        peak: the largest magnitude of `sought`.
    """

    fit: Fit
    std: float
    count: int
    peak: float
    sought: int

    def window(self, family: Drawn) -> Window:
        """The standard deviations that a family could have been drawn with."""
        low, high = spread(self.count, kurtosis_of(family, self.fit.cut))
        least = self.std / (high * (1 + PRECISION))
        return Window(least, self.std / (low * (1 - PRECISION)) if low > 0 else math.inf)

    def fitting(self, made: Mapping[Drawn, tuple[Candidate, ...]]) -> list[Candidate]:
        """The candidates that fit, the most plausible first: by doubt, family and std (minus the log of how likely)."""
        odds = dict(zip(self.fit.likely, self.fit.odds, strict=True))
        scored = []
        for family, offered in made.items():
            window, variance = self.window(family), self._variance(family)
            for each in offered:
                recipe = each.recipe
                if recipe.std in window and self._fits_bound(recipe):
                    misfit = math.log(self.std / recipe.std) ** 2 / (2 * variance)
                    scored.append((each.doubt - odds[family] + misfit, each))
        return [each for _, each in sorted(scored, key=lambda pair: pair[0])]

    def _variance(self, family: Drawn) -> float:
        """Of the logarithm of a sample's std, precision included."""
        return (kurtosis_of(family, self.fit.cut) - 1) / (4 * self.count) + (PRECISION / 5) ** 2

    def _fits_bound(self, recipe: Recipe) -> bool:
        """The largest of n uniform magnitudes is below b (1 - d) with probability (1 - d)^n."""
        if recipe.distribution != "uniform" or not self.sought:
            return True
        least = TAIL ** (1 / self.sought) * (1 - PRECISION)
        return bool(least <= self.peak / (math.sqrt(3) * recipe.std) <= 1 + PRECISION)


def _filled(portrait: Portrait, rows: Rows) -> npt.NDArray[np.float64]:
    """The mean squares of those features that are not zero, as those of padding are."""
    power = portrait.power_of(rows)
    filled: npt.NDArray[np.float64] = power[power > 0]
    return filled


def _drawn(evidence: Evidence, layer: LayerPlan, rows: Rows) -> list[Recipe]:
    """Recipes without a scale on top; if only odd numbers fit, those with one too; if none does, any round number."""
    shrunk = truncated_std(evidence.fit.cut)
    windows = {family: evidence.window(family) for family in evidence.fit.likely}
    plain = {family: candidates(layer, rows, family, shrunk, window) for family, window in windows.items()}
    found = evidence.fitting(plain)
    if all(each.recipe.kind == "absolute" and each.doubt >= UNUSUAL for each in found):
        more = {
            family: (
                *plain[family],
                *scaled(candidates(layer, rows, family, shrunk), window),
                *(() if found else exact(family, shrunk, window)),
            )
            for family, window in windows.items()
        }
        found = evidence.fitting(more)
    return [each.doubted for each in found]


def _single(portrait: Portrait, rows: Rows) -> Iterator[Recipe]:
    """A single row or column has no other to be orthogonal to, but a length that is a usual gain and no accident."""
    if (
        rows
        or portrait.stats.nonfinite
        or (portrait.power.size > 1 and (portrait.width > 1 or len(portrait.power) > 1))
    ):
        return
    length = math.sqrt(float(portrait.power.sum()) * portrait.width)
    for gain in ORTHOGONAL_GAINS:
        if abs(length / gain - 1) <= EXACT:
            std = gain / math.sqrt(portrait.power.size * portrait.width)
            yield Recipe(f"orthogonal(gain={written(gain)})", "orthogonal", "orthogonal", std, gain, fans="true")


def _orthogonal(portrait: Portrait, layer: LayerPlan, rows: Rows, std: float) -> Iterator[Recipe]:
    """One recipe for each way in which the weight is orthogonal, whole before parts."""
    for frame in portrait.frames:
        gain = (portrait.rms() if frame.parts == 1 else std) / frame.unit
        known = next((each for each in ORTHOGONAL_GAINS if abs(gain / each - 1) <= PRECISION), None)
        argument = f"gain={written(known if known is not None else float(f'{gain:.3g}'))}"
        joint = frame.parts == 1 and (rows or layer.slices)
        parts = f" of each of {frame.parts} parts" if frame.parts > 1 else ""
        yield Recipe(f"orthogonal({argument}){parts}", "orthogonal", "orthogonal", frame.unit * (known or gain),
                     known or gain, fans="packed" if joint else "true")  # fmt: skip
