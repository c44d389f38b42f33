"""Which output features of a weight go where.

The walk is made with a tensor of feature numbers in place of the values (`labelling`): after any chunk, slice, reshape,
permute or unbind, the numbers that are left say which rows of the weight went that way.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any

import numpy as np
import torch

from autoinit.resolving._labelling import LostError, moved
from autoinit.resolving._labels import Rows, filled, numbered, rows
from autoinit.resolving._merging import merge
from autoinit.resolving._starting import features, likely_shapes
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


@dataclass(frozen=True, eq=False)
class _Piece:
    """Rows that reached one place, and the endings from there."""

    rows: Rows
    endings: tuple[Ending, ...]


def parted(walker: Walker, op: Op, use: ParamUse) -> Parted | None:
    """What the weight's output features feed; None where rows cannot be told apart.

    Where the output's shape is not known, several are tried, and the answer stands if all agree that can be followed
    everywhere (or, if none can, all).
    """
    if not walker.splits_ahead(op):
        return None
    answers: dict[bool, list[Parted]] = {True: [], False: []}
    for labels, count in _starts(walker, op, use):
        walk = _Labelled(walker)
        pieces = walk.pieces(op, labels, count)
        if pieces is not None:
            answers[walk.lost].append(Parted(_gathered(pieces), _partition(pieces, count)))
    best = answers[False] or answers[True]
    return best[0] if best and all(each == best[0] for each in best) else None


def _starts(walker: Walker, op: Op, use: ParamUse) -> Iterator[tuple[Any, int]]:
    """Feature numbers in the shape of the operation's output (likely shapes where it is not known), and their count."""
    found = features(op, use)
    if found is None or not found[0]:
        return
    axes, sizes = found
    known = _shape(walker, op)
    several = op.call is not None and op.call.spec is not None and op.call.spec.several
    for shape in likely_shapes(axes, sizes) if known is None else [filled(known)]:
        if prod(shape) > 0 and all(
            -axis <= len(shape) and shape[axis] == size for axis, size in zip(axes, sizes, strict=True)
        ):
            labels = numbered(shape, axes, sizes)
            yield (labels, torch.zeros(())) if several else labels, prod(sizes)


def _shape(walker: Walker, op: Op) -> tuple[int, ...] | None:
    """The shape of the operation's output, or of the first of them, where it is known."""
    firsts = (after for after in walker.regions.consumers(op) if after.constants.get("index") == 0)
    return op.shape if op.shape is not None else next((after.shape for after in firsts if after.shape), None)


class _Labelled:
    """One labelled walk.

    Attributes:
        lost: whether there is an operation that cannot be made on labels, as in a shape not right.
    """

    def __init__(self, walker: Walker) -> None:
        self.walker = walker
        self.lost = False
        self.found: list[_Piece] = []

    def pieces(self, start: Op, labels: Any, count: int) -> list[_Piece] | None:
        """Every piece; None if they are too many."""
        waiting: list[tuple[Op, Any, Rows, tuple[Step, ...]]] = [(start, labels, np.arange(count), ())]
        visits = 0
        while waiting:
            op, value, here, way = waiting.pop(0)
            visits += 1
            if visits > _MOST_VISITS:
                return None
            if value is not None:
                here = rows(value)
            if not here.size:
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
                        self.lost, after = True, None
                    waiting.append((step.to, after, here, (*way, step)))
        return self.found

    def _end(self, here: Rows, endings: Sequence[Ending], way: tuple[Step, ...]) -> None:
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
    if all(piece.rows.size == count for piece in pieces):
        return ()
    reached = np.zeros((count, len(pieces)), dtype=np.bool_)
    for number, piece in enumerate(pieces):
        reached[piece.rows, number] = True
    alike: dict[bytes, list[tuple[int, int]]] = {}
    starts = np.flatnonzero((reached[1:] != reached[:-1]).any(1)) + 1
    for start, stop in itertools.pairwise((0, *starts.tolist(), count)):
        alike.setdefault(reached[start].tobytes(), []).append((start, stop))
    if not 1 < len(alike) <= _MOST_SLICES:
        return ()
    made = []
    for members in alike.values():
        place = reached[members[0][0]]
        endings = _gathered([pieces[number] for number in np.flatnonzero(place).tolist()])
        ending, alternatives = merge(endings or [Ending("linear", Reason.UNUSED)])
        made.append(SliceResolution(tuple(members), ending, alternatives))
    return tuple(made)
