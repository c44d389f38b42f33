"""Random tensors with the covariances that mean-field theory asks for.

Let rows be numbered by sample b and position t. Over the draw of zero-mean weights, one feature of a layer's output is
a Gaussian field on the rows whose covariance is that of the layer's input, times sigma^2 fan_in (Poole et al. 2016;
Xiao et al. 2018 for convolutions). Rows are taken to be exchangeable, so that four numbers hold all covariances: of a
row with itself, with another position of its sample, with the same position of another sample, and with a row that
shares neither. Such a matrix has four eigenspaces (mean or contrast over samples, mean or contrast over positions);
scaling the projections of white noise on them draws the field, and matching the energy in each makes the four numbers
of the draw exact, whatever its size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

TINY = 1e-30
_FEW = 4096
_TABLE = 1 << 22


@dataclass(frozen=True)
class Axes:
    """The meaning of a tensor's axes: one letter for each.

    `b` samples, `t` positions, `g` groups whose features never meet, `c` features.
    """

    letters: str

    def of(self, kinds: str) -> list[int]:
        """The axes of these kinds."""
        return [axis for axis, letter in enumerate(self.letters) if letter in kinds]

    def size(self, shape: Sequence[int], kinds: str) -> int:
        """How many elements these axes have together."""
        return math.prod(shape[axis] for axis in self.of(kinds))


@dataclass(frozen=True)
class Covariance:
    """Of rows: with itself, another position, the same position of another sample, and neither."""

    own: float
    position: float
    sample: float
    apart: float

    def over(self, number: float) -> Covariance:
        """Divided by a number."""
        return Covariance(self.own / number, self.position / number, self.sample / number, self.apart / number)


@dataclass(frozen=True)
class Rows:
    """A tensor as samples, positions and features: three axes in one of two orders, whichever needs no copy.

    Attributes:
        order: `bft` or `btf`, `f` standing for groups and features together.
    """

    values: torch.Tensor
    order: str

    @staticmethod
    def of(x: torch.Tensor, axes: Axes) -> Rows:
        """The rows of a tensor."""
        order = _order(x.shape, axes)
        if order is not None:
            return Rows(x.reshape(_sizes(x.shape, axes, order)), order)
        moved = x.permute(axes.of("b") + axes.of("t") + axes.of("gc"))
        return Rows(moved.reshape(_sizes(x.shape, axes, "btf")), "btf")

    def back(self, shape: Sequence[int], axes: Axes) -> torch.Tensor:
        """The tensor of this shape and meaning whose rows these are."""
        if _order(shape, axes) is not None:
            return self.values.reshape(tuple(shape))
        places = axes.of("b") + axes.of("t") + axes.of("gc")
        moved = self.values.reshape([shape[place] for place in places])
        return moved.permute([places.index(axis) for axis in range(len(shape))])

    @property
    def counts(self) -> tuple[int, int, int]:
        """Samples, positions, features."""
        b, first, second = self.values.shape
        return (b, second, first) if self.order == "bft" else (b, first, second)

    def sums(self) -> torch.Tensor:
        """Sums over positions: (samples, features)."""
        return self.values.sum(dim=self.order.index("t"))


def _order(shape: Sequence[int], axes: Axes) -> str | None:
    """The order of a tensor's kinds of axes, where each kind stands together; axes of one element stand anywhere."""
    letters = axes.letters.replace("g", "f").replace("c", "f")
    present = "".join(letter for letter, size in zip(letters, shape, strict=True) if size != 1)
    kinds = "".join(dict.fromkeys(present))
    if len(re.sub(r"(.)\1+", r"\1", present)) != len(kinds):
        return None
    return next((order for order in ("bft", "btf") if "".join(k for k in order if k in kinds) == kinds), None)


def _sizes(shape: Sequence[int], axes: Axes, order: str) -> list[int]:
    return [axes.size(shape, "gc" if kind == "f" else kind) for kind in order]


def covariance(x: torch.Tensor, axes: Axes) -> Covariance:
    """The four covariances about zero of a tensor's rows, averaged over features and groups.

    A mean over n rows mixes a pair of equal rows, with probability 1/n, and pairs of different ones. Where an axis has
    one element, the covariance of different ones is given as that of equal ones.
    """
    rows = Rows.of(x, axes)
    return row_covariance(rows, rows.sums())


def row_covariance(rows: Rows, sums: torch.Tensor) -> Covariance:
    """From inner products of samples, and of samples summed over positions."""
    samples, positions, features = rows.counts
    whole = rows.values.reshape(samples, -1)
    products, summed = (whole @ whole.T).double(), (sums @ sums.T).double()
    count = positions * features
    own, between = float(products.diagonal().mean()) / count, float(products.mean()) / count
    within, both = (float(each) / (count * positions) for each in (summed.diagonal().mean(), summed.mean()))
    position = _distinct(own, within, positions)
    averaged = _distinct(between, both, positions)
    return Covariance(own, position, _distinct(own, between, samples), _distinct(position, averaged, samples))


