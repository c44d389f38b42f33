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

import networkx as nx
import torch

from autoinit.ops import Role, Trait
from autoinit.tensors.process_state import tensors_on_cpu
from autoinit.tracing.dataflow import Dataflow, Op, ParamUse
from autoinit.tracing.rerunning import execute

_FEATURES_APART = Trait.NEUTRAL | Trait.WINDOWED | Trait.JOINING
_ATTENTION = "scaled_dot_product_attention"
_ZERO = frozenset({"zeros", "zeros_like", "new_zeros"})
"""Functions that make constants of zeros."""
_ADDED = frozenset({"bias"})
"""Operands of a product that are added to it."""
_REPLACING = frozenset({"pad", "masked_fill", "where", "clamp"})
_SHIFTING = ("other", "value", "min", "max")
"""Constant arguments that are added to a signal, or put in its place."""


@dataclass(frozen=True)
class Stuck:
    """A zero parameter that stays zero.

    Attributes:
        param: its name.
        op: the operation in which it is a factor.
        starved: whether what it is multiplied with is zero.
        cut_off: whether no gradient reaches the product.
        group: the first of the parameters that keep each other at zero, it among them.
    """

    param: str
    op: Op
    starved: bool
    cut_off: bool
    group: str


def stuck_zeros(dataflow: Dataflow, is_zero: Callable[[str], bool]) -> tuple[Stuck, ...]:
    """The zero parameters that no gradient can leave, in order of the dataflow: factors, and not what is added.

    Args:
        dataflow: of the model.
        is_zero: whether a parameter, by name, is zero everywhere.
    """
    zeros = _Zeros(dataflow, is_zero)
    while zeros.params:
        vanishing = zeros.vanishing()
        reached = zeros.reached(vanishing)
        free = zeros.free(vanishing, reached)
        if not free:
            return tuple(zeros.stuck(vanishing, reached))
        zeros.params -= free
    return ()


def zero_values(dataflow: Dataflow, is_zero: Callable[[str], bool]) -> set[Op]:
    """The operations whose value is zero, since zero parameters make it."""
    return _Zeros(dataflow, is_zero).vanishing()


def starving(dataflow: Dataflow, vanishing: set[Op]) -> frozenset[str]:
    """Names of the weight operations and norms that get nothing but zeros, since a zero weight feeds them."""
    return frozenset(op.name for op in dataflow.graph.nodes if _starves(op, vanishing))


def silent_tables(dataflow: Dataflow, is_zero: Callable[[str], bool]) -> tuple[tuple[str, Op], ...]:
    """Embedding tables that are zero and the only signal that something behind them gets, with what that is."""
    zeros = _Zeros(dataflow, is_zero)
    vanishing = zeros.vanishing()
    found: dict[str, Op] = {}
    for op in dataflow.graph.nodes:
        if Trait.LOOKUP in op.traits and op in vanishing and op.signal:
            hungry = next((each for each in _first_uses(dataflow, op) if _starves(each, vanishing)), None)
            if hungry is not None:
                found.update(dict.fromkeys(zeros.tables(op), hungry))
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


def _starves(op: Op, vanishing: set[Op]) -> bool:
    return op.role in (Role.WEIGHT, Role.NORM) and any(
        each in vanishing for each in op.operands.values() if each.signal
    )


