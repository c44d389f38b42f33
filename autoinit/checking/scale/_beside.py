"""Branches beside a branch: where a sum gets its signal from other weights, a weak one does little harm."""

from __future__ import annotations

from collections.abc import Iterable

from autoinit.checking._part import Part
from autoinit.checking._subject import Subject
from autoinit.checking.scale._consequences import WARNING_LIMIT
from autoinit.checking.scale._nominal import drawn
from autoinit.ops import Role
from autoinit.tracing.dataflow import Op


def is_carried_past(subject: Subject, part: Part) -> bool:
    """Whether all that a layer feeds comes to a sum with another branch, whose own weights are not too weak."""
    ops = [subject.dataflow.by_name[name] for name in part.layer.uses if name in subject.dataflow.by_name]
    return bool(ops) and all(_is_carried(subject, op) for op in ops)


def _is_carried(subject: Subject, start: Op) -> bool:
    if start.added is not None and _carries(subject, _weights(_before(start.added))):
        return True
    fed = {start}
    for op in subject.dataflow.graph.nodes:
        if not fed.isdisjoint(op.operands.values()):
            fed.add(op)
    waiting, seen = [start], {start}
    while waiting:
        for op in subject.dataflow.graph.successors(waiting.pop()):
            if op in seen or not (op.signal or op.ends):
                continue
            seen.add(op)
            if op.ends:
                return False
            if not _joins_another(subject, op, fed):
                waiting.append(op)
    return len(seen) > 1


def _joins_another(subject: Subject, op: Op, fed: set[Op]) -> bool:
    """Whether an operation adds a branch to what `fed` has computed that carries the signal past it."""
    if op.role is not Role.ADD and (op.added is None or op.added not in fed):
        return False
    own = [op.added] if op.added is not None else [each for each in op.operands.values() if each in fed]
    others = [each for each in op.operands.values() if each.signal and each not in fed]
    shared = {each for end in own for each in _before(end)}
    itself = {op} if op.added is not None else set()
    return any(_carries(subject, _weights((_before(end) | itself) - shared)) for end in others)


def _weights(ops: Iterable[Op]) -> list[Op]:
    return [op for op in ops if op.role is Role.WEIGHT]


def _before(op: Op) -> set[Op]:
    """An operation and all that it is computed of."""
    waiting, found = [op], {op}
    while waiting:
        fresh = [each for each in waiting.pop().operands.values() if each not in found]
        waiting += fresh
        found.update(fresh)
    return found


def _carries(subject: Subject, weights: list[Op]) -> bool:
    """Whether a branch has weights, and none of them is zero or far too weak."""
    params = {use.name for op in weights for use in op.params if use.layout is not None}
    if not params or any(map(subject.is_zero, params)):
        return False
    ratios = [
        drawn(subject, each).ratio(*each.scales, subject.tolerance)
        for each in subject.parts
        if each.layer.param in params
    ]
    return all(ratio is None or ratio > 1 / WARNING_LIMIT for ratio in ratios)
