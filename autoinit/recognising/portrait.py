"""Portrait: what a weight looks like, from one pass over all of it and a closer look at a sample."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from autoinit.measuring import WeightStats
from autoinit.recognising.families import MIN_SAMPLE, Fit, alignment_misfit, fit, rows_misfit
from autoinit.recognising.noise import spread
from autoinit.recognising.patterns import Orthogonality, is_identity, orthogonality, twins
from autoinit.recognising.samples import Matrix, RowSums, row_sums, sample, unit
from autoinit.recognising.totals import Totals, totals

__all__ = ["Family", "Portrait", "Rows", "portray", "spread"]

Family = Literal["zeros", "constant", "identity", "orthogonal", "uniform", "truncated_normal", "normal", "unknown"]
Rows = tuple[tuple[int, int], ...]
NO_FIT = Fit(())


@dataclass(frozen=True, eq=False)
class Portrait:
    """What a weight looks like.

    stats: exact, of the whole.
    power: shape (copies, outputs): the mean square of each output feature's finite weights; the `b` axes flattened,
        the `o` axes flattened. width: weights of one output feature of one copy.
    kurtosis: E[x^4] / E[x^2]^2 about the mean, of a sample of at least 2^15 elements (of all, if fewer); NaN where
        that has no meaning.
    orthogonal: whether rows, or columns, are orthogonal and of one length, in the whole or in each of a few equal
        parts of its rows; so too for delta-orthogonal convolutions.
    identity: whether no row has more than one element that is not zero, and these are equal.
    twins: up to 8 pairs of output features (indices over copies and outputs together) whose weights are
        bit-identical and not all zero, where chance cannot explain it.
    at_bound: share of the elements of the sample that equal the minimum or the maximum of all.
    fingerprint: equal for bit-identical weights of one shape and dtype.
    family: the most likely one. families: all that the sample cannot rule out; of a large weight, one.
    drawn: what the sample says of distributions, and why none fits if none does. rows: sums over the sampled
        features, divided by `scale`, for `fit` and `peak`. frames: each way in which it is orthogonal.
    """

    stats: WeightStats
    power: npt.NDArray[np.float64]
    width: int
    kurtosis: float
    orthogonal: bool
    identity: bool
    twins: tuple[tuple[int, int], ...]
    at_bound: float
    fingerprint: bytes
    family: Family
    families: tuple[Family, ...]
    drawn: Fit = NO_FIT
    rows: RowSums | None = None
    scale: float = 1.0
    frames: tuple[Orthogonality, ...] = ()

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
        if not rows or self.rows is None:
            return self.drawn
        if self.drawn.misfit.startswith(_BEYOND_ROWS):
            return self.drawn
        chosen = self._sampled(rows)
        return fit(chosen) if chosen.counts.any() else self.drawn

    def peak(self, rows: Rows = ()) -> tuple[float, int]:
        """The largest magnitude among the finite weights of some output features, and among how many it is sought."""
        if rows and self.rows is not None:
            chosen = self._sampled(rows)
            return self.scale * float(chosen.peaks.max(initial=0)), int(chosen.counts.sum())
        return max(-self.stats.minimum, self.stats.maximum), self.stats.numel - self.stats.nonfinite

    def _sampled(self, rows: Rows) -> RowSums:
        assert self.rows is not None
        features = self.rows.features % self.power.shape[1]
        chosen = np.zeros(features.shape, dtype=bool)
        for start, stop in rows:
            chosen |= (features >= start) & (features < stop)
        return self.rows.where(chosen)


HASHED = 1 << 13
"""Elements that enter a fingerprint one by one."""
MIN_WIDTH = 8
"""Fewer columns than this are not held against each other."""
_BEYOND_ROWS = ("its columns", "its rows point")
"""How a misfit begins that does not go away when rows are judged apart."""


def portray(weight: torch.Tensor, axes: str) -> Portrait | None:
    """Looks at a weight; None for one on the meta device, which has no values.

    Args:
        weight: of any floating-point dtype, device, stride and memory format. Not changed.
        axes: one letter for each dimension, as in `Layout.axes`: `o` output, `i` input, `k` kernel, `b` copies.
    """
    if weight.is_meta:
        return None
    sums = totals(weight, axes)
    taken = sample(weight, axes)
    level, scale = unit(taken.matrix)
    rows = row_sums(level, taken.features)
    width = weight.numel() // max(1, sums.power.size)
    identity = is_identity(sums, width)
    frames = () if identity or sums.stats.nonfinite else orthogonality(weight, axes, sums.power, sums.stats.zeros)
    found = _drawn(rows, level, sums.power.shape[1])
    pattern = _pattern(sums, identity, bool(frames))
    families: tuple[Family, ...] = (pattern,) if pattern else found.likely or ("unknown",)
    return Portrait(
        stats=sums.stats,
        power=sums.power,
        width=width,
        kurtosis=_kurtosis(level),
        orthogonal=bool(frames),
        identity=identity,
        twins=() if identity else twins(weight, axes, sums.power),
        at_bound=_at_bound(taken.matrix, sums),
        fingerprint=_fingerprint(weight, taken.matrix, sums),
        family=families[0],
        families=families,
        drawn=found,
        rows=rows,
        scale=scale,
        frames=frames,
    )


def _pattern(sums: Totals, identity: bool, orthogonal: bool) -> Family | None:
    if sums.stats.zeros == 1:
        return "zeros"
    if sums.stats.numel > 1 and not sums.stats.nonfinite and sums.stats.minimum == sums.stats.maximum:
        return "constant"
    if identity:
        return "identity"
    return "orthogonal" if orthogonal else None


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
    if found.likely and (told := _misfit_beyond_rows(rows, level)):
        found = Fit((), misfit=told)
    return found


def _misfit_beyond_rows(rows: RowSums, level: Matrix) -> str:
    """Why the rows, each brought to unit length, are no independent draws; empty if they are."""
    filled = rows.counts > 0
    if rows.counts.sum() < MIN_SAMPLE or level.shape[1] < MIN_WIDTH:
        return ""
    lengths: Matrix = np.sqrt(rows.seconds[filled] / rows.counts[filled]).astype(np.float32)
    even = level[filled] / lengths[:, None]
    columns = row_sums(np.ascontiguousarray(even.T), np.arange(even.shape[1]))
    told = rows_misfit(columns, columns.kurtosis)
    return f"its columns {told}" if told else alignment_misfit(even)


def _kurtosis(level: Matrix) -> float:
    if not level.any() or float(level.min()) == float(level.max()):
        return math.nan
    squares = np.square(level - level.mean())
    return float(np.square(squares).mean() / squares.mean() ** 2)


def _at_bound(matrix: Matrix, sums: Totals) -> float:
    ends = (np.float32(sums.stats.minimum), np.float32(sums.stats.maximum))
    return float(np.count_nonzero((matrix == ends[0]) | (matrix == ends[1]))) / max(1, matrix.size)


def _fingerprint(weight: torch.Tensor, matrix: Matrix, sums: Totals) -> bytes:
    """A hash of the sample and of sums that ask no order: the same whatever the strides."""
    stats = sums.stats
    some = matrix.reshape(-1)[:: max(1, matrix.size // HASHED)]
    told = (weight.dtype, tuple(weight.shape), stats.minimum, stats.maximum, stats.zeros, sums.checksum)
    return hashlib.blake2b(some.tobytes() + repr(told).encode(), digest_size=16).digest()
