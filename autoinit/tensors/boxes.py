"""Which elements of a tensor are at hand: all of them, a box that a process holds, or a run of the flattened tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from autoinit.errors.arguments import all_of, refusal

Positions = npt.NDArray[np.int64]
Held = slice | Positions
"""Indices along one axis, in the order in which they are held."""


@dataclass(frozen=True)
class Spans:
    """Runs of the flattened whole tensor, in order: run n is the elements starts[n] : starts[n] + lengths[n]."""

    starts: Positions
    lengths: Positions


class Box:
    """The elements of a tensor that have, along each axis, one of the indices held.

    Attributes:
        shape: of the whole tensor.
        axes: for each axis the indices held: a slice of step 1 with both ends, or an array.
        local_shape: of the tensor that holds them.
    """

    def __init__(self, shape: Sequence[int], axes: Sequence[slice | Sequence[int] | Positions]) -> None:
        """Takes slices as Python does, and any integers.

        Raises:
            ValueError: there is not one entry for each axis.
            IndexError: an index lies outside its axis.
        """
        self.shape = tuple(shape)
        self.axes = tuple(_held(size, axis) for size, axis in zip(self.shape, axes, strict=True))
        self.local_shape = tuple(_count(axis) for axis in self.axes)

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Box:
        """All elements.

        Raises:
            ArgumentError: it is no shape.
        """
        shape = all_of("shape", shape, (int, np.integer), "the sizes of a tensor, such as (2, 3)")
        if any(size < 0 for size in shape):
            raise refusal("shape", shape, "sizes from 0")
        return cls(shape, [slice(None)] * len(shape))

    def __repr__(self) -> str:
        """Such as Box((4, 6), [0:4, (0, 1, 5)])."""
        axes = [f"{a.start}:{a.stop}" if isinstance(a, slice) else str(tuple(a.tolist())) for a in self.axes]
        return f"Box({self.shape}, [{', '.join(axes)}])"

    @property
    def numel(self) -> int:
        """Number of elements held."""
        return math.prod(self.local_shape)

    @property
    def is_whole(self) -> bool:
        """Whether every element is held, in its place."""
        return all(_is_full(size, axis) for size, axis in zip(self.shape, self.axes, strict=True))

    def take(self, whole: torch.Tensor) -> torch.Tensor:
        """Those elements of the whole tensor, or of one that has size 1 along some of its axes; a view if it can be."""
        for number, (axis, size) in enumerate(zip(self.axes, whole.shape, strict=True)):
            if size == 1 and self.shape[number] != 1:
                continue
            if isinstance(axis, slice):
                whole = whole.narrow(number, axis.start, axis.stop - axis.start)
            else:
                whole = whole.index_select(number, torch.from_numpy(axis).to(whole.device))
        return whole

    def spans(self, start: int, stop: int) -> Spans:
        """The elements start:stop of the flattened local tensor as runs of the flattened whole one."""
        if start >= stop:
            return Spans(np.empty(0, np.int64), np.empty(0, np.int64))
        offsets, lengths, before, size = self._row
        rows = np.arange(start // size, (stop - 1) // size + 1)
        starts = (self._bases(rows)[:, None] + offsets).ravel()
        at = (rows[:, None] * size + before).ravel()
        every = np.broadcast_to(lengths, (rows.size, lengths.size)).ravel()
        skipped = np.maximum(start - at, 0)
        left = np.minimum(every, stop - at) - skipped
        some = left > 0
        return Spans((starts + skipped)[some], left[some])

    @cached_property
    def _axis(self) -> int:
        """The last axis that is not held in full, or 0; all that is held after it lies together."""
        partial = [n for n, axis in enumerate(self.axes) if not _is_full(self.shape[n], axis)]
        return max(partial, default=0)

    @cached_property
    def _row(self) -> tuple[Positions, Positions, Positions, int]:
        """The runs that are held for one choice of the earlier indices: where each starts, its length, the elements
        before it, and the length of all.
        """
        if not self.shape:
            return np.zeros(1, np.int64), np.ones(1, np.int64), np.zeros(1, np.int64), 1
        inner = math.prod(self.shape[self._axis + 1 :])
        axis = self.axes[self._axis]
        if isinstance(axis, slice):
            starts, ends = np.array([axis.start]), np.array([axis.stop])
        else:
            cuts = np.flatnonzero(np.diff(axis) != 1)
            starts, ends = axis[np.concatenate([[0], cuts + 1])], axis[np.concatenate([cuts, [-1]])] + 1
        lengths = (ends - starts).astype(np.int64) * inner
        before = np.cumsum(lengths) - lengths
        return starts.astype(np.int64) * inner, lengths, before, int(lengths.sum())

    def _bases(self, rows: Positions) -> Positions:
        """Where the flattened whole tensor has the first element of some choices of the earlier indices."""
        bases = np.zeros(rows.size, np.int64)
        stride = math.prod(self.shape[self._axis :])
        for number in range(self._axis - 1, -1, -1):
            rows, index = np.divmod(rows, max(self.local_shape[number], 1))
            axis = self.axes[number]
            bases += (index + axis.start if isinstance(axis, slice) else axis[index]) * stride
            stride *= self.shape[number]
        return bases


@dataclass(frozen=True)
class FlatRun:
    """The elements start:stop of a flattened tensor, in a tensor of one axis.

    Attributes:
        shape: of the whole tensor.
    """

    shape: tuple[int, ...]
    start: int
    stop: int

    def __post_init__(self) -> None:
        """Raises IndexError where the run leaves the tensor."""
        if not 0 <= self.start <= self.stop <= math.prod(self.shape):
            raise IndexError(f"{self.start}:{self.stop} is no run of the {math.prod(self.shape)} elements of a tensor.")

    @property
    def numel(self) -> int:
        """Number of elements held."""
        return self.stop - self.start

    @property
    def local_shape(self) -> tuple[int, ...]:
        """Of the tensor that holds them."""
        return (self.numel,)

    @property
    def is_whole(self) -> bool:
        """Whether every element is held, by a tensor of the whole one's shape."""
        return self.local_shape == self.shape

    def take(self, whole: torch.Tensor) -> torch.Tensor:
        """Those elements of the whole tensor."""
        return whole.reshape(-1)[self.start : self.stop]

    def spans(self, start: int, stop: int) -> Spans:
        """The elements start:stop of the local tensor as runs of the flattened whole one."""
        count = int(start < stop)
        return Spans(np.full(count, self.start + start, np.int64), np.full(count, stop - start, np.int64))


Region = Box | FlatRun


def _held(size: int, axis: slice | Sequence[int] | Positions) -> Held:
    if isinstance(axis, slice):
        start, stop, step = axis.indices(size)
        if step == 1:
            return slice(start, max(start, stop))
        axis = np.arange(start, stop, step)
    array = np.asarray(axis, dtype=np.int64)
    if array.size and not (array.min() >= 0 and array.max() < size):
        raise IndexError(f"indices {array.min()} to {array.max()} of an axis of size {size}.")
    if array.size == 0 or np.array_equal(array, np.arange(array[0], array[0] + array.size)):
        first = int(array[0]) if array.size else 0
        return slice(first, first + array.size)
    return array


def _count(axis: Held) -> int:
    return axis.stop - axis.start if isinstance(axis, slice) else int(axis.size)


def _is_full(size: int, axis: Held) -> bool:
    return isinstance(axis, slice) and axis.start == 0 and axis.stop == size
