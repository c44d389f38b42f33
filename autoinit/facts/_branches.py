"""Which operations lie on which branch of a residual stream, and which of them end it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from autoinit.ops import Role
from autoinit.resolving.residual import Stream, streams
from autoinit.tracing.dataflow import Dataflow, Op


@dataclass(frozen=True)
class PlaceOnBranch:
    """A place on a branch.

    Attributes:
        number: of the branch in its stream, from 1.
        count: branches in the stream.
        ends: whether no weight (for a norm: neither a weight nor another norm) comes behind it on the branch.
        last: whether nothing with parameters comes behind it.
    """

    number: int
    count: int
    ends: bool = False
    last: bool = False


def branch_places(dataflow: Dataflow) -> Mapping[Op, PlaceOnBranch]:
    """The place of each operation that lies on a branch; of several streams, in the one with the most branches."""
    places: dict[Op, PlaceOnBranch] = {}
    for stream in sorted(streams(dataflow), key=lambda each: len(each.sums)):
        places.update(_places(stream))
    return places


def _places(stream: Stream) -> dict[Op, PlaceOnBranch]:
    places: dict[Op, PlaceOnBranch] = {}
    behind: set[Op] = set()
    count = len(stream.sums)
    for number, (add, branches) in enumerate(zip(stream.sums, stream.branches, strict=True), 1):
        behind |= _before((each for each in add.operands.values() if each not in branches), behind)
        before = _before(branches, behind)
        inside = _inside(before, behind, branches)
        places.update(dict.fromkeys(inside, PlaceOnBranch(number, count)))
        places |= {op: PlaceOnBranch(number, count, True, last) for op, last in _ending(branches, inside).items()}
        behind |= before | {add}
    return places


def _before(starts: Iterable[Op], stop: Collection[Op]) -> set[Op]:
    """The operations and all that comes before them, but for what is in `stop`."""
    found: set[Op] = set()
    waiting = list(starts)
    while waiting:
        op = waiting.pop()
        if op not in found and op not in stop:
            found.add(op)
            waiting += op.operands.values()
    return found


def _inside(before: set[Op], behind: set[Op], branches: Iterable[Op]) -> set[Op]:
    """What lies on a branch: what comes from the stream, and what joins it from elsewhere as far as its last weight.

    So the weights that read an encoder's output for a decoder's attention are inside, the encoder is not.
    """
    in_line: dict[Op, bool] = {}

    def from_stream(op: Op) -> bool:
        waiting = [op]
        while waiting:
            here = waiting[-1]
            later = [each for each in here.operands.values() if each in before and each not in in_line]
            if later:
                waiting += later
                continue
            waiting.pop()
            in_line[here] = any(
                (each in behind and each.made) or in_line.get(each, False) for each in here.operands.values()
            )
        return in_line[op]

    inside: set[Op] = set()
    waiting = list(branches)
    while waiting:
        op = waiting.pop()
        if op in before and op not in inside:
            inside.add(op)
            if from_stream(op) or op.role is not Role.WEIGHT:
                waiting += op.operands.values()
    return inside


def _ending(branches: Iterable[Op], inside: set[Op]) -> dict[Op, bool]:
    """The last weights and norms of a branch, and the parameters behind them, and whether each is the very last."""
    found: dict[Op, bool] = {}
    waiting = [(op, False, True) for op in branches]
    while waiting:
        op, behind_norm, last = waiting.pop()
        if op not in inside:
            continue
        if op.role is Role.WEIGHT or op.op == "parameter" or (op.role is Role.NORM and not behind_norm):
            found[op] = last or found.get(op, False)
        if op.role in (Role.TRANSPARENT, Role.SPLIT, Role.NORM, Role.PRODUCT):
            acting = bool(op.params) or any(each.op == "parameter" for each in op.operands.values())
            behind_norm = behind_norm or op.role is Role.NORM
            very_last = {each: last and (each.op == "parameter" or not acting) for each in op.operands.values()}
            waiting += ((each, behind_norm, is_last) for each, is_last in very_last.items())
    return found
