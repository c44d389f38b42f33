"""What each parameter is that is no weight: found by the operation where it first meets a signal."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from autoinit.facts.parameter import Kind
from autoinit.ops import Role, Trait
from autoinit.resolving.normalising import norm_parameters
from autoinit.theory.activations import SOFTMAXES
from autoinit.tracing.dataflow import Dataflow, Op, only_steers

_MANY = 400
"""Operations that are looked at, at most, on the way from a table to a softmax."""


@dataclass(frozen=True)
class ParameterRole:
    """What a parameter is, and where.

    Attributes:
        at: the operation where it meets a signal; of a bias the weight's.
        neutral, order: see `Facts`.
    """

    kind: Kind
    at: Op
    neutral: float = 0.0
    order: int = 0


@dataclass(frozen=True)
class _Meeting:
    """Where a parameter, or what is computed of it alone, first meets a signal.

    Attributes:
        slot: as which operand.
        shape: of the parameter.
        plus: what is added to it before.
    """

    op: Op
    slot: str
    shape: tuple[int, ...]
    plus: float = 0.0


def parameter_roles(dataflow: Dataflow) -> Mapping[str, ParameterRole]:
    """The role of each parameter that is no weight and no bias of a weight operation."""
    norms = norm_parameters(dataflow)
    found: dict[str, list[ParameterRole]] = {}
    for name, meeting in _meetings(dataflow):
        role = _role(dataflow, meeting, name in norms)
        if role is not None:
            found.setdefault(name, []).append(role)
    return {name: min(roles, key=lambda role: _PRECEDENCE.index(role.kind)) for name, roles in found.items()}


_PRECEDENCE: tuple[Kind, ...] = (
    "norm_gain", "norm_shift", "slope", "bias_table", "embedding", "position", "layer_scale", "token", "bias", "decay",
    "learned_input", "other",
)  # fmt: skip
"""Of several roles of one parameter the first: a position table that is joined to something is one all the same."""


def _meetings(dataflow: Dataflow) -> Iterator[tuple[str, _Meeting]]:
    for op in dataflow.graph.nodes:
        if op.op != "parameter":
            for use in op.params:
                if use.layout is None:
                    yield use.name, _Meeting(op, use.slot, use.shape)
            continue
        waiting = [(op, 0.0)]
        for here, plus in waiting:
            for after in dataflow.graph.successors(here):
                slots = dataflow.graph.edges[here, after]["slots"]
                if after.signal or after.role is Role.NORM:
                    yield op.params[0].name, _Meeting(after, slots[0], op.params[0].shape, plus)
                elif all(after is not each for each, _ in waiting):
                    waiting.append((after, plus + _added(after)))


def _added(op: Op) -> float:
    """The number that an operation adds; 0 for any other."""
    if Trait.ADDING not in op.traits:
        return 0.0
    numbers = [each for each in op.constants.values() if isinstance(each, (int, float)) and not isinstance(each, bool)]
    return float(numbers[0]) if numbers else 0.0


def _role(dataflow: Dataflow, meeting: _Meeting, of_norm: bool) -> ParameterRole | None:
    op, slot = meeting.op, meeting.slot
    if op.role is Role.NORM or of_norm:
        shifts = slot == "bias" or Trait.ADDING in op.traits
        return ParameterRole("norm_shift" if shifts else "norm_gain", op, 0.0 if shifts else 1.0 - meeting.plus)
    if Trait.LOOKUP in op.traits and slot == "weight":
        return ParameterRole(_table(dataflow, op), op)
    if op.op == "prelu":
        return ParameterRole("slope", op)
    if op.role is Role.WEIGHT:
        return ParameterRole("bias" if slot.startswith("bias") else "learned_input", op)
    if slot == "attn_mask" or (_adds(op) and _leads_to_softmax(dataflow, op)):
        return ParameterRole("bias_table", op)
    if Trait.JOINING in op.traits:
        return ParameterRole("token", op, order=[*op.operands].index(slot))
    if _adds(op):
        weight = _weight_before(op) if _is_vector(meeting.shape) and math.prod(meeting.shape) > 1 else None
        return ParameterRole("position", op) if weight is None else ParameterRole("bias", weight)
    if _scales_a_sum(op, slot) or (Trait.SCALING in op.traits and _is_added(op, dataflow)):
        return ParameterRole("layer_scale", op)
    if _is_spread(dataflow, op, meeting):
        return ParameterRole("learned_input", op)
    return ParameterRole("decay" if _is_decay(dataflow, op, slot) else "other", op)


def _is_spread(dataflow: Dataflow, op: Op, meeting: _Meeting) -> bool:
    """Whether a signal without places multiplies a parameter that has them, for a weight to take."""
    other = next((each for slot, each in op.operands.items() if slot != meeting.slot), None)
    if Trait.SCALING not in op.traits or other is None or not other.shape or len(meeting.shape) < 2:
        return False
    places = zip(meeting.shape[:0:-1], other.shape[::-1], strict=False)
    behind = list(dataflow.graph.successors(op))
    for after in behind:
        if after.role is Role.TRANSPARENT:
            behind += (each for each in dataflow.graph.successors(after) if each not in behind)
    return all(size == 1 for _, size in places) and any(each.role is Role.WEIGHT for each in behind)


def _is_decay(dataflow: Dataflow, op: Op, slot: str) -> bool:
    """Whether a parameter's exponential multiplies a signal, of which the exponential is taken in turn."""
    beside = op.operands.get(slot)  # none where the operation's own parameter is meant, such as an activation's
    return beside is not None and _passed(dataflow, [beside], back=True) and _passed(dataflow, [op])


