"""Distributions drawn element by element: random integers of 32 bits -> numbers of mean 0 and std 1.

A function of `plans.distributions` is called with as many random integers (int32, uniform over all, free to be
changed) as it has numbers (float32, contiguous, at most `_words.BLOCK`) to write.

The arithmetic is exact: additions, multiplications, conversions and look-ups, each of which IEEE 754 defines to the
last bit. So no processor, vector width or mathematical library changes a value.
"""

from __future__ import annotations

import math
import threading
from functools import cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import torch

from autoinit.theory import state_spaces
from autoinit.theory.truncation import CUT, std_after
from autoinit.writing._words import BLOCK, Bits, aligned

Array = npt.NDArray[np.float32]
Cells = npt.NDArray[np.int64]

LOWEST, HIGHEST = 0x3F00, 0x4F00
"""The upper halves of the float32 numbers 1/2 and 2^31, between which the magnitudes of random integers are."""
_HALF, _16 = np.float32(0.5), np.uint32(16)


class _LineScratch(threading.local):
    """A thread's own memory."""

    def __init__(self) -> None:
        self.index: Bits = aligned(BLOCK, torch.int32)
        self.cells: Cells = aligned(BLOCK, torch.int64)


_scratch = _LineScratch()


def normal(bits: Bits, out: Array) -> None:
    """N(0, 1), by its inverse distribution function."""
    _by_quantiles(bits, out, None)


def truncated_normal(bits: Bits, out: Array) -> None:
    """N(0, 1) cut at +-CUT, so that nothing piles up at the cut, and rescaled to unit std."""
    _by_quantiles(bits, out, CUT)


def truncated_normal_3(bits: Bits, out: Array) -> None:
    """The same, cut at +-3."""
    _by_quantiles(bits, out, 3.0)


def uniform(bits: Bits, out: Array) -> None:
    """Uniform of unit std: the 2**24 midpoints between -sqrt(3) and sqrt(3)."""
    np.right_shift(bits, 8, out=bits)
    np.copyto(out, bits, casting="unsafe")
    out += np.float32(0.5)
    out *= np.float32(math.sqrt(3.0) / 2**23)


def constant(_bits: Bits, out: Array) -> None:
    """Zeros: the value itself is the draw's mean."""
    out.fill(0.0)


def step_bias(bits: Bits, out: Array) -> None:
    """`theory.state_spaces.step_bias` of a uniform number, brought to mean 0 and unit std.

    Straight between 4,097 points.
    """
    points, cells = _step_points(), (bits >> 20) + 2048
    np.bitwise_and(bits, 0xFFFFF, out=bits)
    np.copyto(out, bits, casting="unsafe")
    out += np.float32(0.5)
    out *= np.float32(2**-20)
    out *= points[cells + 1] - points[cells]
    out += points[cells]


@cache
def _step_points() -> Array:
    mean, std = state_spaces.step_bias_moments()
    return np.array([(state_spaces.step_bias(at / 4096) - mean) / std for at in range(4097)], np.float32)


def _by_quantiles(bits: Bits, out: Array, cut: float | None) -> None:
    """X = Q(m) with the sign of a random integer i, where m = |i + 1/2| / 2^31 is the probability of a larger |x|.

    The upper half of i + 1/2 as a float32 number chooses a cell: one of 128 in each octave of m, so that cells are
    the finer, the farther out in the tails. Within a cell Q is a straight line.
    """
    index, cells = _scratch.index[: out.size], _scratch.cells[: out.size]
    half = index.view(np.float32)
    np.copyto(out, bits, casting="unsafe")
    np.add(out, _HALF, out=out)
    np.right_shift(out.view(np.uint32), _16, out=index.view(np.uint32))
    torch.index_select(_lines(cut), 0, torch.from_numpy(index), out=torch.from_numpy(cells))
    np.copyto(index, cells, casting="unsafe")  # the lower halves
    np.multiply(out, half, out=out)
    np.right_shift(cells, 32, out=cells)
    np.copyto(index, cells, casting="unsafe")
    np.add(out, half, out=out)


@cache
def _lines(cut: float | None) -> torch.Tensor:
    return torch.from_numpy(_table(cut))


@cache
def _table(cut: float | None) -> Cells:
    """For each upper half of a float32 number, the line of its cell: the bits of its float32 slope, and above them
    those of its value at zero.

    The ends of the cells are quantiles rounded to float32, so that the last digits of the mathematical library are
    lost.
    """
    edges = (np.arange(LOWEST, HIGHEST + 1, dtype=np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
    quantiles = np.array([quantile(edge / 2**31, cut) for edge in edges.tolist()], np.float32).astype(np.float64)
    slopes = (np.diff(quantiles) / np.diff(edges)).astype(np.float32)
    lines = np.zeros((1 << 16, 2), np.float32)
    for sign, first in ((1, 0), (-1, 1 << 15)):
        cells = lines[first + LOWEST : first + HIGHEST]
        cells[:, 0] = slopes
        cells[:, 1] = sign * (quantiles[:-1] - slopes.astype(np.float64) * edges[:-1])
    bits = lines.view(np.uint32).astype(np.int64)
    return bits[:, 0] | bits[:, 1] << 32


def quantile(tail: float, cut: float | None = None) -> float:
    """The magnitude that N(0, 1), cut at +-cut and brought to unit std, surpasses with probability `tail`."""
    if cut is None:
        return -NormalDist().inv_cdf(tail / 2)
    beyond = math.erfc(cut / math.sqrt(2))
    return -NormalDist().inv_cdf((beyond + (1 - beyond) * tail) / 2) / std_after(cut)
