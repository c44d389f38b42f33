"""Which output features of a weight go where.

The walk is made with a tensor of feature numbers in place of the values: after any chunk, slice, reshape, permute or
unbind, the numbers that are left say which rows of the weight went that way.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from autoinit.resolving.merging import merge
from autoinit.resolving.regions import Region
from autoinit.resolving.resolution import Ending, Reason, SliceResolution
from autoinit.resolving.walking import Endings, Step, Walker, add_ending
from autoinit.tracing.dataflow import Op, ParamUse
from autoinit.tracing.executing import execute
from autoinit.tracing.recording import Strided

_NO_RESULT = (RuntimeError, TypeError, KeyError, IndexError, ValueError, AttributeError)
"""What calling a torch function on labels may raise."""
_MOST_VISITS = 4000
_MOST_SLICES = 256
_LARGE = 1 << 14
_OTHER = 0
"""The label of what is none of the rows; the rows are numbered from 1, so that padding with zeros is none of them."""


@dataclass(frozen=True)
class _Piece:
    """Rows that reached one place, and the endings from there."""

    rows: tuple[int, ...]
    endings: tuple[Ending, ...]


def slices(walker: Walker, op: Op, use: ParamUse) -> tuple[SliceResolution, ...]:
    """The resolutions of the weight's output features where they part; empty if they stay together."""
    if not walker.splits_ahead(op):
        return ()
    for labels, count in _starts(op, use):
        pieces = _Labelled(walker).pieces(op, labels, count)
        if pieces is not None:
            return _partition(pieces, count)
    return ()


def _starts(op: Op, use: ParamUse) -> Iterator[tuple[torch.Tensor, int]]:
    """Feature numbers in the shape of the operation's output (likely shapes where it is not known), and their count."""
    spec = op.call.spec if op.call is not None else None
    slot = (
        next((named for each in spec.weights(op.constants) if (named := each.named(use.slot))), None)
        if spec and spec.weights
        else None
    )
    if slot is None or slot.features is None or use.layout is None:
        return
    sizes = [size for size, letter in zip(use.shape, use.layout.axes, strict=True) if letter == "o"]
    if use.layout.transposed:
        sizes = [size * use.layout.groups for size in sizes]
    axes = slot.features(op.constants, use.shape)
    if len(axes) != len(sizes):
        return
    if op.shape is not None:
        shapes = [_filled(op.shape)]
    elif len(axes) == 1 and axes[0] == -1:
        shapes = [(3, sizes[0]), (3, 5, sizes[0])]
    elif len(axes) == 1:
        shapes = [(3, sizes[0], *(7,) * (-axes[0] - 1))]
    else:
        return
    for shape in shapes:
        if prod(shape) > 0 and all(
            -axis <= len(shape) and shape[axis] == size for axis, size in zip(axes, sizes, strict=True)
        ):
            yield _numbers(shape, axes, sizes), prod(sizes)


def _numbers(shape: tuple[int, ...], axes: Sequence[int], sizes: Sequence[int]) -> torch.Tensor:
    ordered = torch.arange(1, prod(sizes) + 1, dtype=torch.float64).reshape(*sizes)
    by_axis = sorted(range(len(axes)), key=lambda position: axes[position])
    view = [1] * len(shape)
    for position in by_axis:
        view[axes[position]] = sizes[position]
    return ordered.permute(by_axis).reshape(view).expand(shape)


