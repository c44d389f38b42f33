"""Places where a wrong scale does less harm: beside a skip connection, and before a norm further on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

from autoinit.ops import Role
from autoinit.tracing.dataflow import Dataflow, Op


def inside_branches(dataflow: Dataflow) -> frozenset[str]:
    """Names of the operations that lie on a branch beside a skip connection.

    At a sum, an operand is the skip if another one starts from it: everything computed in between on the way to the
    other operand is the branch.
    """
    order = {op: number for number, op in enumerate(dataflow.graph.nodes)}
    found: set[str] = set()
    for op in dataflow.graph.nodes:
        operands = {each for each in op.operands.values() if each.signal}
        if op.role is Role.ADD and len(operands) > 1:
            for skip, end in permutations(operands, 2):
                for start in {skip, _behind(skip)}:
                    found |= _between(start, end, order)
    return frozenset(found)


def final(dataflow: Dataflow) -> frozenset[str]:
    """Names of the operations behind which no weight comes any more."""
    return _leading_to(dataflow, lambda op: op.role is Role.SINK, lambda op: op.role is not Role.WEIGHT)


_HOMOGENEOUS = frozenset({"relu", "leaky_relu", "prelu"})
"""phi(c x) = c phi(x) for c > 0: a scale goes through them unchanged."""


def renormalised(dataflow: Dataflow) -> frozenset[str]:
    """Names of the operations whose scale a norm takes away further on, on every way, with nothing but scaling between.

    Rectifiers and weights without bias pass a scale on unchanged.
    """
    return _leading_to(dataflow, lambda op: op.role is Role.NORM, _passes_scale)


def muted(dataflow: Dataflow, is_zero: Callable[[str], bool]) -> frozenset[str]:
    """Names of the operations from which every way on leads through a zero weight.

    Args:
        dataflow: of the model.
        is_zero: whether a parameter, by name, is zero everywhere.
    """

    def silences(op: Op) -> bool:
        held = [use for use in op.params if use.layout is not None]
        return len(held) == 1 and is_zero(held[0].name)

    return _leading_to(dataflow, silences, lambda op: op.role not in (Role.SINK, Role.UNKNOWN))


def _leading_to(dataflow: Dataflow, ends: Callable[[Op], bool], passes: Callable[[Op], bool]) -> frozenset[str]:
    """Names of the operations from which every way on comes to one that ends it, through such as let it pass."""
    found: set[Op] = set()
    for op in reversed(list(dataflow.graph.nodes)):
        after = [each for each in dataflow.graph.successors(op) if each.signal or each.role is Role.SINK]
        if after and all(ends(each) or (passes(each) and each in found) for each in after):
            found.add(op)
    return frozenset(op.name for op in found)


def _passes_scale(op: Op) -> bool:
    return op.role in (Role.TRANSPARENT, Role.SPLIT, Role.WEIGHT) or op.op in _HOMOGENEOUS


def _behind(op: Op) -> Op:
    """Back through operations that only pass the signal on."""
    while op.role is Role.TRANSPARENT:
        carrying = [each for each in op.operands.values() if each.signal]
        if len(carrying) != 1:
            break
        op = carrying[0]
    return op


def _between(start: Op, end: Op, order: dict[Op, int]) -> set[str]:
    """Operations after `start` on the way back from `end`; empty if that does not come to `start`."""
    found: set[str] = set()
    waiting, reached = [end], False
    while waiting:
        op = waiting.pop()
        if op is start:
            reached = True
        elif op.name not in found and order[op] > order[start]:
            found.add(op.name)
            waiting.extend(op.operands.values())
    return found if reached else set()
