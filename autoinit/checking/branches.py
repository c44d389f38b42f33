"""Branches: operations that a skip connection carries the signal past."""

from __future__ import annotations

from autoinit.ops import Role
from autoinit.tracing.dataflow import Dataflow, Op


def inside_branches(dataflow: Dataflow) -> frozenset[str]:
    """Names of the operations that lie on a branch beside a skip connection.

    At a sum, the operand that was computed first is the skip if the other one starts from it: everything computed in
    between on the way to the other operand is the branch.
    """
    order = {op: number for number, op in enumerate(dataflow.graph.nodes)}
    found: set[str] = set()
    for op in dataflow.graph.nodes:
        operands = sorted({each for each in op.operands.values() if each.signal}, key=order.__getitem__)
        if op.role is Role.ADD and len(operands) > 1:
            for start in {operands[0], _behind(operands[0])}:
                for end in operands[1:]:
                    found |= _between(start, end, order)
    return frozenset(found)


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
