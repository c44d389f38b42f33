"""A sample of a weight: some of its output features, spread evenly, and a run of each one's elements."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Matrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

MAX_COLUMNS = 512
"""Elements of one feature that are looked at, where there are features enough."""
SAMPLE = 1 << 15
"""Elements that a sample has at least, where the weight has so many. It has less than four times as many."""


@dataclass(frozen=True, eq=False)
class SampledWeight:
    """Some features of a weight.

    Attributes:
        matrix: one row of elements for each feature.
        features: their indices over copies and outputs together.
    """

    matrix: Matrix
    features: Indices


@dataclass(frozen=True, eq=False)
class RowSums:
    """Sums over the elements of each sampled feature that are not zero.

    Attributes:
        features: indices over copies and outputs together.
        counts: elements.
        sums, seconds, fourths: of their first, second and fourth powers.
        peaks: the largest magnitude.
    """

    features: Indices
    counts: Floats
    sums: Floats
    seconds: Floats
    fourths: Floats
    peaks: Floats

    @property
    def kurtosis(self) -> float:
        """E[x^4] / E[x^2]^2 of all together."""
        return float(self.fourths.sum() * self.counts.sum() / self.seconds.sum() ** 2)

    def where(self, chosen: npt.NDArray[np.bool_]) -> RowSums:
        """Those of some of the rows."""
        return RowSums(
            self.features[chosen],
            self.counts[chosen],
            self.sums[chosen],
            self.seconds[chosen],
            self.fourths[chosen],
            self.peaks[chosen],
        )

    def scaled(self, factors: Floats) -> RowSums:
        """Those of rows times positive factors."""
        return RowSums(
            self.features,
            self.counts,
            self.sums * factors,
            self.seconds * factors**2,
            self.fourths * factors**4,
            self.peaks * factors,
        )


def sample(weight: torch.Tensor, axes: str) -> SampledWeight:
    """A sample, in float32. Reads no more of the weight than that."""
    order = [axis for letter in "boik" for axis, each in enumerate(axes) if each == letter]
    leading = sum(each in "bo" for each in axes)
    turned = weight.detach().permute(order)
    counts = list(turned.shape[:leading])
    if turned.dim() > leading:
        area = max(1, math.prod(turned.shape[leading + 1 :]))
        wanted = max(MAX_COLUMNS, -(-SAMPLE // max(1, math.prod(counts))))
        run = min(turned.shape[leading], -(-wanted // area))
        turned = turned.narrow(leading, (turned.shape[leading] - run) // 2, run)
    width = math.prod(turned.shape[leading:])
    steps = [1] * leading
    while math.prod(counts) * width >= 2 * SAMPLE and max(counts, default=1) > 1:
        widest = counts.index(max(counts))
        steps[widest] *= 2
        counts[widest] = -(-turned.shape[widest] // steps[widest])
    picked = turned[tuple(slice(None, None, step) for step in steps)]
    matrix: Matrix = picked.to("cpu", torch.float32, copy=True).reshape(math.prod(counts), width).numpy()
    features = np.arange(math.prod(turned.shape[:leading])).reshape(turned.shape[:leading])
    kept = features[tuple(slice(None, None, step) for step in steps)]
    return SampledWeight(matrix, kept.reshape(-1))


def row_sums(matrix: Matrix, features: Indices) -> RowSums:
    """The sums of a matrix's rows."""
    squares = np.square(matrix)
    if matrix.all():
        counts = np.full(len(matrix), float(matrix.shape[1]))
    else:
        counts = np.count_nonzero(matrix, axis=1).astype(np.float64)
    peaks = np.maximum(matrix.max(1, initial=0), -matrix.min(1, initial=0))
    sums, seconds, fourths = (each.sum(1) for each in (matrix, squares, np.square(squares)))
    return RowSums(features, counts, *(each.astype(np.float64) for each in (sums, seconds, fourths, peaks)))


def unit(matrix: Matrix) -> tuple[Matrix, float]:
    """The matrix with unit mean square of its elements that are not zero, and what it was divided by.

    NaN and infinities are replaced by zero. No power of an element is then out of the range of numbers.
    """
    clean = matrix if np.isfinite(matrix).all() else np.nan_to_num(matrix, nan=0.0, posinf=0.0, neginf=0.0)
    peak = float(np.abs(clean).max(initial=0))
    if peak == 0:
        return clean, 1.0
    level = clean / np.float32(peak)
    power = np.float32(math.sqrt(float(np.square(level).sum(dtype=np.float64)) / np.count_nonzero(level)))
    level /= power
    return level, peak * float(power)