def second_moment(x: torch.Tensor) -> float:
    """The mean of the squares of all elements."""
    flat = x.reshape(-1)
    return float(torch.dot(flat, flat)) / max(1, flat.numel())


def row_moments(x: torch.Tensor, axes: Axes) -> torch.Tensor:
    """Second moments of rows, over features alone, with the features' axes kept at size 1."""
    features = axes.of("c")
    if features == [x.dim() - 1]:
        norms: torch.Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return norms.square_().div_(x.shape[-1])
    if len(features) == 1:
        inner = math.prod(x.shape[features[0] + 1 :])
        squares = x.square().reshape(-1, x.shape[features[0]], inner)
        weight = torch.full((1, squares.shape[1]), 1 / squares.shape[1])
        return (weight @ squares).reshape([1 if at in features else size for at, size in enumerate(x.shape)])
    return x.square().mean(dim=features, keepdim=True)


def _distinct(shared: float, averaged: float, count: int) -> float:
    return (count * averaged - shared) / (count - 1) if count > 1 else shared


def draw(shape: Sequence[int], axes: Axes, wanted: Covariance, generator: torch.Generator) -> torch.Tensor:
    """A Gaussian tensor whose rows have the wanted covariances, in the mean over features."""
    order = _order(shape, axes) or "btf"
    sizes = _sizes(shape, axes, order)
    # Contrasts of a few numbers can come out small; what is left of them after rounding is then scaled up.
    exact = torch.float64 if math.prod(sizes) <= _FEW else torch.float32
    noise = Rows(_white(sizes, exact, generator), order)
    return _matched(noise, wanted, generator).back(shape, axes)


def _white(sizes: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Independent N(0, 1) numbers, not to be written to.

    Many are a piece of one table, from a random place on: fresh ones would take a quarter of a propagation's time.
    """
    count = math.prod(sizes)
    if count <= _FEW or count > _TABLE // 2:
        return torch.empty(tuple(sizes), dtype=dtype).normal_(generator=generator)
    start = int(torch.randint(_TABLE - count, (), generator=generator))
    return _table(generator.initial_seed())[start : start + count].reshape(tuple(sizes))


@lru_cache(maxsize=1)
def _table(seed: int) -> torch.Tensor:
    return torch.empty(_TABLE).normal_(generator=torch.Generator().manual_seed(seed))


def matched(x: torch.Tensor, axes: Axes, wanted: Covariance) -> torch.Tensor:
    """`x`, its contrasts over samples and positions scaled so that its rows have the wanted covariances."""
    return _matched(Rows.of(x, axes), wanted).back(x.shape, axes)


def _matched(noise: Rows, wanted: Covariance, generator: torch.Generator | None = None) -> Rows:
    """generator: of a new order of the means over samples and positions; without one, the noise's own stays."""
    samples, positions, _ = noise.counts
    at = noise.order.index("t")
    sums = noise.sums()
    found = row_covariance(noise, sums)
    share, have = _spectrum(wanted, samples, positions), _spectrum(found, samples, positions)
    both, sample, position = (
        math.sqrt(max(0.0, w) / h) if h > TINY else 0.0 for w, h in zip(share[:3], have[:3], strict=True)
    )
    means = (sums / positions).unsqueeze(at)
    across = noise.values.sum(dim=0, keepdim=True).div_(samples)
    old = means.mean(dim=0, keepdim=True)
    level = _stratified(old, generator)
    grand = level.mul_(math.sqrt(max(0.0, share[3]) / (samples * positions)))
    # Contrasts over both, over samples, over positions, and neither. Where a kind has one element there is no contrast.
    both, sample = (both, sample) if samples > 1 else (0.0, 0.0)
    both, position = (both, position) if positions > 1 else (0.0, 0.0)
    small = (sample - both) * means + ((both - sample - position) * old + grand)
    made = noise.values * both
    made.add_(across, alpha=position - both).add_(small)
    return Rows(made.float(), noise.order)


def _spectrum(known: Covariance, samples: int, positions: int) -> tuple[float, float, float, float]:
    """Variances on the contrasts over samples and positions, over samples, over positions, and on the grand mean."""
    at_mean = known.own + (positions - 1) * known.position, known.sample + (positions - 1) * known.apart
    at_contrast = known.own - known.position, known.sample - known.apart
    return (
        at_contrast[0] - at_contrast[1],
        at_mean[0] - at_mean[1],
        at_contrast[0] + (samples - 1) * at_contrast[1],
        at_mean[0] + (samples - 1) * at_mean[1],
    )


def _stratified(like: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Normal quantiles in random order, or in that of `like`: numbers whose second moment is 1 and whose mean is 0.

    A single number is 1. They stand for the grand mean, which all rows share, where a few features would be few draws.
    """
    count = like.numel()
    order = torch.randperm(count, generator=generator) if generator is not None else like.flatten().argsort().argsort()
    ranks = order.to(torch.float32)
    values = torch.special.ndtri((ranks + 0.5) / count) if count > 1 else torch.ones(1)
    return values.div_(values.square().mean().sqrt().clamp_min_(TINY)).reshape(like.shape)
