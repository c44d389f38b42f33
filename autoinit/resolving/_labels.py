"""Tensors of labels.

A label is the number of an output feature, from 1, in the place of a value; 0 is the label of what is none of them.
Along an axis on which labels do not vary one entry is as good as all: such an axis is expanded from one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from autoinit.tensors.elements import stored

_EXACT = 1 << 24
"""Numbers up to which float32 tells all whole ones apart."""
_LARGE = 1 << 14
OTHER = 0
"""The label of what is none of the features."""
Rows = npt.NDArray[np.intp]
"""Numbers of features, ascending."""


def numbered(shape: tuple[int, ...], axes: Sequence[int], sizes: Sequence[int]) -> torch.Tensor:
    """Feature numbers in a tensor of this shape, whose `axes`, counted from the end, hold features, `sizes` of them."""
    exact = torch.float32 if prod(sizes) < _EXACT else torch.float64
    ordered = torch.arange(1, prod(sizes) + 1, dtype=exact).reshape(*sizes)
    by_axis = sorted(range(len(axes)), key=lambda position: axes[position])
    view = [1] * len(shape)
    for position in by_axis:
        view[axes[position]] = sizes[position]
    return ordered.permute(by_axis).reshape(view).expand(shape)


def filled(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of labels for a tensor of this shape: an axis on which this run had nothing has one entry."""
    return tuple(size or 1 for size in shape)


def rows(labels: Any) -> Rows:
    """The distinct features, counted from 0, of a tensor of labels or of several."""
    if isinstance(labels, torch.Tensor):
        values = stored(labels).numpy().reshape(-1)
        return np.flatnonzero(np.bincount(values[values > OTHER].astype(np.intp))[1:])
    every = [rows(each) for each in labels] if isinstance(labels, (tuple, list)) else []
    return np.unique(np.concatenate(every)) if every else np.empty(0, np.intp)


def runs(numbers: npt.ArrayLike) -> tuple[tuple[int, int], ...]:
    """Ascending numbers as half-open runs."""
    known = np.asarray(numbers)
    breaks = np.flatnonzero(np.diff(known) > 1)
    starts = np.concatenate((known[:1], known[breaks + 1]))
    stops = np.concatenate((known[breaks], known[-1:])) + 1
    return tuple(zip(starts.tolist(), stops.tolist(), strict=True))


def one_entry(labels: torch.Tensor, axes: Iterable[int]) -> torch.Tensor | None:
    """One entry of each of these axes; None if different features stand on one. (What is no feature may stand there.)

    Axes on which nothing varies may have one entry, too.
    """
    labels = stored(labels)
    for axis in axes:
        most = labels.amax(axis, keepdim=True)
        if not bool(((labels == most) | (labels == OTHER)).all()):
            return None
        labels = most
    return labels


def thinned(labels: Any) -> Any:
    """Large labels with each axis along which nothing varies expanded from one entry, as a reshape may have undone."""
    if isinstance(labels, (tuple, list)):
        return tuple(map(thinned, labels))
    if not isinstance(labels, torch.Tensor) or labels.numel() < _LARGE:
        return labels
    thin = stored(labels)
    for axis in range(thin.dim()):
        first, last = thin.narrow(axis, 0, 1), thin.narrow(axis, -1, 1) if thin.shape[axis] else thin
        if thin.shape[axis] > 1 and torch.equal(first, last) and bool((thin == first).all()):
            thin = first
    return thin.expand(labels.shape)


def each_once(labels: torch.Tensor, axis: int, count: int) -> torch.Tensor | None:
    """What stands at the places of an axis, each once, for `count` choices; None if these may not meet all of it."""
    single = one_entry(labels, [axis])
    if single is not None:
        return single.expand([1 if each == axis else size for each, size in enumerate(labels.shape)])
    places = torch.unique(labels, dim=axis)
    return places if count >= 2 * places.shape[axis] else None
