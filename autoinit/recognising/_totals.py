"""Exact sums over a weight in one pass: its moments and the power of each output feature."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from autoinit.tensors.elements import Elements
from autoinit.tensors.measuring import BLOCK, TRANSFER, Moments, WeightStats, moments


@dataclass(frozen=True, eq=False)
class Totals:
    """Sums over all of a weight.

    Attributes:
        power: shape (copies, outputs), the mean square of each feature's finite elements; 0 where there is none.
    """

    stats: WeightStats
    power: npt.NDArray[np.float64]


def totals(weight: torch.Tensor, axes: str) -> Totals:
    """Passes once over a weight, in order of memory and in blocks that fit the cache.

    Args:
        weight: not on the meta device.
        axes: one letter for each dimension, as in `Layout.axes`.
    """
    strides = weight.stride()
    order = sorted(range(weight.dim()), key=lambda axis: -strides[axis])
    turned = weight.detach().permute(order)
    kept = tuple(axes[axis] in "bo" for axis in order)
    features = [size for size, keep in zip(turned.shape, kept, strict=True) if keep]
    squares, lost = np.zeros(features), np.zeros(features)
    total = Moments()
    for index in _blocks(tuple(turned.shape), BLOCK if weight.device.type == "cpu" else TRANSFER):
        block = _floats(turned[index])
        part = moments(Elements(block))
        total += part
        place = tuple(each for each, keep in zip(index, kept, strict=True) if keep)
        if part.nonfinite:
            lost[place] += _reduced(block.isfinite().logical_not().float(), kept)
            block = block.nan_to_num(0.0, 0.0, 0.0)
        squares[place] += _squares(block, kept, part)
    power = squares / np.maximum(turned.numel() // max(1, squares.size) - lost, 1)
    return Totals(total.stats(), _in_order(power, axes, order))


def _blocks(shape: tuple[int, ...], most: int) -> Iterator[tuple[slice, ...]]:
    """Cuts a tensor into boxes of at most so many elements, each whole in the last axes."""
    axis = next((at for at in range(len(shape)) if math.prod(shape[at + 1 :]) <= most), 0)
    steps = [1] * axis + [max(1, most // max(1, math.prod(shape[axis + 1 :])))] if shape else []
    steps += shape[axis + 1 :]
    ranges = (range(0, size, max(1, step)) for size, step in zip(shape, steps, strict=True))
    for starts in itertools.product(*ranges):
        yield tuple(slice(at, at + step) for at, step in zip(starts, steps, strict=True))


def _floats(box: torch.Tensor) -> torch.Tensor:
    """Contiguous float32 (float64 from float64) on the CPU; the box's own memory where that is so already."""
    dtype = torch.float64 if box.dtype == torch.float64 else torch.float32
    return box.to("cpu", dtype).contiguous()


def _squares(block: torch.Tensor, kept: tuple[bool, ...], part: Moments) -> npt.NDArray[np.float64]:
    """Sums of squares over the axes that are not kept."""
    peak = max(abs(part.minimum), abs(part.maximum)) if part.finite else 0.0
    if peak == 0 or 1e-12 < peak < 1e12:
        return _reduced(block * block, kept)
    scaled = block.double() / peak
    return _reduced(scaled * scaled, kept) * peak * peak


def _reduced(values: torch.Tensor, kept: tuple[bool, ...]) -> npt.NDArray[np.float64]:
    """Sums over the axes that are not kept: products with ones, which are fast for short axes too."""
    features = [size for size, keep in zip(values.shape, kept, strict=True) if keep]
    runs = [
        (keep, math.prod(size for _, size in run))
        for keep, run in itertools.groupby(zip(kept, values.shape, strict=True), lambda each: each[0])
    ]
    values = values.reshape([size for _, size in runs])
    if runs and not runs[-1][0]:
        values = values.reshape(-1, runs.pop()[1]) @ values.new_ones(values.shape[-1])
        values = values.reshape([size for _, size in runs])
    inner = [axis for axis, (keep, _) in enumerate(runs) if not keep]
    reduced = values.sum(inner) if inner else values
    array: npt.NDArray[np.float64] = reduced.double().numpy().reshape(features)
    return array


def _in_order(power: npt.NDArray[np.float64], axes: str, order: list[int]) -> npt.NDArray[np.float64]:
    """Features in logical order, those of `b` axes first, as (copies, outputs)."""
    logical = [axis for axis in order if axes[axis] in "bo"]
    back = sorted(range(len(logical)), key=lambda at: (axes[logical[at]], logical[at]))
    turned = power.transpose(back)
    copies = math.prod(power.shape[at] for at in back if axes[logical[at]] == "b")
    return turned.reshape(copies, power.size // copies if copies else 0)
