"""Which features grow when a model is widened, as far as its own graph tells.

Features are followed from where they are made (by an input, a weight, a table, a parameter) to where weights read
them. What is added or multiplied element by element has the same features. Those of inputs are given by the task, and
so are those that no weight reads (the outputs), and one feature alone: they stay. All other features grow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from math import prod

from networkx.utils import UnionFind

from autoinit.ops import Role, Trait
from autoinit.theory.activations import SOFTMAXES
from autoinit.tracing.dataflow import Dataflow, Op
from autoinit.transfer.facts import ModelFacts, ParameterFacts, input_features, is_depthwise
from autoinit.transfer.growth import matrix
from autoinit.transfer.rules import Growth

Makers = frozenset[Op]
_NOTHING: Makers = frozenset()
_READING = ("input", "query", "key", "value", "input1", "input2", "tensor")
"""Operands of a weight operation that it sums over; of one that has none of these, all that carry a signal."""


def widened(model: ModelFacts, width: float) -> Mapping[str, Growth]:
    """The growth of each parameter of a model that is `width` times as wide as its base."""
    spaces = Spaces(model.dataflow)
    return {name: _grown(facts, model.uses.get(name, ()), spaces, width) for name, facts in model.parameters.items()}


class Spaces:
    """The makers of the features of each operation's output, and which of them grow.

    Attributes:
        makers: by operation; several where tensors were joined.
    """

    def __init__(self, dataflow: Dataflow) -> None:
        self.makers: dict[Op, Makers] = {}
        self._graph = dataflow.graph
        self._same: UnionFind[Op] = UnionFind()
        self._read: set[Op] = set()
        for op in dataflow.graph.nodes:
            self.makers[op] = self._made(op)

    def grows(self, maker: Op) -> bool:
        """Whether the features that an operation makes grow with the model."""
        return self._same[maker] in self._growing

    def read_by(self, op: Op) -> Makers:
        """The makers of what a weight operation reads."""
        read = [each for slot, each in op.operands.items() if slot in _READING]
        read = read or [each for each in op.operands.values() if each.signal]
        return frozenset().union(*(self.makers[each] for each in read))

    @cached_property
    def _growing(self) -> frozenset[Op]:
        read, given = set(), set()
        for maker in list(self._same):
            root = self._same[maker]
            if maker in self._read:
                read.add(root)
            if maker.op == "input" or _features(maker) == 1:
                given.add(root)
        return frozenset(read - given)

    def _made(self, op: Op) -> Makers:
        """What an operation gives, after noting what it reads and what it shows to be the same."""
        if op.role is Role.WEIGHT and op.params:
            self._read |= self.read_by(op)
            if Trait.RECURRENT in op.traits:
                self._read.add(op)
            return self._own(op)
        if op.op in ("input", "parameter") or Trait.LOOKUP in op.traits:
            return self._own(op)
        if op.op in SOFTMAXES or Trait.RANKING in op.traits:
            return _NOTHING  # shares and ranks are no features
        sets = {each: self.makers[each] for each in op.operands.values() if self.makers.get(each)}
        if op.role in (Role.PRODUCT, Role.WEIGHT) and op.acts == "mixing":
            return self._contracted(op)
        if op.acts == "elementwise" and len(sets) > 1:
            return self._joined(op, sets)
        return frozenset().union(*sets.values())

    def _own(self, op: Op) -> Makers:
        self._same[op]
        return frozenset({op})

    def _contracted(self, op: Op) -> Makers:
        """A product that sums over features: all it takes is read. It gives values, of a matrix product the last."""
        taken = [self.makers[each] for each in op.operands.values()]
        self._read |= frozenset().union(*taken)
        if self._is_compared(op):
            return _NOTHING
        if "value" in op.operands:
            return self.makers[op.operands["value"]]
        return next((makers for makers in reversed(taken) if makers), _NOTHING)

    def _is_compared(self, op: Op) -> bool:
        """Whether a product goes on, through nothing but scales and masks, to a softmax: how alike two tensors are."""
        waiting, seen = [op], set()
        while waiting:
            here = waiting.pop()
            for after in self._graph.successors(here):
                if after.op in SOFTMAXES:
                    return True
                if after not in seen and after.role in (Role.TRANSPARENT, Role.ADD) and after.acts != "mixing":
                    seen.add(after)
                    waiting.append(after)
        return False

    def _joined(self, op: Op, sets: Mapping[Op, Makers]) -> Makers:
        """What is added or multiplied element by element: the same features, but for what is spread over them."""
        same = [makers for each, makers in sets.items() if not _is_spread(op, each, makers)]
        if all(len(makers) == 1 for makers in same) and same:
            self._same.union(*(maker for makers in same for maker in makers))
            return same[0]
        return frozenset().union(*same)


def _features(maker: Op) -> int | None:
    """How many features an operation makes; None where it is not known."""
    for use in reversed(maker.params):
        if maker.op == "parameter":
            return prod(use.shape)
        if Trait.LOOKUP in maker.traits:
            return use.shape[-1]
        if use.layout is not None:
            return prod(size for letter, size in zip(use.layout.axes, use.shape, strict=True) if letter == "o")
    return None


def _is_spread(op: Op, operand: Op, makers: Makers) -> bool:
    """Whether an operand is one number for all features: a single feature, or an input of another shape (a mask)."""
    if any(_features(maker) == 1 for maker in makers):
        return True
    if all(maker.op == "input" for maker in makers):
        return operand.shape != op.shape if None not in (op.shape, operand.shape) else op.role is not Role.ADD
    return False


def _grown(facts: ParameterFacts, uses: Iterable[Op], spaces: Spaces, width: float) -> Growth:
    """The growth of one parameter: of what it reads and of what it makes, by the first operation that uses it."""
    if facts.tied:
        uses = [op for op in uses if Trait.LOOKUP in op.traits or op.role is not Role.WEIGHT]
    op = next(iter(uses), None)
    if op is None:
        return Growth()
    slot = next((use.slot for use in op.params if use.name == facts.name), "")
    made = spaces.makers[op] if op.role is not Role.WEIGHT else frozenset({op})
    features = width if _is_inside(slot, _INNER_OUTPUTS) else _growth(facts.features, made, spaces, width)
    if facts.before_tied:
        return Growth(fan_in=features)
    if facts.layer is None or facts.tied:
        return Growth(features=features)
    read = frozenset({op}) if _is_inside(slot, _INNER_INPUTS) else spaces.read_by(op)
    fan_in = 1.0 if is_depthwise(facts.layer) else _growth(input_features(facts.layer), read, spaces, width)
    if _is_inside(slot, _INNER_INPUTS):
        fan_in = width
    rows, columns = matrix(facts)
    return Growth(fan_in, features, rows=rows, columns=columns)


def _growth(count: int, makers: Makers, spaces: Spaces, width: float) -> float:
    """By how much so many features have grown, of which some makers' did and other makers' did not."""
    growing = [maker for maker in makers if spaces.grows(maker)]
    if not growing or count == 1:
        return 1.0
    known = [_features(maker) for maker in growing]
    if len(growing) == len(makers) or None in known:
        return width
    grown = min(count, sum(each for each in known if each is not None))
    return count / (count - grown + grown / width)


_INNER_OUTPUTS = ("in_proj", "q_proj", "k_proj", "v_proj")
"""Slots whose output stays inside their operation."""
_INNER_INPUTS = ("out_proj", "weight_hh", "weight_hr")
"""Slots that read what their operation made."""


def _is_inside(slot: str, slots: tuple[str, ...]) -> bool:
    """Whether a slot is one of these, or (of a recurrence) reads the layer below in the same operation."""
    layer = re.match(r"weight_ih_l(\d+)", slot)
    return slot.startswith(slots) or (slots is _INNER_INPUTS and layer is not None and int(layer[1]) > 0)