class _Labelled:
    """One labelled walk."""

    def __init__(self, walker: Walker) -> None:
        self.walker = walker
        self.found: list[_Piece] = []

    def pieces(self, start: Op, labels: torch.Tensor, count: int) -> list[_Piece] | None:
        """Every piece; None if the labels could not be followed at all (a guessed shape that does not fit)."""
        waiting: list[tuple[Op, Any, tuple[int, ...], tuple[str, ...], bool]] = [
            (start, labels, tuple(range(count)), (), False)
        ]
        visits = 0
        while waiting:
            op, value, rows, path, normalised = waiting.pop(0)
            visits += 1
            if visits > _MOST_VISITS:
                return None
            if value is not None:
                rows = _rows(value)
            if not rows:
                continue
            if value is None or (isinstance(value, torch.Tensor) and not self.walker.splits_ahead(op)):
                self._end(rows, self.walker.feeds(op), path, normalised)
                continue
            for step in self.walker.steps(op):
                if step.ending is not None:
                    self._end(rows, [step.ending], path, normalised)
                elif step.to is not None:
                    try:
                        moved = _moved(step, op, value)
                    except _LostError:
                        if start.shape is None:
                            return None
                        moved = None
                    waiting.append((step.to, moved, rows, path + step.via, normalised or step.normalised))
        return self.found

    def _end(self, rows: tuple[int, ...], endings: Sequence[Ending], path: tuple[str, ...], normalised: bool) -> None:
        longer = tuple(
            replace(ending, path=path + ending.path, normalised=normalised or ending.normalised) for ending in endings
        )
        self.found.append(_Piece(rows, longer))


class _LostError(Exception):
    """A split could not be followed with labels."""


def _moved(step: Step, op: Op, value: Any) -> Any:
    """The labels after a step; None if the features are mixed on it, so that what follows has all these rows."""
    to = step.to
    assert to is not None
    if step.region is not None:
        return _moved_over(step.region, value)
    if _ranks(to):
        return None
    if to.acts == "rearranging":
        try:
            return _rearranged(to, {op: value})
        except _NO_RESULT:
            if step.splits:
                raise _LostError from None
            return None
    if to.op == "setitem":
        return _written_over(to, op, value)
    if not isinstance(value, torch.Tensor):
        return value
    known = to.shape is not None or to.acts == "elementwise" or step.normalised
    return value if known and _fits(to, value) else None


def _fits(op: Op, labels: torch.Tensor) -> bool:
    """Whether labels have the shape of the operation's output, so far as that is known."""
    return op.shape is None or _filled(op.shape) == tuple(labels.shape)


def _moved_over(region: Region, value: Any) -> Any:
    """The labels after several operations: each that moves them is made; others pass a tensor of the same shape."""
    values = {region.start: value}
    try:
        if all(op.acts == "rearranging" and not _ranks(op) for op in region.ops):
            for op in region.ops:
                values[op] = _rearranged(op, values)
            return values[region.end]
    except _NO_RESULT:
        return None
    return value if isinstance(value, torch.Tensor) and _fits(region.end, value) else None


def _ranks(op: Op) -> bool:
    return op.call is not None and op.call.spec is not None and op.call.spec.ranks


def _rearranged(to: Op, known: Mapping[Op, Any]) -> Any:
    """The operation's result on labels. A concatenation is made on one entry of the axes along which nothing varies."""
    operands = {each: known[each] if each in known else _beside(each) for each in to.operands.values()}
    axes = _constant_axes(to, list(operands.values())) if to.op == "cat" else ()
    for axis in axes:
        operands = {each: labels.narrow(axis, 0, 1) for each, labels in operands.items()}
    result = execute(to, operands)
    if axes and to.shape is not None:
        return result.expand(_filled(to.shape))
    return _thinned(result)


def _thinned(labels: Any) -> Any:
    """Large labels with each axis along which nothing varies expanded from one entry, as a reshape may have undone."""
    if isinstance(labels, (tuple, list)):
        return tuple(map(_thinned, labels))
    if not isinstance(labels, torch.Tensor) or labels.numel() < _LARGE:
        return labels
    thin = _one_of_each(labels)
    for axis in range(thin.dim()):
        first = thin.narrow(axis, 0, 1)
        if thin.shape[axis] > 1 and bool((thin == first).all()):
            thin = first
    return thin.expand(labels.shape)


def _one_of_each(labels: torch.Tensor) -> torch.Tensor:
    """One entry of each expanded axis."""
    for axis in range(labels.dim()):
        if labels.stride(axis) == 0 and labels.shape[axis] > 1:
            labels = labels.narrow(axis, 0, 1)
    return labels


