"""Which output features of a weight go where.

The walk is made with a tensor of feature numbers in place of the values (`labelling`): after any chunk, slice, reshape,
permute or unbind, the numbers that are left say which rows of the weight went that way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from autoinit.resolving._labelling import LostError, filled, moved, numbered, rows
from autoinit.resolving._merging import merge
from autoinit.resolving._walking import Endings, Step, Walker, add_ending
from autoinit.resolving.resolution import Ending, Reason, SliceResolution
from autoinit.tracing.dataflow import Op, ParamUse

_MOST_VISITS = 4000
_MOST_SLICES = 256


@dataclass(frozen=True)
class Parted:
    """What a weight feeds, seen row by row: the endings of all rows, and slices where they part (none: they do not)."""

    endings: tuple[Ending, ...]
    slices: tuple[SliceResolution, ...]


@dataclass(frozen=True)
class _Piece:
    """Rows that reached one place, and the endings from there."""

    rows: tuple[int, ...]
    endings: tuple[Ending, ...]


def parted(walker: Walker, op: Op, use: ParamUse) -> Parted | None:
    """What the weight's output features feed; None where rows cannot be told apart.

    Where the output's shape is not known, several are tried, and the answer stands if all that can be followed agree.
    """
    if not walker.splits_ahead(op):
        return None
    answers = []
    for labels, count in _starts(walker, op, use):
        pieces = _Labelled(walker).pieces(op, labels, count)
        if pieces is not None:
            answers.append(Parted(_gathered(pieces), _partition(pieces, count)))
    return answers[0] if answers and all(each == answers[0] for each in answers) else None


def _starts(walker: Walker, op: Op, use: ParamUse) -> Iterator[tuple[Any, int]]:
    """Feature numbers in the shape of the operation's output (likely shapes where it is not known), and their count."""
    spec = op.call.spec if op.call is not None else None
    slot = (
        next((named for each in spec.weights(op.constants) if (named := each.named(use.slot))), None)
        if spec and spec.weights
        else None
    )
    if spec is None or slot is None or slot.features is None or use.layout is None:
        return
    sizes = [size for size, letter in zip(use.shape, use.layout.axes, strict=True) if letter == "o"]
    if use.layout.transposed:
        sizes = [size * use.layout.groups for size in sizes]
    axes = slot.features(op.constants, use.shape)
    if len(axes) != len(sizes):
        return
    for shape in _shapes(walker, op, axes, sizes):
        if prod(shape) > 0 and all(
            -axis <= len(shape) and shape[axis] == size for axis, size in zip(axes, sizes, strict=True)
        ):
            labels = numbered(shape, axes, sizes)
            yield (labels, torch.zeros(())) if spec.several else labels, prod(sizes)


def _shapes(walker: Walker, op: Op, axes: Sequence[int], sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """The shape of the operation's output, or of the first of them; likely ones where it is not known."""
    firsts = (after for after in walker.regions.consumers(op) if after.constants.get("index") == 0)
    known = op.shape if op.shape is not None else next((after.shape for after in firsts if after.shape), None)
    if known is not None:
        return [filled(known)]
    if len(axes) > 1:
        return []
    if axes[0] == -1:
        return [(3, sizes[0]), (3, 5, sizes[0])]
    return [(3, sizes[0], *(7,) * (-axes[0] - 1))]


class _Labelled:
    """One labelled walk."""

    def __init__(self, walker: Walker) -> None:
        self.walker = walker
        self.found: list[_Piece] = []

    def pieces(self, start: Op, labels: Any, count: int) -> list[_Piece] | None:
        """Every piece; None if the labels could not be followed at all (a guessed shape that does not fit)."""
        waiting: list[tuple[Op, Any, tuple[int, ...], tuple[Step, ...]]] = [(start, labels, tuple(range(count)), ())]
        visits = 0
        while waiting:
            op, value, here, way = waiting.pop(0)
            visits += 1
            if visits > _MOST_VISITS:
                return None
            if value is not None:
                here = rows(value)
            if not here:
                continue
            if value is None or (isinstance(value, torch.Tensor) and not self.walker.splits_ahead(op)):
                self._end(here, self.walker.feeds(op), way)
                continue
            for step in self.walker.steps(op):
                if step.ending is not None:
                    self._end(here, [step.ending], way)
                elif step.to is not None:
                    try:
                        after = moved(step, op, value)
                    except LostError:
                        if start.shape is None:
                            return None
                        after = None
                    waiting.append((step.to, after, here, (*way, step)))
        return self.found

    def _end(self, here: tuple[int, ...], endings: Sequence[Ending], way: tuple[Step, ...]) -> None:
        if endings:
            far = tuple(reduce(lambda ending, step: step.before(ending), reversed(way), each) for each in endings)
            self.found.append(_Piece(here, far))


def _gathered(pieces: Sequence[_Piece]) -> tuple[Ending, ...]:
    """Every distinct ending of the pieces, nearest first."""
    found: Endings = {}
    for piece in pieces:
        for ending in piece.endings:
            add_ending(found, ending)
    return tuple(sorted(found.values(), key=lambda ending: len(ending.path)))


def _partition(pieces: Sequence[_Piece], count: int) -> tuple[SliceResolution, ...]:
    """Rows that went to the same places together."""
    reached = np.zeros((count, len(pieces)), dtype=np.bool_)
    for number, piece in enumerate(pieces):
        reached[list(piece.rows), number] = True
    places, group_of = np.unique(reached, axis=0, return_inverse=True)
    if not 1 < len(places) <= _MOST_SLICES:
        return ()
    groups = [np.flatnonzero(group_of.reshape(-1) == group) for group in range(len(places))]
    made = []
    for place, members in sorted(zip(places, groups, strict=True), key=lambda each: int(each[1][0])):
        endings = _gathered([pieces[number] for number in np.flatnonzero(place).tolist()])
        ending, alternatives = merge(endings or [Ending("linear", Reason.UNUSED)])
        made.append(SliceResolution(_runs(members), ending, alternatives))
    return tuple(made)


def _runs(numbers: npt.NDArray[np.intp]) -> tuple[tuple[int, int], ...]:
    """Ascending numbers as half-open runs."""
    breaks = np.flatnonzero(np.diff(numbers) > 1)
    starts = np.concatenate((numbers[:1], numbers[breaks + 1]))
    stops = np.concatenate((numbers[breaks], numbers[-1:])) + 1
    return tuple(zip(starts.tolist(), stops.tolist(), strict=True))