def _passed(dataflow: Dataflow, waiting: list[Op], *, back: bool = False) -> bool:
    """Whether an exponential comes next, behind operations that let everything through; or before, `back`."""
    for op in waiting:
        if op.op == "exp":
            return True
        if op is waiting[0] or op.role is Role.TRANSPARENT:
            after = list(op.operands.values()) if back else dataflow.graph.successors(op)
            waiting += (each for each in after if each not in waiting)
    return False


def _table(dataflow: Dataflow, op: Op) -> Kind:
    """What a table is whose rows are looked up."""
    if _leads_to_softmax(dataflow, op):
        return "bias_table"
    index = op.operands.get("input")
    return "embedding" if index is None or _is_given(index) else "position"


def _is_given(index: Op) -> bool:
    """Whether numbers of rows are an input of the model; not what is counted of it (its length, its padding)."""
    waiting = [index]
    for op in waiting:
        if op.op == "input" or op.made:
            return True
        if op.op != "size" and Trait.RANKING not in op.traits:
            waiting += (each for slot, each in op.operands.items() if not only_steers(op, slot) and each not in waiting)
    return False


def _adds(op: Op) -> bool:
    return Trait.ADDING in op.traits


def _leads_to_softmax(dataflow: Dataflow, start: Op) -> bool:
    """Whether what is added goes to a softmax, or to attention's mask, and through neither norm nor weight."""
    waiting = [start]
    for op in waiting:
        for after in dataflow.graph.successors(op):
            slots = dataflow.graph.edges[op, after]["slots"]
            if (after.role is Role.NONLINEARITY and after.op in SOFTMAXES) or "attn_mask" in slots:
                return True
            if after.role in (Role.TRANSPARENT, Role.ADD, Role.SPLIT) and after not in waiting:
                waiting.append(after)
        if len(waiting) > _MANY:
            return False
    return False


def _weight_before(op: Op) -> Op | None:
    """The weight operation that the signal comes straight from which a parameter is added to; of a sum the first."""
    found = []
    for here in op.operands.values():
        if here.signal:
            moved = here.role is Role.TRANSPARENT and here.acts == "rearranging"
            passed = moved or here.role is Role.ADD or (_adds(here) and not _holds_table(here))
            found.append(here if here.role is Role.WEIGHT else _weight_before(here) if passed else None)
    return found[0] if found and all(found) else None


def _holds_table(op: Op) -> bool:
    """Whether a parameter that is no vector is part of what an operation adds, and not multiplied as matrices are: by a
    state that is still zero.
    """
    waiting = [each for each in op.operands.values() if not each.signal]
    used = [*op.params]
    for each in waiting:
        if each.spec is None or each.spec.weights is None:
            waiting += each.operands.values()
            used += each.params
    return any(not _is_vector(use.shape) for use in used)


def _is_vector(shape: tuple[int, ...]) -> bool:
    return sum(size > 1 for size in shape) <= 1


def _scales_a_sum(op: Op, slot: str) -> bool:
    """Whether a factor stands in an operation that adds the product to a signal at once: x + scale * y."""
    return op.op == "addcmul" and slot in ("tensor1", "tensor2") and op.operands["input"].signal


def _is_added(op: Op, dataflow: Dataflow) -> bool:
    """Whether what a parameter multiplies goes on to a sum of signals alone, as a branch does behind its scale."""
    waiting: list[Op] = [op]
    for here in waiting:
        for after in dataflow.graph.successors(here):
            if after.role not in (Role.TRANSPARENT, Role.ADD):
                return False
            if after.role is Role.TRANSPARENT and after not in waiting:
                waiting.append(after)
    return True


def looked_up(dataflow: Dataflow) -> Collection[str]:
    """Parameters whose rows are looked up."""
    found: set[str] = set()
    for op in dataflow.graph.nodes:
        if Trait.LOOKUP in op.traits:
            found.update(use.name for use in op.params)
            table = op.operands.get("weight")
            if table is not None and table.op == "parameter":
                found.update(use.name for use in table.params)
    return found
