"""Which operations lie on which branch of a residual stream, and which of them end it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from autoinit.ops import Role
from autoinit.resolving.residual import Stream, streams
from autoinit.theory.layouts import size
from autoinit.tracing.dataflow import Dataflow, Op


@dataclass(frozen=True)
class PlaceOnBranch:
    """A place on a branch.

    Attributes:
        number: of the branch in its stream, from 1.
        count: branches in the stream.
        weights: weight operations on the branch.
        attends: whether two signals are multiplied as matrices on it.
        width: features of the stream; 0 where they are not known.
        ends: whether no weight (for a norm: neither a weight nor another norm) comes behind it on the branch.
        last: whether nothing with parameters comes behind it.
    """

    number: int
    count: int
    weights: int = 0
    attends: bool = False
    width: int = 0
    ends: bool = False
    last: bool = False


def branch_places(dataflow: Dataflow) -> Mapping[Op, PlaceOnBranch]:
    """The place of each operation that lies on a branch; of several streams, in the one with the most branches.

    A sum to which no weight leads from the stream (of a time step and a label, of a shift and a scaled norm) adds none.
    """
    places: dict[Op, PlaceOnBranch] = {}
    for stream in sorted(streams(dataflow, gated=True), key=lambda each: len(each.branches)):
        places.update(_places(stream))
    return places


def _places(stream: Stream) -> dict[Op, PlaceOnBranch]:
    found: list[tuple[set[Op], dict[Op, bool]]] = []
    behind: set[Op] = set()
    on_stream: set[Op] = set()
    for branch in stream.branches:
        beside = _before(branch.beside, behind)
        on_stream |= {*branch.beside, *(op for op in beside if op.made)}
        behind |= beside
        before = _before([branch.end], behind)
        in_line = _in_line(before, on_stream, branch.end)
        if any(op.role is Role.WEIGHT for op in in_line):
            inside = _inside(branch.end, before, in_line)
            ends = _ending(branch.end, inside, branch.inside).items()
            found.append((inside, {op: last for op, last in ends if op in in_line or op.op == "parameter"}))
        behind |= before | {branch.sum}
        on_stream |= in_line | {branch.sum}
    places: dict[Op, PlaceOnBranch] = {}
    for number, (inside, ending) in enumerate(found, 1):
        weights = sum(op.role is Role.WEIGHT for op in inside)
        place = PlaceOnBranch(number, len(found), weights, any(map(_attends, inside)), _width(stream))
        places.update(dict.fromkeys(inside, place))
        places |= {op: replace(place, ends=True, last=last) for op, last in ending.items()}
    return places


def _attends(op: Op) -> bool:
    return op.op == "multi_head_attention" or (op.role is Role.PRODUCT and op.acts != "elementwise")


def _width(stream: Stream) -> int:
    """The features of the stream: the output features of the first weight that ends a branch."""
    for use in (use for branch in stream.branches for op in branch.weights for use in op.params):
        if use.layout is not None:
            return size(use.layout.axes, use.shape, "o")
    return 0


def _before(starts: Iterable[Op], stop: set[Op]) -> set[Op]:
    """The operations and all that comes before them, but for what is in `stop`."""
    found: set[Op] = set()
    waiting = list(starts)
    while waiting:
        op = waiting.pop()
        if op not in found and op not in stop:
            found.add(op)
            waiting += op.operands.values()
    return found


def _in_line(before: set[Op], stream: set[Op], end: Op) -> set[Op]:
    """Of what comes before a branch's end, what the stream comes to."""
    from_stream: dict[Op, bool] = {}
    waiting = [end]
    while waiting:
        op = waiting[-1]
        later = [each for each in op.operands.values() if each in before and each not in from_stream]
        if later:
            waiting += later
        else:
            waiting.pop()
            from_stream[op] = any(each in stream or from_stream.get(each, False) for each in op.operands.values())
    return {op for op, comes in from_stream.items() if comes}


def _inside(end: Op, before: set[Op], in_line: set[Op]) -> set[Op]:
    """What lies on a branch: what comes from the stream, and what joins it from elsewhere as far as its last weight.

    So the weights that read an encoder's output for a decoder's attention are inside, the encoder is not.
    """
    inside: set[Op] = set()
    waiting = [end]
    while waiting:
        op = waiting.pop()
        if op in before and op not in inside:
            inside.add(op)
            reads = op.operands.values()
            waiting += (each for each in reads if op.role is not Role.WEIGHT or each in in_line or not each.signal)
    return inside


def _ending(end: Op, inside: set[Op], sums: Collection[Op]) -> dict[Op, bool]:
    """The last weights and norms of a branch, and the parameters behind them, and whether each is the very last.

    sums: that lie on the branch.
    """
    found: dict[Op, bool] = {}
    waiting = [(end, False, True)]
    while waiting:
        op, behind_norm, last = waiting.pop()
        if op not in inside:
            continue
        if op.role is Role.WEIGHT or op.op == "parameter" or (op.role is Role.NORM and not behind_norm):
            found[op] = last or found.get(op, False)
        passed = op.role in (Role.TRANSPARENT, Role.SPLIT, Role.NORM) or op in sums
        if passed or (op.role is Role.PRODUCT and op.acts == "elementwise"):
            acting = bool(op.params) or any(each.op == "parameter" for each in op.operands.values())
            behind_norm = behind_norm or op.role is Role.NORM
            very_last = {each: last and (each.op == "parameter" or not acting) for each in op.operands.values()}
            waiting += ((each, behind_norm, is_last) for each, is_last in very_last.items())
    return found
