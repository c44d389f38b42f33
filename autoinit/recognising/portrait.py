"""Portrait: what a weight looks like, from one pass over all of it and a closer look at a sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from autoinit.recognising._patterns import Orthogonality, is_identity, orthogonality, twins
from autoinit.recognising._totals import totals
from autoinit.recognising.families import MIN_SAMPLE, Fit, alignment_misfit, fit, rows_misfit
from autoinit.recognising.noise import spread
from autoinit.recognising.samples import Matrix, RowSums, row_sums, sample, unit
from autoinit.tensors.elements import stored
from autoinit.tensors.measuring import WeightStats

__all__ = ["Family", "Portrait", "Rows", "portray", "spread"]

Family = Literal["zeros", "constant", "identity", "orthogonal", "uniform", "truncated_normal", "normal", "unknown"]
Rows = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Portrait:
    """What a weight looks like.

    The sums are taken at once, the closer look when it is asked for: the weight must not change meanwhile.

    Attributes:
        stats: exact, of the whole.
        power: shape (copies, outputs): the mean square of each output feature's finite weights; the `b` axes flattened,
            the `o` axes flattened.
        width: weights of one output feature of one copy.
    """

    stats: WeightStats
    power: npt.NDArray[np.float64]
    width: int
    weight: torch.Tensor = field(repr=False)
    axes: str

    @property
    def kurtosis(self) -> float:
        """E[x^4] / E[x^2]^2 about the mean, of a sample of at least 2^15 elements; NaN where that has no meaning."""
        return self._closer_look.kurtosis

    @property
    def at_bound(self) -> float:
        """The share of the elements of the sample that equal the minimum or the maximum of all."""
        return self._closer_look.at_bound

    @property
    def drawn(self) -> Fit:
        """What the sample says of distributions, and why none fits if none does."""
        return self._closer_look.drawn

    @property
    def rows(self) -> RowSums:
        """Sums over the sampled features, divided by `scale`."""
        return self._closer_look.rows

    @property
    def scale(self) -> float:
        """What `rows` were divided by."""
        return self._closer_look.scale

    @cached_property
    def identity(self) -> bool:
        """Whether no row has more than one element that is not zero, and these are equal."""
        return is_identity(self.stats, self.power, self.width)

    @cached_property
    def twins(self) -> tuple[tuple[int, int], ...]:
        """Up to 8 pairs of output features, over copies and outputs together, that are bit-identical and not zero."""
        return () if self.identity else twins(self.weight, self.axes, self.power)

    @cached_property
    def frames(self) -> tuple[Orthogonality, ...]:
        """Each way in which the weight is orthogonal."""
        if self.identity or self.stats.nonfinite:
            return ()
        return orthogonality(self.weight, self.axes, self.power, self.stats.zeros)

    @property
    def orthogonal(self) -> bool:
        """Whether rows, or columns, are orthogonal and of one length, in the whole or in each of a few equal parts."""
        return bool(self.frames)

    @property
    def family(self) -> Family:
        """The most likely family."""
        return self.families[0]

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """All families that the sample cannot rule out; of a large weight, one."""
        pattern = self._pattern
        return (pattern,) if pattern else self.drawn.likely or ("unknown",)

    @property
    def _pattern(self) -> Family | None:
        if self.stats.zeros == 1:
            return "zeros"
        if self.stats.numel > 1 and not self.stats.nonfinite and self.stats.minimum == self.stats.maximum:
            return "constant"
        if self.identity:
            return "identity"
        return "orthogonal" if self.frames else None

    @cached_property
    def _closer_look(self) -> _CloserLook:
        return _look_closer(self)

    def rms(self, rows: Rows = ()) -> float:
        """The root mean square of these output features of all copies; of the whole without rows."""
        power = self.power_of(rows)
        return math.sqrt(float(power.mean())) if power.size else math.nan

    def power_of(self, rows: Rows = ()) -> npt.NDArray[np.float64]:
        """The mean squares of these output features of all copies; of all without rows."""
        return np.concatenate([self.power[:, start:stop] for start, stop in rows], axis=1) if rows else self.power

    def count(self, rows: Rows = ()) -> int:
        """How many weights these output features of all copies have; the whole without rows."""
        outputs = sum(stop - start for start, stop in rows) if rows else self.power.shape[1]
        return int(self.power.shape[0] * outputs * self.width)

    def fit(self, rows: Rows = ()) -> Fit:
        """Which families could have drawn some output features, on their own: weights are drawn part by part."""
        if not rows:
            return self.drawn
        if self.drawn.misfit.startswith(_BEYOND_ROWS):
            return self.drawn
        chosen = self._sampled(rows)
        return fit(chosen) if chosen.counts.any() else self.drawn

    def peak(self, rows: Rows = ()) -> tuple[float, int]:
        """The largest magnitude among the finite weights of some output features, and among how many it is sought."""
        if rows:
            chosen = self._sampled(rows)
            return self.scale * float(chosen.peaks.max(initial=0)), int(chosen.counts.sum())
        return max(-self.stats.minimum, self.stats.maximum), self.stats.numel - self.stats.nonfinite

    def _sampled(self, rows: Rows) -> RowSums:
        features = self.rows.features % self.power.shape[1]
        chosen = np.zeros(features.shape, dtype=bool)
        for start, stop in rows:
            chosen |= (features >= start) & (features < stop)
        return self.rows.where(chosen)


MIN_WIDTH = 8
"""Fewer columns than this are not held against each other."""
_LARGEST_EXPANDED = 1 << 24
"""Elements of an expanded weight that are looked at though memory holds few of them."""
_BEYOND_ROWS = ("its columns", "its rows point")
"""How a misfit begins that does not go away when rows are judged apart."""


@dataclass(frozen=True, eq=False)
class _CloserLook:
    """What the sample of a weight tells: see `Portrait`."""

    kurtosis: float
    at_bound: float
    drawn: Fit
    rows: RowSums
    scale: float


def portray(weight: torch.Tensor, axes: str) -> Portrait | None:
    """Looks at a weight; None for one on the meta device, which has no values, and for a large expanded one.

    Args:
        weight: of any floating-point dtype, device, stride and memory format. Not changed.
        axes: one letter for each dimension, as in `Layout.axes`: `o` output, `i` input, `k` kernel, `b` copies.
    """
    if weight.is_meta or (weight.numel() > _LARGEST_EXPANDED and stored(weight).numel() < weight.numel()):
        return None
    sums = totals(weight, axes)
    width = weight.numel() // max(1, sums.power.size)
    return Portrait(sums.stats, sums.power, width, weight.detach(), axes)


def _look_closer(portrait: Portrait) -> _CloserLook:
    taken = sample(portrait.weight, portrait.axes)
    level, scale = unit(taken.matrix)
    rows = row_sums(level, taken.features)
    return _CloserLook(
        kurtosis=_kurtosis(level),
        at_bound=_at_bound(taken.matrix, portrait.stats),
        drawn=_drawn(rows, level, portrait.power.shape[1]),
        rows=rows,
        scale=scale,
    )


def _drawn(rows: RowSums, level: Matrix, outputs: int) -> Fit:
    """The families that could have drawn all rows, each of a few equal parts on its own scale if need be."""
    found = fit(rows)
    for parts in (2, 3, 4, 6):
        if found.likely or outputs % parts:
            continue
        part = rows.features % outputs // (outputs // parts)
        powers = np.bincount(part, rows.seconds, parts) / np.maximum(np.bincount(part, rows.counts, parts), 1)
        if (powers > 0).all():
            again = fit(rows.scaled(1 / np.sqrt(powers[part])))
            found = again if again.likely else found
    if found.likely and (misfit := _misfit_beyond_rows(rows, level)):
        found = Fit((), misfit=misfit)
    return found


def _misfit_beyond_rows(rows: RowSums, level: Matrix) -> str:
    """Why the rows, each brought to unit length, are no independent draws; empty if they are."""
    filled = rows.counts > 0
    if rows.counts.sum() < MIN_SAMPLE or level.shape[1] < MIN_WIDTH:
        return ""
    lengths: Matrix = np.sqrt(rows.seconds[filled] / rows.counts[filled]).astype(np.float32)
    even = level[filled] / lengths[:, None]
    columns = row_sums(np.ascontiguousarray(even.T), np.arange(even.shape[1]))
    misfit = rows_misfit(columns, columns.kurtosis)
    return f"its columns {misfit}" if misfit else alignment_misfit(even)


def _kurtosis(level: Matrix) -> float:
    if not level.any() or float(level.min()) == float(level.max()):
        return math.nan
    squares = np.square(level - level.mean())
    return float(np.square(squares).mean() / squares.mean() ** 2)


def _at_bound(matrix: Matrix, stats: WeightStats) -> float:
    ends = (np.float32(stats.minimum), np.float32(stats.maximum))
    return float(np.count_nonzero((matrix == ends[0]) | (matrix == ends[1]))) / max(1, matrix.size)
