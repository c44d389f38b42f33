"""Gates of recurrent layers that are written out, found by what makes the next state.

LSTM (Hochreiter & Schmidhuber 1997; Gers et al. 2000): c' = sigmoid(f) c + sigmoid(i) tanh(g) and
h' = sigmoid(o) tanh(c').
GRU (Cho et al. 2014): h' = (1 - z) n + z h, n = tanh(a + r b), also as n + z (h - n).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from autoinit.ops import Role
from autoinit.resolving._labelling import NO_RESULT, rearranged
from autoinit.resolving._labels import filled, numbered, rows, runs
from autoinit.resolving._starting import features, likely_shapes
from autoinit.tracing.dataflow import Dataflow, Op, ParamUse

Rows = tuple[tuple[int, int], ...]
_INPUTS = ("input", "other")


@dataclass(frozen=True)
class WrittenGates:
    """The gates that a weight operation makes.

    Attributes:
        cell: the first sum that makes the state: a name for all the weights of one layer.
        names: what the gate is called that some rows make.
    """

    cell: str
    names: Mapping[Rows, str]


def written_gates(dataflow: Dataflow) -> Mapping[Op, WrittenGates]:
    """The weight operations that make gates of a state; of one that is made in a loop, those of the first steps."""
    found: dict[Op, dict[Rows, str]] = {}
    cells: dict[Op, str] = {}
    known: dict[str, str] = {}
    seen: dict[Op, set[str]] = {}
    for op in dataflow.graph.nodes:
        for state, gates in _cells(dataflow, op):
            ways = {gate: _way_back(gate) for gate in gates}
            names = {
                use.name for way in ways.values() for each in way if each.role is Role.WEIGHT for use in each.params
            }
            seen[op] = names
            if (state.made and not names & seen.get(state, set())) or names <= known.keys():
                continue
            cell = next((known[each] for each in sorted(names & known.keys())), op.name)
            known.update(dict.fromkeys(names, cell))
            for gate, name in gates.items():
                for source in ways[gate]:
                    for part in _rows_in(gate, source, ways[gate]) if source.role is Role.WEIGHT else ():
                        found.setdefault(source, {}).setdefault(part, name)
                        cells[source] = cell
    return {op: WrittenGates(cells[op], names) for op, names in found.items()}


def _cells(dataflow: Dataflow, op: Op) -> Iterator[tuple[Op, dict[Op, str]]]:
    """Where a sum has the form of a cell's next state: the state before, and its gates with their names.

    A highway has a GRU's form; what it keeps other weights have made.
    """
    terms = _terms(op)
    for one, other in (terms, terms[::-1]) if len(terms) == 2 else ():
        for new, gate in _gated(one):
            for state, keep in _gated(other):
                if _bent(new) and keep is not gate:
                    outputs = dict.fromkeys(_outputs(dataflow, op), "output")
                    yield _plain(state), {**outputs, gate: "input", keep: "forget", new: "cell"}
        for update, state in _updates(one, other):
            for new in [each for each in (*_factors(one), one, *_factors(other)) if _bent(each)][:1]:
                resets = (gate for each in _multiplied(new) for _, gate in _gated(each))
                yield _plain(state), {**dict.fromkeys(resets, "reset"), update: "update", new: "new"}


def _terms(op: Op) -> tuple[Op, ...]:
    """The two signals that an operation adds."""
    adds = op.role is Role.ADD and op.op == "add"
    return tuple(_plain(each) for each in op.operands.values() if each.signal) if adds else ()


def _factors(op: Op) -> tuple[Op, ...]:
    """The two things that an operation multiplies, one by one."""
    return tuple(op.operands[slot] for slot in _INPUTS) if op.op == "mul" and len(op.operands) == 2 else ()


def _gated(op: Op) -> Iterator[tuple[Op, Op]]:
    """A factor of a product, and the other, which is a sigmoid."""
    factors = _factors(op)
    for value, gate in zip(factors, factors[::-1], strict=True):
        if _is_sigmoid(gate):
            yield value, gate


def _updates(one: Op, other: Op) -> Iterator[tuple[Op, Op]]:
    """The gate z of z a + (1 - z) b, or of b + z (a - b), and a or b: whichever is no new state."""
    for value, gate in _gated(one):
        for part, rest in zip(_factors(other), _factors(other)[::-1], strict=True):
            if _complements(part, gate):
                yield gate, rest if _bent(value) else value
    for difference, gate in _gated(other):
        parts = [each for each in difference.operands.values() if _plain(each) is not one]
        if difference.op == "sub" and len(parts) == 1:
            yield gate, parts[0]


def _multiplied(new: Op) -> Iterator[Op]:
    """Where a new state is made: what it is made of, and what its weights take."""
    for op in _way_back(new):
        yield op
        for taken in map(_plain, op.operands.values()) if op.role is Role.WEIGHT else ():
            yield from (taken, *map(_plain, taken.operands.values())) if taken.op == "cat" else (taken,)


def _complements(op: Op, gate: Op) -> bool:
    """Whether an operation gives 1 - gate."""
    return op.op in ("sub", "rsub") and gate in op.operands.values() and 1 in op.constants.values()


def _outputs(dataflow: Dataflow, state: Op) -> Iterator[Op]:
    """The sigmoids that multiply the bent state."""
    for bent in dataflow.graph.successors(state):
        if bent.role is Role.NONLINEARITY:
            for product in dataflow.graph.successors(bent):
                yield from (gate for value, gate in _gated(product) if value is bent)


def _plain(op: Op) -> Op:
    """What comes before what only moves elements, or casts them."""
    while op.role in (Role.TRANSPARENT, Role.SPLIT) and op.acts == "rearranging":
        signals = [each for each in op.operands.values() if each.signal]
        if len(signals) != 1:
            break
        (op,) = signals
    return op


def _is_sigmoid(op: Op) -> bool:
    return _plain(op).op in ("sigmoid", "hardsigmoid")


def _bent(op: Op) -> bool:
    """Whether it is a candidate for a state: a nonlinearity other than a gate's, of what weights make."""
    return _plain(op).role is Role.NONLINEARITY and not _is_sigmoid(op)