class _Zeros:
    """A dataflow, and the parameters that are still zero."""

    def __init__(self, dataflow: Dataflow, is_zero: Callable[[str], bool]) -> None:
        self.graph = dataflow.graph
        self.ops = list(dataflow.graph.nodes)
        self.params = {name for op in self.ops for name in (use.name for use in op.params) if is_zero(name)}
        self._at_zero: dict[Op, tuple[bool, bool]] = {}

    def tables(self, op: Op) -> Iterator[str]:
        """Zero parameters that are the table of a look-up."""
        for slot, operand in op.operands.items():
            yield from (use.name for use in operand.params if slot == "weight" and use.name in self.params)
        yield from (use.name for use in op.params if use.slot == "weight" and use.name in self.params)

    def free(self, vanishing: set[Op], reached: set[Op]) -> set[str]:
        """The parameters that a gradient reaches; biases are left out, of which some elements may move alone."""
        found = set()
        for op in self.ops:
            for use in self._held(op):
                starved = any(each in vanishing for each in _factors(op))
                factor = op.op == "parameter" or (_is_factor(op, use.slot) and not starved)
                if op in reached and factor and not self._only_added(op):
                    found.add(use.name)
        return found

    def stuck(self, vanishing: set[Op], reached: set[Op]) -> Iterator[Stuck]:
        """The parameters that are factors, each at the first operation in which it is one."""
        groups = self._groups(vanishing)
        found: set[str] = set()
        for op in self.ops:
            for use in self._held(op):
                for at, slot in self._products(op, use.slot):
                    if use.name not in found:
                        found.add(use.name)
                        others = [each for each in _factors(at) if each is not at.operands.get(slot)]
                        starved = any(each in vanishing for each in others)
                        yield Stuck(use.name, at, starved, at not in reached, groups[op])

    def _held(self, op: Op) -> Iterator[ParamUse]:
        """The zero parameters that enter an operation by no operand."""
        return (use for use in op.params if use.name in self.params and use.slot not in op.operands)

    def _products(self, op: Op, slot: str) -> Iterator[tuple[Op, str]]:
        """The operations in which what enters at a slot is a factor, and as which operand it comes there."""
        if op.op != "parameter":
            if _is_factor(op, slot):
                yield op, slot
            return
        waiting, seen = [op], {op}
        while waiting:
            before = waiting.pop(0)
            for after in self.graph.successors(before):
                slots = [name for name, each in after.operands.items() if each is before]
                factors = [name for name in slots if _is_factor(after, name)]
                if factors and (len(_factors(after)) > 1 or self._weighs(after)):
                    yield after, factors[0]
                elif after not in seen and not after.signal:
                    seen.add(after)
                    waiting.append(after)

    def _only_added(self, op: Op) -> bool:
        """Whether an operation gives nothing but biases."""
        entering = [(at, slot) for at in self.graph.successors(op) for slot, each in at.operands.items() if each is op]
        return op.op == "parameter" and bool(entering) and all(_is_added(at, slot) for at, slot in entering)

    def _weighs(self, op: Op) -> bool:
        return any(use.slot not in op.operands and _is_factor(op, use.slot) for use in op.params)

    def _groups(self, vanishing: set[Op]) -> dict[Op, str]:
        """For each operation with zero parameters the first parameter that zeros link it to."""
        linked = nx.Graph((op, after) for op in self.ops if op in vanishing for after in self.graph.successors(op))
        linked.add_nodes_from(self.ops)
        order = {op: number for number, op in enumerate(self.ops)}
        found: dict[Op, str] = {}
        for ops in nx.connected_components(linked):
            holding = sorted((op for op in ops if any(self._held(op))), key=order.__getitem__)
            found.update(dict.fromkeys(holding, next(self._held(holding[0])).name if holding else ""))
        return found

    def vanishing(self) -> set[Op]:
        """Operations whose value is zero."""
        zero: set[Op] = set()
        for op in self.ops:
            if self._vanishes(op, zero):
                zero.add(op)
        return zero

    def reached(self, vanishing: set[Op]) -> set[Op]:
        """Operations whose output a gradient reaches."""
        found: set[Op] = set()
        for op in reversed(self.ops):
            if op.ends:
                found.add(op)
            if op in found:
                found.update(each for each in self.graph.predecessors(op) if self._passes(op, each, vanishing))
        return found

    def _vanishes(self, op: Op, zero: set[Op]) -> bool:
        operands = list(op.operands.values())
        if op.op == "constant" and op.call is not None:
            return getattr(op.call.target, "__name__", op.call.target) in _ZERO
        if op.op == "parameter":
            return bool(op.params) and all(use.name in self.params for use in op.params)
        if op.op == _ATTENTION:
            return op.operands.get("value") in zero
        if _multiplies(op):
            return not self._biased(op, zero) and (self._blank(op) or any(each in zero for each in _factors(op)))
        if not operands or not all(each in zero for each in _valued(op)):
            return False
        if op.role is Role.NONLINEARITY:
            return self._zero_and_slope(op)[0]
        shifted = (Trait.ADDING in op.traits or op.op in _REPLACING) and any(
            isinstance(op.constants.get(name), int | float) and op.constants[name] for name in _SHIFTING
        )
        return op.role in (Role.ADD, Role.TRANSPARENT, Role.SPLIT) and not shifted

    def _passes(self, op: Op, operand: Op, zero: set[Op]) -> bool:
        """Whether the derivative of an operation by an operand can differ from zero."""
        slots = [slot for slot, each in op.operands.items() if each is operand]
        if op.op == _ATTENTION:
            others = (each for each in op.operands.values() if each is not operand)
            return "value" in slots or not any(each in zero for each in others)
        if _multiplies(op):
            return any(self._passes_product(op, slot, zero) for slot in slots)
        if op.role is Role.NONLINEARITY and operand in zero:
            return self._zero_and_slope(op)[1]
        if op.op == "cast":
            return next(iter(op.operands.values())) is operand
        return op.op != "cat" or operand not in zero or op in zero or self._piece_passes(op, zero, set())

    def _passes_product(self, op: Op, slot: str, zero: set[Op]) -> bool:
        """Whether what a factor is multiplied with can differ from zero; what is added passes all."""
        if not _is_factor(op, slot):
            return True
        others = (each for name, each in op.operands.items() if name != slot and _is_factor(op, name))
        return not self._blank(op) and not any(each in zero for each in others)

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
        """Whether the weights it holds are zero. Of an operation with several (attention, LSTM) that is left open."""
        held = [use for use in op.params if use.slot not in op.operands and _is_factor(op, use.slot)]
        return len(held) == 1 and held[0].name in self.params

    def _biased(self, op: Op, zero: set[Op]) -> bool:
        """Whether something that is not zero is added."""
        held = (use for use in op.params if use.slot not in op.operands)
        added = (each for slot, each in op.operands.items() if _is_added(op, slot))
        return any(not _is_factor(op, use.slot) and use.name not in self.params for use in held) or any(
            each not in zero for each in added
        )

    def _zero_and_slope(self, op: Op) -> tuple[bool, bool]:
        if op not in self._at_zero:
            self._at_zero[op] = _at_zero(op)
        return self._at_zero[op]


