"""Residual streams: which sums form one, and which weights end the branches that add into it.

A stream is a chain of sums in which one operand of each is the sum before it, passed on through operations without
weights. The other operand is a branch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from autoinit.ops import Role
from autoinit.resolving.normalising import written_norms
from autoinit.resolving.resolver import slot_of
from autoinit.tracing.dataflow import Dataflow, Op, only_steers

_PASSED = frozenset({Role.TRANSPARENT, Role.SPLIT, Role.NONLINEARITY})


@dataclass(frozen=True, eq=False)
class Stream:
    """A residual stream.

    Attributes:
        sums: those that a branch adds into, first to last.
        branches: for each, what its branch gives.
        ends: for each, the weights that end its branch.
    """

    sums: tuple[Op, ...]
    branches: tuple[tuple[Op, ...], ...]
    ends: tuple[tuple[Op, ...], ...]

    @property
    def count(self) -> int:
        """By how much its branches, each of power 1, make it grow: as many as there are, if their weights all differ.

        What the same weights add to a stream that hardly changes in between points the same way: r such branches have
        the power r^2, not r. (Marion et al. 2022 have 1 / L for weights that change smoothly over depth, 1 / sqrt(L)
        for independent ones.)
        """
        weights = Counter(frozenset(use.name for weight in each for use in weight.params) for each in self.ends)
        return sum(repeats**2 for repeats in weights.values())


def streams(dataflow: Dataflow, *, gated: bool = False) -> tuple[Stream, ...]:
    """Every residual stream with a branch, in order of the dataflow.

    gated: whether a branch may be multiplied by another signal before it is added (adaLN's gates, squeeze-and-excite).

    A sum of what no weight made, such as token and position embeddings, adds no branch. A sum whose operands both leave
    weights (a projected shortcut) begins a stream; its longer operand is the branch. A state that the same weights add
    into again and again (an LSTM's over time, with zoneout) is no stream. A norm ends a stream, written out or not.
    """
    firsts, passed = _chained(dataflow, frozenset())
    if any(op.role is Role.PRODUCT for op in passed):  # with which a written norm ends
        firsts, passed = _chained(dataflow, written_norms(dataflow))
    depth = _depths(dataflow)
    found: dict[Op, dict[Op, tuple[Op, ...]]] = {}
    branches: dict[Op, tuple[Op, ...]] = {}
    for add, first in firsts.items():
        branches[add] = tuple(_branches(add, passed, depth))
        ends = tuple(weight for branch in branches[add] for weight in _ending_weights(branch, gated))
        if ends:
            found.setdefault(first, {})[add] = ends
    return tuple(
        Stream(tuple(ends), tuple(branches[add] for add in ends), tuple(ends.values()))
        for ends in found.values()
        if not _is_state(ends.values())
    )


def _is_state(branches: Collection[tuple[Op, ...]]) -> bool:
    """Whether several branches all end in the same weights."""
    ends = {frozenset(use.name for weight in each for use in weight.params) for each in branches}
    return len(branches) > len(ends) == 1


def branch_counts(dataflow: Dataflow) -> dict[str, int]:
    """For each weight (by operation name and parameter) that ends a branch: the `Stream.count` of its stream.

    The keys are `operation/parameter`. Weights inside an operation (attention's in_proj) do not end a branch.
    """
    return {
        f"{weight.name}/{use.name}": stream.count
        for stream in streams(dataflow)
        if len(stream.sums) > 1
        for ends in stream.ends
        for weight in ends
        for use in weight.params
        if use.layout is not None and not slot_of(weight, use).gates
    }


def _chained(dataflow: Dataflow, norms: Collection[Op]) -> tuple[dict[Op, Op], dict[Op, Op]]:
    """The first sum of its stream for each sum of two signals, and for each operation that passes a stream on.

    norms: the last operations of written norms, which pass none on.
    """
    firsts: dict[Op, Op] = {}
    passed: dict[Op, Op] = {}
    for op in dataflow.graph.nodes:
        if op.role is Role.ADD:
            before = next((passed[each] for each in op.operands.values() if each in passed), op)
            firsts[op] = passed[op] = before
        elif op not in norms and (stream := _passed_on(op, passed)) is not None:
            passed[op] = stream
    return firsts, passed


def _passed_on(op: Op, passed: Mapping[Op, Op]) -> Op | None:
    """The stream that all operands come from, if the operation has no weight: an activation, also a written-out one."""
    if op.role not in _PASSED and not (op.role is Role.PRODUCT and op.acts == "elementwise"):
        return None
    carrying = [each for slot, each in op.operands.items() if each.signal and not only_steers(op, slot)]
    carrying = [each for each in carrying if each.made] or carrying  # a mask that is an input is no other stream
    if not carrying or (len(carrying) > 1 and op.acts != "elementwise"):
        return None
    first, *others = (passed.get(each) for each in carrying)
    return first if all(each is first for each in others) else None


def _depths(dataflow: Dataflow) -> dict[Op, int]:
    """Number of weight operations on the longest way to each operation."""
    depths: dict[Op, int] = {}
    for op in dataflow.graph.nodes:
        before = max((depths[each] for each in op.operands.values()), default=0)
        depths[op] = before + (op.role is Role.WEIGHT)
    return depths


def _branches(add: Op, passed: Mapping[Op, Op], depth: Mapping[Op, int]) -> list[Op]:
    operands = [each for each in add.operands.values() if each.signal]
    continuing = [each for each in operands if each in passed]
    if continuing:
        return [each for each in operands if each not in continuing]
    deepest = max(operands, key=depth.__getitem__)
    return [deepest] if depth[deepest] > min(depth[each] for each in operands) else []


def _ending_weights(branch: Op, gated: bool) -> list[Op]:
    """The last weight operations of a branch: back through everything that holds no weight."""
    found: list[Op] = []
    waiting, seen = [branch], set()
    while waiting:
        op = waiting.pop()
        if op in seen or not op.signal:
            continue
        seen.add(op)
        if op.role is Role.WEIGHT:
            found.append(op)
        elif op.role in (Role.TRANSPARENT, Role.SPLIT, Role.NORM) or (
            gated and op.role is Role.PRODUCT and op.acts == "elementwise"
        ):
            waiting.extend(op.operands.values())
    return found
