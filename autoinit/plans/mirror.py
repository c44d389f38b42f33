"""Mirror: how a weight of a mirrored plan is made of one smaller matrix, as an immutable value."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Taps = Literal["shift", "centre", "full"]
TAPS: Mapping[Taps, str] = {
    "shift": "each input channel's column of the matrix at one tap of its own, drawn among those that meet the input",
    "centre": "the whole matrix at the centre",
    "full": "numbers on all taps, Gaussian with distribution='normal'",
}


@dataclass(frozen=True)
class FeatureRun:
    """Consecutive features that are treated alike.

    Attributes:
        start, size: which features of the axis.
        paired: whether the first half of them is paired with the second: start + i with start + size / 2 + i. A pair is
            one row or column of the smaller matrix, once as it is and once negated.
        factor: multiplies what is read from these features, or what they give. 0: they are not read.
    """

    start: int
    size: int
    paired: bool
    factor: float = 1.0

    @property
    def dimensions(self) -> int:
        """Rows or columns of the smaller matrix that these features take."""
        return self.size // 2 if self.paired else self.size


@dataclass(frozen=True)
class Mirror:
    """How a weight follows from one matrix A: W = scale * (rows of A, signed) by (columns of A, signed).

    With both sides paired W = scale [[A, -A], [-A, A]]: a pair of units with pre-activations z and -z, read with
    opposite signs.

    Attributes:
        outputs, inputs: runs that cover the output and the input features, in order. Those of factor 0 take no column.
        scale: of A, whose rows or columns are orthonormal (its elements have variance 1 / columns if it is Gaussian),
            times sqrt(rows / columns) where that is above 1.
        taps: where A stands in a convolution's kernel, one of `TAPS`.
        seen: along each axis of the kernel the half-open range of taps that reach inside of the input.
        moment: the second moment of the input, as predicted for inputs of the given shapes, where some of it comes from
            no mirrored layer; None where all of it does.
        kept: the share of the input's second moment that padding leaves, for inputs of the given shapes, which the
            factors of `inputs` make up for; 1 without padding.
        steps: over how many uses the share of what drives a recurrence is spread, for inputs of the given shapes, which
            `scale` takes into account; 1 elsewhere.
        a: the standard deviation of the pre-activation.
        c: what makes up for the nonlinearity, applied by the next layer.
        groups: of a convolution; each has a matrix A of its own, and no run goes beyond its group.
        parts: into how many equal parts the rows of A fall, each orthogonal by itself: 2 in front of a gate, where half
            of the outputs is all that a mirrored network computes with at its start.
        turn: how many rows of A the parts take in turn, where gates stand between what they gate; 0 where each part
            is one run.
        copies: of a depthwise convolution that pairs go through: the paired runs of its channels. The second half of
            one has the filters of the first, so that what comes out is in pairs, too.
        positive: of such a convolution between two nonlinearities: no filter has a negative number, so that what the
            first has let through, as ReLU, the second lets through, too.
    """

    outputs: tuple[FeatureRun, ...]
    inputs: tuple[FeatureRun, ...]
    scale: float
    taps: Taps = "shift"
    seen: tuple[tuple[int, int], ...] = ()
    moment: float | None = None
    kept: float = 1.0
    steps: int = 1
    a: float = 1.0
    c: float = 1.0
    groups: int = 1
    parts: int = 1
    turn: int = 0
    copies: tuple[FeatureRun, ...] = ()
    positive: bool = False

    @property
    def blocks(self) -> tuple[Block, ...]:
        """What each of the groups makes and reads."""
        outputs, inputs = _by_group(self.outputs, self.groups), _by_group(self.inputs, self.groups)
        return tuple(Block(*each) for each in zip(outputs, inputs, strict=True))

    @property
    def std(self) -> float:
        """The root mean square of W over one tap of its kernel."""
        power = sum(block.power for block in self.blocks)
        area = sum(run.size for run in self.outputs) * sum(run.size for run in self.inputs) / self.groups
        return self.scale * math.sqrt(power / area)

    def std_of(self, rows: Iterable[tuple[int, int]]) -> float:
        """The same of some output rows, half-open runs; of all where they share a run of `outputs` with others."""
        inside = [run for run in self.outputs if any(a <= run.start and run.start + run.size <= b for a, b in rows)]
        return self.std * math.sqrt(_mean_square(inside or self.outputs) / _mean_square(self.outputs))


@dataclass(frozen=True)
class Block:
    """What one matrix A makes and reads: runs as of `Mirror`, of one group."""

    outputs: tuple[FeatureRun, ...]
    inputs: tuple[FeatureRun, ...]

    @property
    def rows(self) -> int:
        """Rows of A."""
        return sum(run.dimensions for run in self.outputs)

    @property
    def columns(self) -> int:
        """Columns of A."""
        return sum(run.dimensions for run in self.inputs if run.factor)

    @property
    def power(self) -> float:
        """The sum of the squares of W over one tap, at scale 1: those of A's elements add up to its number of rows."""
        if not self.columns:
            return 0.0
        read = sum(run.size * run.factor**2 for run in self.inputs) / self.columns
        return sum(run.size * run.factor**2 for run in self.outputs) * read


def _mean_square(runs: Collection[FeatureRun]) -> float:
    return sum(run.size * run.factor**2 for run in runs) / sum(run.size for run in runs)


def _by_group(runs: tuple[FeatureRun, ...], groups: int) -> list[tuple[FeatureRun, ...]]:
    size = sum(run.size for run in runs) // groups
    return [tuple(run for run in runs if run.start // size == group) for group in range(groups)]
