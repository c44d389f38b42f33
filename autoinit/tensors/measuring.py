"""Statistics of actual weights: one pass over memory, no full-size temporary, any dtype, device and memory format."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
import torch

from autoinit.tensors.elements import Elements, Floats, any_order, stored

BLOCK = 1 << 18
"""Elements that are measured at once: few enough that each pass after the first reads the cache."""
_RUN, SHARE = 509, 16
"""Elements in a row that are sampled, of so many times as many at least."""
TRANSFER = 1 << 20
"""Elements that are brought from another device at once."""


@dataclass(frozen=True)
class WeightStats:
    """What a weight's elements are like.

    mean, std, minimum and maximum are of its finite elements (NaN when there are none); std is the population's,
    divided by numel.

    Attributes:
        zeros: the fraction that is exactly zero.
        nonfinite: how many are NaN or infinite.
        sampled: whether all but numel are of a sample: of a large weight before it is written.
    """

    numel: int
    mean: float
    std: float
    minimum: float
    maximum: float
    zeros: float
    nonfinite: int
    sampled: bool = False

    def scaled(self, factor: float) -> WeightStats:
        """The statistics of the same weight times a factor."""
        ends = sorted((self.minimum * factor, self.maximum * factor))
        return replace(self, mean=self.mean * factor, std=self.std * abs(factor), minimum=ends[0], maximum=ends[1])


@dataclass(frozen=True)
class Moments:
    """Sums from which statistics follow, and that add up over parts of a tensor.

    Attributes:
        finite: how many elements are finite; mean, squares, minimum, maximum are theirs, squares being the sum of
            squared deviations from the mean.
        zeros, nonfinite: counts.
        left_out: how many elements a sample left out.
    """

    finite: int = 0
    mean: float = 0.0
    squares: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf
    zeros: int = 0
    nonfinite: int = 0
    left_out: int = 0

    def __add__(self, other: Moments) -> Moments:
        """The moments of both parts together (Chan, Golub & LeVeque 1983)."""
        finite = self.finite + other.finite
        share = other.finite / finite if finite else 0.0
        apart = other.mean - self.mean
        return Moments(
            finite,
            self.mean + apart * share,
            self.squares + other.squares + apart * apart * self.finite * share,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            self.zeros + other.zeros,
            self.nonfinite + other.nonfinite,
            self.left_out + other.left_out,
        )

    def repeated(self, times: int) -> Moments:
        """The moments of every element so many times."""
        if times == 1:
            return self
        return Moments(
            self.finite * times,
            self.mean,
            self.squares * times,
            self.minimum,
            self.maximum,
            self.zeros * times,
            self.nonfinite * times,
            self.left_out * times,
        )

    def stats(self) -> WeightStats:
        """The statistics that follow."""
        seen = self.finite + self.nonfinite
        zeros, rest = self.zeros / seen if seen else 0.0, (self.nonfinite, self.left_out > 0)
        numel = seen + self.left_out
        if not self.finite:
            return WeightStats(numel, math.nan, math.nan, math.nan, math.nan, zeros, *rest)
        std = math.sqrt(self.squares / self.finite)
        return WeightStats(numel, self.mean, std, self.minimum, self.maximum, zeros, *rest)


def total(parts: Iterable[Moments]) -> Moments:
    """The moments of all parts together."""
    each = iter(parts)
    return reduce(add, each, next(each, _NOTHING))


_NOTHING = Moments()


def moments(held: Elements, start: int = 0, stop: int | None = None) -> Moments:
    """The moments of the elements start:stop."""
    stop = held.tensor.numel() if stop is None else stop
    step = BLOCK if held.tensor.device.type == "cpu" else TRANSFER
    blocks = (held.read(begin, min(begin + step, stop)) for begin in range(start, stop, step))
    return total(_block_moments(block) for block in blocks)


def sampled_moments(held: Elements, start: int, stop: int, share: int = SHARE) -> Moments:
    """The moments of a sample of the elements start:stop, one of so many; of all where they are few.

    Where memory is at hand it is runs of an odd length, so that they begin in other columns of other rows.
    """
    if stop - start < _RUN * share:
        return moments(held, start, stop)
    if held.memory is None:
        seen = moments(held, start, start + (stop - start) // share)
    else:
        runs = (stop - start) // _RUN
        seen = _block_moments(held.memory[start : start + runs * _RUN].reshape(runs, _RUN)[::share].reshape(-1))
    return replace(seen, left_out=stop - start - seen.finite - seen.nonfinite)


def weight_stats(tensor: torch.Tensor) -> WeightStats | None:
    """The statistics of a tensor; None for one on the meta device, which has no values."""
    return None if tensor.is_meta else weight_moments(tensor).stats()


def weight_moments(tensor: torch.Tensor) -> Moments:
    """The moments of a tensor that has values, whatever its strides."""
    once = stored(tensor)
    return moments(Elements(any_order(once))).repeated(tensor.numel() // max(once.numel(), 1))


def is_zero(tensor: torch.Tensor) -> bool:
    """Whether every element is exactly zero (False on the meta device). Stops at the first part that is not."""
    if tensor.is_meta:
        return False
    plain = tensor.layout is torch.strided and tensor.is_floating_point() and tensor.element_size() > 1
    if plain and tensor.numel() and tensor.detach()[(0,) * tensor.dim()].item():
        return False
    ordered = any_order(stored(tensor))
    held, size = Elements(ordered), ordered.numel()
    with np.errstate(invalid="ignore"):  # of memory that nothing has written
        return not any(held.read(at, min(at + BLOCK, size)).any() for at in range(0, size, BLOCK))


def _block_moments(block: Floats) -> Moments:
    if not block.size:
        return Moments()
    minimum, maximum = float(np.minimum.reduce(block)), float(np.maximum.reduce(block))
    if not (math.isfinite(minimum) and math.isfinite(maximum)):
        finite = block[np.isfinite(block)]
        return total([_block_moments(finite), Moments(nonfinite=block.size - finite.size)])
    zeros = int(np.count_nonzero(block == 0)) if minimum <= 0 <= maximum else 0
    mean, squares = _mean_and_squares(block, minimum, maximum)
    return Moments(block.size, mean, squares, minimum, maximum, zeros)


def _mean_and_squares(block: Floats, minimum: float, maximum: float) -> tuple[float, float]:
    if minimum == maximum:
        return minimum, 0.0
    size, peak = block.size, max(-minimum, maximum)
    if 1e-12 < peak < 1e12:
        tensor = torch.from_numpy(block)
        mean, power = tensor.sum().item() / size, tensor.dot(tensor).item()
        if size * mean * mean < 0.01 * power:
            return mean, power - size * mean * mean
    # Squares would leave float32's range, or lose their digits beside a large mean: two passes in float64.
    scaled = block.astype(np.float64) / peak
    mean = float(scaled.mean())
    return mean * peak, float(np.square(scaled - mean).sum()) * peak * peak