def _way_back(gate: Op) -> list[Op]:
    """What makes a gate, back to its weights, in order: sums, norms, splits, and one nonlinearity."""
    found: list[Op] = []
    waiting = [(gate, True)]
    while waiting:
        op, may_bend = waiting.pop()
        if op in found or not op.signal:
            continue
        bends = op.role is Role.NONLINEARITY
        passed = op.role in (Role.TRANSPARENT, Role.SPLIT, Role.ADD, Role.NORM) or (bends and may_bend)
        resets = [value for value, _ in _gated(op)]
        if op.role is Role.WEIGHT or passed or resets:
            found.append(op)
        if passed or resets:
            waiting += ((each, may_bend and not bends) for each in resets or op.operands.values())
    return found


def _rows_in(gate: Op, source: Op, way: Sequence[Op]) -> Iterator[Rows]:
    """The rows of a weight that are in a gate: features are numbered, and followed on the way."""
    for use in source.params:
        if use.layout is not None and (labels := _numbers(source, use)) is not None:
            try:
                numbers = rows(_followed(gate, {source: labels}, {*way}))
            except NO_RESULT:
                continue
            if numbers.size:
                yield runs(numbers)


def _numbers(source: Op, use: ParamUse) -> torch.Tensor | None:
    found = features(source, use)
    if found is None or not found[0]:
        return None
    axes, sizes = found
    shape = filled(source.shape) if source.shape else next(iter(likely_shapes(axes, sizes)), None)
    return numbered(shape, axes, sizes) if shape is not None else None


def _followed(op: Op, values: dict[Op, torch.Tensor | None], way: set[Op]) -> torch.Tensor | None:
    """The numbers that an operation gives; None where none come to it."""
    if op not in values:
        given = {each: _followed(each, values, way) for each in op.operands.values()} if op in way else {}
        numbered_ones = {each: value for each, value in given.items() if value is not None}
        first = next(iter(numbered_ones.values()), None)
        moves = op.acts == "rearranging" and first is not None
        values[op] = rearranged(op, numbered_ones) if moves else first
    return values[op]
