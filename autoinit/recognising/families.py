"""Which distribution drew a sample.

The families differ by shape, not by scale. Under each, the probability of a sample is averaged over all scales with
the density 1 / scale (Jeffreys 1961). With sum of squares S and largest magnitude M of n elements,

    normal            Gamma(n / 2) / 2 / (pi S)^(n / 2)
    uniform           1 / n / (2 M)^n
    cut at c sigma    normal's, over erf(c / sqrt 2)^n, times the regularised gamma function P(n / 2, c^2 S / (2 M^2)),
                      which is the part of the average in which sigma is at least M / c.

Ratios of these are ratios of true likelihoods, those of the sample's direction S^(-1/2) x. So a family that drew the
sample has less than R times the likelihood of another with a probability of at most R, whatever the size: what
`plausible` rules out is wrong at most once in 1 / TAIL samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch

from autoinit.recognising.noise import TAIL, Z
from autoinit.recognising.samples import Matrix, RowSums
from autoinit.tensors.elements import products
from autoinit.theory.truncation import CUT

Drawn = Literal["uniform", "normal", "truncated_normal"]

FAMILIES: tuple[Drawn, ...] = ("uniform", "normal", "truncated_normal")
MIN_SAMPLE = 512
"""Fewer numbers than this do not tell a drawn weight from another."""
ERRORS = 5.0
"""Tolerance in standard errors, of tests on many sums."""
WIDE_CUT = 3.0
"""The other cut in use; told apart from none by large samples only."""


@dataclass(frozen=True)
class Fit:
    """What a sample says of its family.

    Attributes:
        likely: families by likelihood, best first, without those ruled out; empty where no family could have drawn it.
        odds: logarithm of the likelihood of each, over that of the first.
        cut: of the truncated normal, in sigma.
        misfit: why no family fits.
    """

    likely: tuple[Drawn, ...]
    odds: tuple[float, ...] = ()
    cut: float = CUT
    misfit: str = ""


def likelihoods(count: int, squares: float, peak: float) -> Mapping[Drawn, float]:
    """Logarithm of each family's probability of a sample, averaged over scales."""
    normal = _normal(count, squares)
    return {
        "uniform": -count * math.log(2 * peak) - math.log(count),
        "normal": normal,
        "truncated_normal": normal + _cut(count, squares, peak, CUT),
    }


def plausible(count: int, squares: float, peak: float) -> Fit:
    """The families that a sample of so many elements cannot rule out."""
    found = likelihoods(count, squares, peak)
    best = max(found.values())
    if best == found["normal"] and _cut(count, squares, peak, WIDE_CUT) > -math.log(TAIL):
        return Fit(("truncated_normal",), (0.0,), WIDE_CUT)
    likely = sorted((name for name in found if found[name] > best + math.log(TAIL)), key=lambda name: -found[name])
    return Fit(tuple(likely), tuple(found[name] - best for name in likely))


def fit(rows: RowSums) -> Fit:
    """The families that could have drawn these rows, all of one scale."""
    rows = rows.where(rows.counts > 0)
    count = int(rows.counts.sum())
    if not count:
        return Fit((), misfit="it has no finite values but zero")
    squares = float(rows.seconds.sum())
    if not squares:
        return Fit((), misfit="its magnitudes differ from those of other rows by more than float32 can hold")
    found = plausible(count, squares, float(rows.peaks.max()))
    if count < MIN_SAMPLE:
        return found
    kurtosis = rows.kurtosis
    mean = float(rows.sums.sum()) / math.sqrt(squares * count)
    if abs(mean) * math.sqrt(count) > Z:
        return Fit((), misfit=f"its mean is {mean:.3g} standard deviations")
    likely = {
        each: odds
        for each, odds in zip(found.likely, found.odds, strict=True)
        if kurtosis_fits(kurtosis, count, each, found.cut)
    }
    if not likely:
        return Fit((), misfit=f"its kurtosis is {kurtosis:.3g}, that of no initialisation")
    misfit = rows_misfit(rows, kurtosis)
    return Fit((), misfit=f"its rows {misfit}") if misfit else Fit((*likely,), (*likely.values(),), found.cut)


def kurtosis_fits(kurtosis: float, count: int, family: Drawn, cut: float = CUT) -> bool:
    """Whether a sample of a family could have this kurtosis about zero; low precision may add a hundredth."""
    if family == "normal":
        return _normal_score(kurtosis + 0.01, count) >= -Z and _normal_score(kurtosis - 0.01, count) <= Z
    expected, variance = _UNIFORM if family == "uniform" else truncated_kurtosis(cut)
    return abs(kurtosis - expected) <= Z * math.sqrt(variance / count) + 0.01 + 10 / count


def rows_misfit(rows: RowSums, kurtosis: float) -> str:
    """Why sums along rows, or columns, are not those of independent draws from one distribution; empty if they are."""
    rows = rows.where(rows.counts > 0)
    if rows.counts.size < 2:
        return ""
    limit = _limit(math.sqrt((2.0 + 12.0 / float(rows.counts.mean())) / rows.counts.size))
    power = float(rows.seconds.sum() / rows.counts.sum())
    scales = rows.seconds / rows.counts / power
    if float((np.square(scales - scales.mean()) * rows.counts).mean()) / (kurtosis - 1) > limit:
        return "differ in scale"
    if float((np.square(rows.sums) / rows.counts).mean()) / power > limit:
        return "have means of their own"
    return ""


