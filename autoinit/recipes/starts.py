"""Start: the distribution that a recipe gives a parameter, and the ways to say it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, pstdev

from autoinit.errors import ArgumentError
from autoinit.errors.arguments import one_of, real, refusal, require
from autoinit.plans.distributions import RECIPE_DISTRIBUTIONS, RecipeDistribution
from autoinit.theory import state_spaces
from autoinit.theory.truncation import TRUNCATED_STD, TRUNCATED_STD_3


@dataclass(frozen=True)
class Start:
    """How a parameter starts.

    Attributes:
        distribution: of its elements.
        std: of its elements, after any cut; 0 for one value throughout.
        mean: of its elements.
    """

    distribution: RecipeDistribution
    std: float
    mean: float = 0.0

    def __post_init__(self) -> None:
        one_of("distribution", self.distribution, RECIPE_DISTRIBUTIONS)
        real("std", self.std), real("mean", self.mean)
        drawn = self.distribution != "constant"
        if not (math.isfinite(self.std) and math.isfinite(self.mean)) or (self.std <= 0 if drawn else self.std != 0):
            expected = "a positive std" if drawn else "the std 0"
            raise ArgumentError(f"{self.distribution} with std {self.std} and mean {self.mean}; expected {expected}")

    def __str__(self) -> str:
        if self.distribution == "constant":
            return f"{self.mean:g}"
        return f"{self.distribution}, std {self.std:.4g}" + (f", mean {self.mean:g}" if self.mean else "")


def normal(std: float, mean: float = 0.0) -> Start:
    """N(mean, std^2)."""
    return Start("normal", std, mean)


def truncated(std: float, *, cut: int = 2, corrected: bool = False) -> Start:
    """N(0, std^2) cut at 2 or 3 of its standard deviations, which leaves 0.88 or 0.987 of the std.

    corrected: `std` is that after the cut.
    """
    require("corrected", corrected, bool, "True or False")
    if not isinstance(cut, int) or cut not in _CUTS:
        raise refusal("cut", cut, "2 or 3 standard deviations")
    name, left = _CUTS[cut]
    return Start(name, real("std", std) * (1.0 if corrected else left))


_CUTS: dict[int, tuple[RecipeDistribution, float]] = {
    2: ("truncated_normal", TRUNCATED_STD),
    3: ("truncated_normal_3", TRUNCATED_STD_3),
}


def uniform(bound: float) -> Start:
    """U(-bound, bound)."""
    return Start("uniform", real("bound", bound) / math.sqrt(3))


def constant(value: float) -> Start:
    """One value throughout."""
    return Start("constant", 0.0, value)


def step_bias() -> Start:
    """What softplus makes steps of, log-uniform from 0.001 to 0.1: the bias of Mamba's steps."""
    mean, std = state_spaces.step_bias_moments()
    return Start("step_bias", std, mean)


def log_counts(count: int) -> Start:
    """The numbers log 1, ..., log n along the last axis: Mamba's state matrix. `std` and `mean` are theirs."""
    if count < 2:
        return ZERO
    values = state_spaces.log_counts(count)
    return Start("log_counts", pstdev(values), fmean(values))


def orthogonal(rows: int, columns: int, gain: float = 1.0) -> Start:
    """Part of a random orthogonal matrix, times the gain: elements of std gain / sqrt(max(rows, columns))."""
    for name, count in (("rows", rows), ("columns", columns)):
        require(name, count, int, "a number, 1 at least")
        if count < 1:
            raise refusal(name, count, "a number, 1 at least")
    return Start("orthogonal", real("gain", gain) / math.sqrt(max(rows, columns)))


ZERO = constant(0.0)
