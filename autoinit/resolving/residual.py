"""Residual streams: which sums form one, and which weights end the branches that add into it.

A stream is a chain of sums in which one operand of each is the sum before it, passed on through operations without
weights. The other operand is a branch; where it is a sum itself (x + (a + b), parallel branches), each term is one, but
for shares of a softmax: what experts give is one branch, in whatever way it is added up before the stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from autoinit.ops import Role
from autoinit.resolving.normalising import written_norms
from autoinit.resolving.resolver import slot_of
from autoinit.theory.activations import SOFTMAXES
from autoinit.tracing.dataflow import Dataflow, Op, only_steers

_NEAREST = 16
"""Operations that are looked at between a softmax and what it multiplies."""
_PASSED = frozenset({Role.TRANSPARENT, Role.SPLIT, Role.NONLINEARITY})


@dataclass(frozen=True)
class Branch:
    """A branch of a residual stream.

    Attributes:
        sum: that it adds into.
        end: what it gives.
        weights: those that end it.
        beside: the other operands of the sum, by which the stream goes on.
        inside: sums that lie on it.
    """

    sum: Op
    end: Op
    weights: tuple[Op, ...]
    beside: tuple[Op, ...]
    inside: frozenset[Op] = frozenset()


@dataclass(frozen=True, eq=False)
class Stream:
    """A residual stream: its branches, first to last."""

    branches: tuple[Branch, ...]

    @property
    def count(self) -> int:
        """By how much its branches, each of power 1, make it grow: as many as there are, if their weights all differ.

        What the same weights add to a stream that hardly changes in between points the same way: r such branches have
        the power r^2, not r. (Marion et al. 2022 have 1 / L for weights that change smoothly over depth, 1 / sqrt(L)
        for independent ones.)
        """
        return sum(repeats**2 for repeats in Counter(map(_names, self.branches)).values())


def streams(dataflow: Dataflow, *, gated: bool = False) -> tuple[Stream, ...]:
    """Every residual stream with a branch, in order of the dataflow.

    gated: whether a branch may be multiplied by another signal before it is added (adaLN's gates, squeeze-and-excite).

    A sum of what no weight made, such as token and position embeddings, adds no branch. A sum whose operands both leave
    weights (a projected shortcut) begins a stream; its longer operand is the branch. A state that the same weights add
    into again and again (an LSTM's over time, with zoneout) is no stream. A norm ends a stream, written out or not.
    """
    chains = _Chains(dataflow, frozenset())
    if any(op.role is Role.PRODUCT for op in chains.passed):  # with which a written norm ends
        chains = _Chains(dataflow, written_norms(dataflow))
    depth = _depths(dataflow)
    found: dict[Op, list[Branch]] = {}
    for add, first in chains.firsts.items():
        beside, ends = chains.parts(add, depth)
        for end in ends:
            inside = chains.mixed(end)
            weights = tuple(_ending_weights(end, {*beside}, inside, gated))
            if weights:
                found.setdefault(first, []).append(Branch(add, end, weights, beside, inside))
    return tuple(Stream(tuple(branches)) for branches in found.values() if not _is_state(branches))


def _names(branch: Branch) -> frozenset[str]:
    return frozenset(use.name for weight in branch.weights for use in weight.params)


def _is_state(branches: Collection[Branch]) -> bool:
    """Whether several branches all end in the same weights."""
    return len(branches) > len(set(map(_names, branches))) == 1


def branch_counts(dataflow: Dataflow) -> dict[str, int]:
    """For each weight (by operation name and parameter) that ends a branch: the `Stream.count` of its stream.

    The keys are `operation/parameter`. Weights inside an operation (attention's in_proj) do not end a branch.
    """
    return {
        f"{weight.name}/{use.name}": stream.count
        for stream in streams(dataflow)
        if len(stream.branches) > 1
        for branch in stream.branches
        for weight in branch.weights
        for use in weight.params
        if use.layout is not None and not slot_of(weight, use).gates
    }


class _Chains:
    """The chains of sums of a dataflow.

    Attributes:
        firsts: for each sum the first of its stream.
        passed: the same for each operation that passes a stream on.
        skips: for each sum that goes on with a stream, the operand by which it does.
        inner: sums of branches, which are added to a stream as one.
    """

    def __init__(self, dataflow: Dataflow, norms: Collection[Op]) -> None:
        """norms: the last operations of written norms, which pass no stream on."""
        self.firsts: dict[Op, Op] = {}
        self.passed: dict[Op, Op] = {}
        self.skips: dict[Op, Op] = {}
        self.inner: set[Op] = set()
        self._graph = dataflow.graph
        self._order = {op: number for number, op in enumerate(dataflow.graph.nodes)}
        for op in dataflow.graph.nodes:
            if op.role is Role.ADD:
                skip = self._skip(op)
                if skip is not None:
                    self.skips[op] = skip
                self.firsts[op] = self.passed[op] = op if skip is None else self.passed.get(skip, op)
            elif op not in norms and (stream := _passed_on(op, self.passed)) is not None:
                self.passed[op] = stream

    def parts(self, add: Op, depth: Mapping[Op, int]) -> tuple[tuple[Op, ...], list[Op]]:
        """The operands by which a stream goes on at a sum, and what adds into it."""
        operands = [each for each in add.operands.values() if each.signal]
        if add in self.inner:
            return (), []
        if add in self.skips:
            adding = [each for each in operands if each is not self.skips[add] and self._adds(each)]
        else:
            deepest = max(operands, key=depth.__getitem__)
            adding = [deepest] if depth[deepest] > min(depth[each] for each in operands) else []
        ends = [term for each in adding for term in self._terms(each)]
        return tuple(each for each in operands if each not in adding), ends

    def _adds(self, op: Op) -> bool:
        """Whether it belongs to no stream itself."""
        return op not in self.passed or _sum_of(op) in self.inner

    def _skip(self, add: Op) -> Op | None:
        """The operand by which a sum goes on with a stream, or begins one: that from which a sum beside it comes."""
        operands = [each for each in add.operands.values() if each.signal]
        continuing = [each for each in operands if each in self.passed]
        for skip in operands:
            within = [self._terms_alone(each, skip) for each in continuing if each is not skip]
            if all(within) and len(within) == len(operands) - 1:
                self.inner.update(*within)
                return skip
        return continuing[0] if continuing else None

    def _terms_alone(self, op: Op, skip: Op) -> list[Op]:
        """The sums, last to first, in which what comes from `skip` is added up and that nothing reads on the way.

        Empty where it gives no sum, does not come from `skip`, or gives a stream, whose branches read the sums.
        """
        total = _sum_of(op)
        found = [total] if total in self.firsts else []
        while (before := self.skips.get(found[-1]) if found else None) is not None:
            alone = self._read_once(before)
            if alone is None or alone not in self.firsts:
                return []
            found.append(alone)
        return found if found and self._comes_from(total, skip) else []

    def _read_once(self, op: Op) -> Op | None:
        """The sum before operations that neither weight nor bend it, if all of them are read once; else None."""
        while self._graph.out_degree(op) == 1:
            if op in self.firsts or len(op.operands) != 1:
                return op
            (op,) = op.operands.values()
        return None

    def _comes_from(self, op: Op, source: Op) -> bool:
        waiting, seen = [op], {op}
        for here in waiting:
            if here is source:
                return True
            for each in here.operands.values():
                if each not in seen and self._order[each] >= self._order[source]:
                    seen.add(each)
                    waiting.append(each)
        return False

    def _terms(self, op: Op) -> list[Op]:
        """The terms of a sum of branches; what is none, alone."""
        total = _sum_of(op)
        if total not in self.inner or self.mixed(op):
            return [op]
        return [term for each in total.operands.values() if each.signal for term in self._terms(each)]

    def mixed(self, op: Op) -> frozenset[Op]:
        """The sums by which shares of a softmax are added up, if it gives such a sum."""
        found: list[Op] = []
        terms = [op] if _sum_of(op) in self.inner else []
        for term in terms:
            total = _sum_of(term)
            if total in self.inner or (total.op == "add" and total.role is Role.TRANSPARENT):  # to zeros, the first
                found.append(total)
                terms += (each for each in total.operands.values() if each.signal)
            elif not _is_share(total):
                return frozenset()
        return frozenset(found)


def _is_share(op: Op) -> bool:
    """Whether a softmax gives what multiplies the rest."""
    return op.role is Role.PRODUCT and op.acts == "elementwise" and any(map(_is_of_softmax, op.operands.values()))


def _is_of_softmax(op: Op) -> bool:
    """Whether it comes from a softmax straight, by choosing of its numbers or by dividing them by their sum."""
    for _ in range(_NEAREST):
        if op.op in SOFTMAXES:
            return True
        before = [each for each in op.operands.values() if each.signal]
        if not before or op.role not in (Role.TRANSPARENT, Role.SPLIT, Role.PRODUCT):
            return False
        op = before[0]
    return False


def _sum_of(op: Op) -> Op:
    """What comes before operations that neither weight nor bend it, such as dropout."""
    while op.role is Role.TRANSPARENT and len(op.operands) == 1 and not op.params:
        (op,) = op.operands.values()
    return op


def _passed_on(op: Op, passed: Mapping[Op, Op]) -> Op | None:
    """The stream that all operands come from, if the operation has no weight: an activation, also a written-out one."""
    if op.role not in _PASSED and not (op.role is Role.PRODUCT and op.acts == "elementwise"):
        return None
    carrying = [each for slot, each in op.operands.items() if each.signal and not only_steers(op, slot)]
    carrying = [each for each in carrying if each.made] or carrying  # a mask that is an input is no other stream
    if not carrying:
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


def _ending_weights(branch: Op, beside: Collection[Op], inside: Collection[Op], gated: bool) -> list[Op]:
    """The last weight operations of a branch: back through everything that holds no weight, as far as the stream.

    inside: sums that lie on the branch.
    """
    found: list[Op] = []
    waiting, seen = [branch], set(beside)
    while waiting:
        op = waiting.pop()
        if op in seen or not op.signal:
            continue
        seen.add(op)
        if op.role is Role.WEIGHT:
            found.append(op)
        elif (
            op.role in (Role.TRANSPARENT, Role.SPLIT, Role.NORM)
            or op in inside
            or (gated and op.role is Role.PRODUCT and op.acts == "elementwise")
        ):
            waiting.extend(op.operands.values())
    return found