def _multiplies(op: Op) -> bool:
    """Whether an operation is linear in several of its operands, or in one and in a parameter."""
    roles = {op.role, op.spec.role if op.spec is not None else op.role}
    return Trait.LOOKUP in op.traits or bool(roles & {Role.WEIGHT, Role.PRODUCT, Role.NORM})


def _is_factor(op: Op, slot: str) -> bool:
    """Whether what enters at a slot is multiplied with the other factors, and not added or looked at."""
    if not _multiplies(op) or _is_added(op, slot):
        return False
    if op.role is Role.NORM or Trait.LOOKUP in op.traits:
        return slot == "weight" or (Trait.LOOKUP not in op.traits and slot == next(iter(op.operands), ""))
    return slot in op.operands or any(use.slot == slot and use.layout is not None for use in op.params)


def _is_added(op: Op, slot: str) -> bool:
    """Whether what enters a product at a slot is added to it: a bias, or the state of a recurrent layer."""
    if (
        op.role is Role.WEIGHT
        and slot in op.operands
        and op.op != "einsum"
        and any(use.slot == slot for use in op.params)
    ):
        return not any(use.slot == slot and use.layout is not None for use in op.params)
    return slot in _ADDED or (Trait.RECURRENT in op.traits and slot.startswith("hx"))


def _factors(op: Op) -> list[Op]:
    """The operands that are multiplied with each other."""
    return [each for slot, each in op.operands.items() if _is_factor(op, slot)]


def _valued(op: Op) -> list[Op]:
    """Operands whose values go into the result: of casts and views the first; the others tell dtypes and sizes."""
    operands = list(op.operands.values())
    alone = op.op == "cast" or (op.acts == "rearranging" and Trait.JOINING not in op.traits)
    return operands[:1] if alone else operands


def _at_zero(op: Op) -> tuple[bool, bool]:
    """(phi(0) == 0, phi'(0) != 0) of a nonlinearity; (False, True), which blocks nothing, for one of several values."""
    if op.call is None or op.acts != "elementwise" or len(op.operands) != 1:
        return False, True
    with tensors_on_cpu(), torch.enable_grad():
        point = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        value = execute(op, dict.fromkeys(op.operands.values(), point * 1))
        (slope,) = torch.autograd.grad(value.sum(), point)
    return bool((value == 0).all()), bool((slope != 0).all())
