"""Zero weights that no gradient can leave.

A zero weight leaves zero in the first step if what it is multiplied with is not zero and a gradient reaches its output.
Once it has left, signals and gradients pass it, so that others may leave after it. What is still stuck when nothing
more can leave stays zero for ever.

Forward, a value is known to be zero when that follows from zero parameters: W 0 = 0, 0 x = 0, phi(0) = 0. Backward, a
gradient passes an operation unless its derivative there is zero: a zero weight, a zero factor, a rectifier at zero
(torch takes relu'(0) as 0). Whatever is not known to block, passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from autoinit.ops import Role, Trait
from autoinit.tensors.surroundings import tensors_on_cpu
from autoinit.tracing.dataflow import Dataflow, Op
from autoinit.tracing.rerunning import execute

_FEATURES_APART = Trait.NEUTRAL | Trait.WINDOWED | Trait.JOINING
_ATTENTION = "scaled_dot_product_attention"
_SHIFTS = frozenset({"add", "sub", "rsub", "pad", "masked_fill", "where", "clamp"})
_SHIFTING = ("other", "value", "min", "max")
"""Constant arguments that are added to a signal, or put in its place."""


@dataclass(frozen=True)
class Stuck:
    """A zero parameter that stays zero. starved: what it is multiplied with is zero. cut_off: no gradient comes."""

    param: str
    op: Op
    starved: bool
    cut_off: bool


def stuck_zeros(dataflow: Dataflow, is_zero: Callable[[str], bool]) -> tuple[Stuck, ...]:
    """The zero parameters that no gradient can leave, in order of the dataflow.

    Args:
        dataflow: of the model.
        is_zero: whether a parameter, by name, is zero everywhere.
    """
    zeros = _Zeros(dataflow, is_zero)
    while zeros.params:
        values = zeros.values()
        reached = zeros.reached(values)
        stuck: dict[str, Stuck] = {}
        free: set[str] = set()
        for name, op, starved in zeros.uses(values):
            if starved or op not in reached:
                stuck.setdefault(name, Stuck(name, op, starved, op not in reached))
            else:
                free.add(name)
        if not free:
            return tuple(stuck.values())
        zeros.params -= free
    return ()


def silent_tables(dataflow: Dataflow, is_zero: Callable[[str], bool]) -> tuple[tuple[str, Op], ...]:
    """Embedding tables that are zero and the only signal that something behind them gets, with what that is."""
    zeros = _Zeros(dataflow, is_zero)
    values = zeros.values()
    found: dict[str, Op] = {}
    for op in dataflow.graph.nodes:
        if Trait.LOOKUP in op.traits and op in values and op.signal:
            hungry = next((each for each in _first_uses(dataflow, op) if _starves(each, values)), None)
            if hungry is not None:
                found.update(dict.fromkeys(zeros.held(op), hungry))
    return tuple(found.items())


def _first_uses(dataflow: Dataflow, start: Op) -> Iterator[Op]:
    waiting, seen = [start], set()
    while waiting:
        for op in dataflow.graph.successors(waiting.pop()):
            if op in seen:
                continue
            seen.add(op)
            if op.role in (Role.TRANSPARENT, Role.SPLIT, Role.ADD):
                waiting.append(op)
            else:
                yield op


def _starves(op: Op, values: set[Op]) -> bool:
    return op.role in (Role.WEIGHT, Role.NORM) and any(each in values for each in op.operands.values() if each.signal)


class _Zeros:
    """A dataflow, and the parameters that are still zero."""

    def __init__(self, dataflow: Dataflow, is_zero: Callable[[str], bool]) -> None:
        self.graph = dataflow.graph
        self.ops = list(dataflow.graph.nodes)
        self.params = {name for op in self.ops for name in (use.name for use in op.params) if is_zero(name)}
        self._at_zero: dict[Op, tuple[bool, bool]] = {}

    def held(self, op: Op) -> Iterator[str]:
        """Zero parameters that an operation uses as a factor: not its biases."""
        for use in op.params:
            if use.name in self.params and op.op != "parameter" and (use.layout is not None or use.slot == "weight"):
                yield use.name
        for slot, operand in op.operands.items():
            factor = op.op == "mul" or slot == "weight"
            for use in operand.params if factor and operand.op == "parameter" else ():
                if use.name in self.params:
                    yield use.name

    def uses(self, values: set[Op]) -> Iterator[tuple[str, Op, bool]]:
        """(parameter, operation, whether what it is multiplied with is zero) of every zero factor."""
        for op in self.ops:
            for name in self.held(op):
                yield name, op, any(each in values for each in _data(op))

    def values(self) -> set[Op]:
        """Operations whose value is zero."""
        zero: set[Op] = set()
        for op in self.ops:
            if self._vanishes(op, zero):
                zero.add(op)
        return zero

    def reached(self, values: set[Op]) -> set[Op]:
        """Operations whose output a gradient reaches."""
        found: set[Op] = set()
        for op in reversed(self.ops):
            if op.ends:
                found.add(op)
            if op in found:
                found.update(each for each in self.graph.predecessors(op) if self._passes(op, each, values))
        return found

    def _vanishes(self, op: Op, zero: set[Op]) -> bool:
        operands = list(op.operands.values())
        if op.op == "parameter":
            return bool(op.params) and all(use.name in self.params for use in op.params)
        if op.role in (Role.WEIGHT, Role.NORM) or Trait.LOOKUP in op.traits:
            return not self._biased(op, zero) and (self._blank(op) or any(each in zero for each in _factors(op)))
        if op.op == _ATTENTION:
            return op.operands.get("value") in zero
        if op.role is Role.PRODUCT or op.op == "mul":
            return any(each in zero for each in operands)
        if not operands or not all(each in zero for each in _valued(op)):
            return False
        if op.role is Role.NONLINEARITY:
            return self._zero_and_slope(op)[0]
        shifted = op.op in _SHIFTS and any(
            isinstance(op.constants.get(name), int | float) and op.constants[name] for name in _SHIFTING
        )
        return op.role in (Role.ADD, Role.TRANSPARENT, Role.SPLIT) and not shifted

    def _passes(self, op: Op, operand: Op, zero: set[Op]) -> bool:
        """Whether the derivative of an operation by an operand can differ from zero."""
        others = [each for each in op.operands.values() if each is not operand]
        if op.op == _ATTENTION:
            return op.operands.get("value") is operand or not any(each in zero for each in others)
        if op.role is Role.PRODUCT or op.op == "mul":
            return not any(each in zero for each in others)
        if op.role in (Role.WEIGHT, Role.NORM):
            return not self._blank(op)
        if op.role is Role.NONLINEARITY and operand in zero:
            return self._zero_and_slope(op)[1]
        if op.op == "cast":
            return next(iter(op.operands.values())) is operand
        return op.op != "cat" or operand not in zero or op in zero or self._piece_passes(op, zero, set())

    def _piece_passes(self, op: Op, zero: set[Op], seen: set[Op]) -> bool:
        """Whether a gradient passes the zero part of a concatenation: zero until features mix or are shifted."""
        for after in self.graph.successors(op):
            if after in seen:
                continue
            seen.add(after)
            if after.role is Role.NONLINEARITY:
                passes = self._zero_and_slope(after)[1]
            elif after.traits & _FEATURES_APART or (
                Trait.CHANNELWISE in after.traits and not self._biased(after, zero)
            ):
                passes = self._piece_passes(after, zero, seen)
            else:
                passes = True
            if passes:
                return True
        return False

    def _blank(self, op: Op) -> bool:
        """Whether the weights are zero. Of an operation with several (attention, LSTM) that is left open."""
        held = [use for use in op.params if use.layout is not None or use.slot == "weight"]
        held += [use for slot, each in op.operands.items() if slot == "weight" for use in each.params]
        return len(held) == 1 and held[0].name in self.params

    def _biased(self, op: Op, zero: set[Op]) -> bool:
        """Whether something that is not zero is added."""
        used = any(use.layout is None and use.slot != "weight" and use.name not in self.params for use in op.params)
        return used or ("bias" in op.operands and op.operands["bias"] not in zero)

    def _zero_and_slope(self, op: Op) -> tuple[bool, bool]:
        if op not in self._at_zero:
            self._at_zero[op] = _at_zero(op)
        return self._at_zero[op]


def _data(op: Op) -> list[Op]:
    """Operands that an operation multiplies its parameter with."""
    return [each for slot, each in op.operands.items() if each.op != "parameter" and slot != "bias"]


def _valued(op: Op) -> list[Op]:
    """Operands whose values go into the result: of casts and views the first; the others tell dtypes and sizes."""
    operands = list(op.operands.values())
    alone = op.op == "cast" or (op.acts == "rearranging" and Trait.JOINING not in op.traits)
    return operands[:1] if alone else operands


def _factors(op: Op) -> list[Op]:
    """Operands any of which makes the result zero, if no bias is added."""
    data = _data(op)
    return data if op.role is Role.WEIGHT else data[:1]


def _at_zero(op: Op) -> tuple[bool, bool]:
    """(phi(0) == 0, phi'(0) != 0) of a nonlinearity; (False, True), which blocks nothing, for one of several values."""
    if op.call is None or op.acts != "elementwise" or len(op.operands) != 1:
        return False, True
    with tensors_on_cpu(), torch.enable_grad():
        point = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        value = execute(op, dict.fromkeys(op.operands.values(), point * 1))
        (slope,) = torch.autograd.grad(value.sum(), point)
    return bool((value == 0).all()), bool((slope != 0).all())