def alignment_misfit(matrix: Matrix) -> str:
    """Whether rows point the same way: d E[cos^2] is 1 for independent rows of length d, less for orthogonal ones."""
    rows = matrix[:: max(1, len(matrix) // 64)]
    norms = np.sqrt(np.square(rows).sum(1, keepdims=True))
    rows = rows[norms[:, 0] > 0] / norms[norms[:, 0] > 0]
    height, width = rows.shape
    if height < 8 or width < 2:
        return ""
    pairs = height * (height - 1) / 2
    cosines = np.square(products(rows))
    alignment = width * (float(cosines.sum()) - height) / (2 * pairs)
    if alignment > 0.02 + _limit(math.sqrt((2.0 + 30.0 / width) / pairs)):
        return f"its rows point the same way (mean squared cosine {alignment:.3g} times that of independent rows)"
    return ""


@cache
def truncated_kurtosis(cut: float) -> tuple[float, float]:
    """Kurtosis of N(0, 1) cut at +-c, and the variance of a sample's times its size.

    Its moments are m_k = (k - 1) m_(k-2) - 2 c^(k-1) phi(c) / mass.
    """
    edge = 2 * math.exp(-cut * cut / 2) / math.sqrt(2 * math.pi) / math.erf(cut / math.sqrt(2))
    moments = {0: 1.0}
    for order in (2, 4, 6, 8):
        moments[order] = (order - 1) * moments[order - 2] - edge * cut ** (order - 1)
    second = moments[2]
    return _kurtosis_and_variance(moments[4] / second**2, moments[6] / second**3, moments[8] / second**4)


@cache
def truncated_std(cut: float) -> float:
    """Standard deviation of N(0, 1) cut at +-c: sqrt(1 - 2 c phi(c) / mass)."""
    mass = math.erf(cut / math.sqrt(2))
    return math.sqrt(1 - 2 * cut * math.exp(-cut * cut / 2) / math.sqrt(2 * math.pi) / mass)


def _kurtosis_and_variance(fourth: float, sixth: float, eighth: float) -> tuple[float, float]:
    """Kurtosis of a symmetric distribution of unit variance, and the variance of a sample's times its size."""
    return fourth, eighth - 4 * fourth * sixth + 4 * fourth**3 - fourth**2


_UNIFORM = _kurtosis_and_variance(9 / 5, 27 / 7, 81 / 9)


def kurtosis_of(family: str, cut: float = CUT) -> float:
    """The kurtosis of a family; that of the normal where it has none of its own."""
    if family == "uniform":
        return _UNIFORM[0]
    return truncated_kurtosis(cut)[0] if family == "truncated_normal" else 3.0


def _normal(count: int, squares: float) -> float:
    return math.lgamma(count / 2) - math.log(2) - count / 2 * math.log(math.pi * squares)


def _cut(count: int, squares: float, peak: float, cut: float) -> float:
    """What the cut adds to the logarithm of the normal's probability."""
    return -count * math.log(math.erf(cut / math.sqrt(2))) + log_gamma_part(
        count / 2, cut * cut * squares / (2 * peak * peak)
    )


def log_gamma_part(a: float, x: float) -> float:
    """Logarithm of the regularised lower incomplete gamma function P(a, x), also where P is below all floats."""
    if x >= a:
        return math.log(torch.special.gammainc(*torch.tensor((a, x), dtype=torch.float64)).item())
    # x^a e^-x / Gamma(a + 1) (1 + x / (a + 1) + x^2 / ((a + 1) (a + 2)) + ...), Abramowitz & Stegun 6.5.29
    term = total = 1.0
    step = a
    while term > 1e-12 * total:
        step += 1
        term *= x / step
        total += term
    return a * math.log(x) - x - math.lgamma(a + 1) + math.log(total)


def _normal_score(kurtosis: float, count: int) -> float:
    """The kurtosis of a normal sample, transformed to N(0, 1) (Anscombe & Glynn 1983)."""
    n = float(count)
    mean = 3 * (n - 1) / (n + 1)
    variance = 24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    skew = 6 * (n * n - 5 * n + 2) / ((n + 7) * (n + 9)) * math.sqrt(6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    freedom = 6 + 8 / skew * (2 / skew + math.sqrt(1 + 4 / skew**2))
    base = 1 + (kurtosis - mean) / math.sqrt(variance) * math.sqrt(2 / (freedom - 4))
    ratio = ((1 - 2 / freedom) / base) ** (1 / 3) if base > 0 else math.inf
    return (1 - 2 / (9 * freedom) - ratio) / math.sqrt(2 / (9 * freedom))


def _limit(error: float) -> float:
    """Upper limit of a mean of squares that is 1 up to a standard error; the last term is for its long right tail."""
    return 1 + ERRORS * error + (ERRORS * error) ** 2 / 2