def _filled(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of labels for a tensor of this shape: an axis on which this run had nothing has one entry."""
    return tuple(size or 1 for size in shape)


def _constant_axes(to: Op, labels: list[Any]) -> tuple[int, ...]:
    """Axes, other than the concatenated one, along which no operand varies; none if the result's shape is unknown."""
    dim = to.constants.get("dim", 0)
    if to.shape is None or not isinstance(dim, int) or not all(isinstance(each, torch.Tensor) for each in labels):
        return ()
    rank = len(to.shape)
    others = (axis for axis in range(rank) if axis != dim % rank)
    return tuple(axis for axis in others if all(each.dim() == rank and each.stride(axis) == 0 for each in labels))


def _written_over(to: Op, op: Op, value: Any) -> Any:
    """Labels after `base[index] = values`: what is written over is gone, what is written comes in."""
    if to.call is None or not isinstance(value, torch.Tensor):
        return None
    base, index, written = to.call.args
    try:
        labels = (value if op is base else _other(base)).clone(memory_format=torch.contiguous_format)
        incoming = value if op is written else float(_OTHER)
        if isinstance(index, Strided):
            index.of(labels).copy_(torch.as_tensor(incoming, dtype=labels.dtype))
        elif _is_chain(index):
            _view(labels, base, index).copy_(torch.as_tensor(incoming, dtype=labels.dtype))
        else:
            labels[index] = incoming
    except (RuntimeError, TypeError, IndexError, ValueError, KeyError, _LostError):
        return None
    return labels


def _is_chain(index: Any) -> bool:
    return isinstance(index, tuple) and bool(index) and all(isinstance(each, Op) for each in index)


def _view(labels: torch.Tensor, base: Op, chain: tuple[Op, ...]) -> torch.Tensor:
    """The view of the labels that a chain of operations takes of `base`."""
    part: Any = labels
    for before, op in itertools.pairwise((base, *chain)):
        part = execute(op, {before: part})
    if not isinstance(part, torch.Tensor) or part.untyped_storage().data_ptr() != labels.untyped_storage().data_ptr():
        raise _LostError
    return part


def _beside(op: Op) -> Any:
    """What stands for an operand that holds none of the rows: its value if it is made of constants (`torch.arange`)."""
    if op.op == "constant" and op.call is not None:
        return execute(op, {each: _beside(each) for each in op.operands.values()})
    return _other(op)


def _other(op: Op) -> Any:
    """Labels of a tensor that holds none of the rows."""
    if op.shape is None:
        raise _LostError
    return torch.full((1,) * len(op.shape), float(_OTHER), dtype=torch.float64).expand(_filled(op.shape))


def _rows(labels: Any) -> tuple[int, ...]:
    """The distinct feature numbers of a tensor or of several."""
    if isinstance(labels, torch.Tensor):
        return _rows_of(labels)
    return tuple(sorted({row for each in labels for row in _rows(each)})) if isinstance(labels, (tuple, list)) else ()


def _rows_of(labels: torch.Tensor) -> tuple[int, ...]:
    """The distinct feature numbers; axes along which nothing varies are looked at once."""
    values = _one_of_each(labels).numpy().reshape(-1)
    whole = values[(values > 0) & (values == np.floor(values))].astype(np.intp)
    return tuple((np.flatnonzero(np.bincount(whole)) - 1).tolist())


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
    for place, rows in sorted(zip(places, groups, strict=True), key=lambda each: int(each[1][0])):
        endings = [ending for number in np.flatnonzero(place).tolist() for ending in pieces[number].endings]
        ending, alternatives = merge(_distinct(endings) or [Ending("linear", Reason.UNUSED)])
        made.append(SliceResolution(_runs(rows), ending, alternatives))
    return tuple(made)


def _distinct(endings: Sequence[Ending]) -> list[Ending]:
    seen: Endings = {}
    for ending in endings:
        add_ending(seen, ending)
    return list(seen.values())


def _runs(rows: npt.NDArray[np.intp]) -> tuple[tuple[int, int], ...]:
    """Ascending numbers as half-open runs."""
    breaks = np.flatnonzero(np.diff(rows) > 1)
    starts = np.concatenate((rows[:1], rows[breaks + 1]))
    stops = np.concatenate((rows[breaks], rows[-1:])) + 1
    return tuple(zip(starts.tolist(), stops.tolist(), strict=True))
