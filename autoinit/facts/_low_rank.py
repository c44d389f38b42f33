"""Which weights are the two factors of a low-rank addition to another weight: W x + B A x (Hu et al. 2022, eq. 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from autoinit.facts.parameter import LowRank
from autoinit.ops import Role
from autoinit.theory.layouts import size
from autoinit.tracing.dataflow import Dataflow, Op


def low_rank_factors(dataflow: Dataflow) -> Mapping[Op, LowRank]:
    """The weight operations that are a factor: `down` the first, A, which gives few features; `up` the second, B.

    What A gives goes to B alone, both have more features on their other sides, and what B gives is added to what
    another weight makes of A's own input. Casts, dropout and numbers on the way do not matter.
    """
    found: dict[Op, LowRank] = {}
    for up in dataflow.graph.nodes:
        down = _down(dataflow, up)
        if down is not None and any(_reads(beside, _source(down)) for beside in _added_to(dataflow, up)):
            found[down], found[up] = "down", "up"
    return found


def _down(dataflow: Dataflow, up: Op) -> Op | None:
    """The weight operation that alone comes before this one, and narrows what it takes."""
    before = _source(up)
    if before is None or before.role is not Role.WEIGHT or not _widens(up, before):
        return None
    here = before
    while here is not up:
        after = list(dataflow.graph.successors(here))
        if len(after) != 1:
            return None
        (here,) = after
    return before


def _widens(up: Op, down: Op) -> bool:
    """Whether the features between two weight operations are fewer than those on both outer sides."""
    inputs, rank = _sides(down)
    inner, outputs = _sides(up)
    return 0 < rank == inner < min(inputs, outputs)


def _sides(op: Op) -> tuple[int, int]:
    """Input and output features of a weight operation of one weight; zeros otherwise."""
    layouts = [(use.layout, use.shape) for use in op.params if use.layout is not None]
    if len(layouts) != 1:
        return 0, 0
    ((layout, shape),) = layouts
    return size(layout.axes, shape, "i"), size(layout.axes, shape, "o")


def _source(op: Op) -> Op | None:
    """What a weight operation takes, before casts, dropout and numbers."""
    carrying = [each for each in op.operands.values() if each.signal]
    while len(carrying) == 1 and carrying[0].role is Role.TRANSPARENT:
        carrying = [each for each in carrying[0].operands.values() if each.signal]
    return carrying[0] if len(carrying) == 1 else None


def _added_to(dataflow: Dataflow, up: Op) -> Iterator[Op]:
    """The weight operations to whose results that of another is added, other such additions between them or not."""
    here = up
    while True:
        after = list(dataflow.graph.successors(here))
        if len(after) != 1 or after[0].role not in (Role.TRANSPARENT, Role.ADD):
            return
        (here,) = after
        if here.role is Role.ADD:
            yield from _terms(here)


def _terms(add: Op) -> Iterator[Op]:
    """The weight operations that a sum's terms come from."""
    waiting = list(add.operands.values())
    for op in waiting:
        if op.role is Role.WEIGHT:
            yield op
        elif op.role in (Role.TRANSPARENT, Role.ADD):
            waiting += (each for each in op.operands.values() if each not in waiting)


def _reads(op: Op, source: Op | None) -> bool:
    return source is not None and _source(op) is source
