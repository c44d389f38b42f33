"""What an operation is here: its role, and which of its operands are weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from autoinit.errors.calling import calling
from autoinit.ops import REGISTRY, WEIGHTED_SUM, OpSpec, Role, WeightSlot
from autoinit.theory.activations import ACTIVATIONS
from autoinit.tracing._operands import operand_layout
from autoinit.tracing._weighted_sums import weighted_sum
from autoinit.tracing.dataflow import LENDING, Call, Op, ParamUse
from autoinit.tracing.mixtures import is_mixture


def operands_of(value: Any) -> Iterator[Op]:
    """All Ops inside nested arguments."""
    if isinstance(value, Op):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from operands_of(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from operands_of(item)
    elif isinstance(value, slice):
        yield from operands_of((value.start, value.stop, value.step))


def slots(bound: Mapping[str, Any]) -> Iterator[tuple[str, Op]]:
    """Tensor operands by slot; those in lists are numbered (`tensors.0`)."""
    for name, value in bound.items():
        if isinstance(value, Op):
            yield name, value
        elif isinstance(value, (list, tuple)):
            for position, item in enumerate(value):
                for op in operands_of(item):
                    yield f"{name}.{position}", op
        else:
            for op in operands_of(value):
                yield name, op


def classified(
    name: str,
    spec: OpSpec,
    bound: dict[str, Any],
    params: tuple[ParamUse, ...],
    call: Call,
    where: dict[str, Any],
    slopes: Mapping[str, torch.Tensor],
    known: dict[Any, Any],
    *,
    may_weigh: bool,
    aside: str = "",
) -> Op:
    """Decide the role of the operation here, from which operands carry a signal and which are weights.

    may_weigh: whether it may be a weighted sum that is written as a product. Not where what it takes meets its result:
    a product with a parameter whose mean is taken off it bears a gain, and the mean is the next norm's.
    aside: the operand that demodulates, which is no signal beside the other.
    """
    if may_weigh and (found := weighted_sum(spec, bound, call)) is not None:
        sums = REGISTRY.specs[WEIGHTED_SUM]
        weighted = classified(name, sums, found.bound, params, found.call, where, slopes, known, may_weigh=False)
        if weighted.role is Role.WEIGHT and not any(use.left for use in weighted.params):
            return replace(weighted, params=tuple(map(found.scaled, weighted.params)))
    if spec.name == "getitem" and _is_place(bound):
        spec = REGISTRY.specs["index"]
    operands = dict(slots(bound))
    constants = {key: value for key, value in bound.items() if not any(True for _ in operands_of(value))}
    lent = spec.name in LENDING
    carrying = [slot for slot, op in operands.items() if op.signal and slot != aside and (slot == "input" or not lent)]
    made = [slot for slot in carrying if operands[slot].made]
    role = _role(spec, operands, carrying, made)
    weights: tuple[ParamUse, ...] = ()
    if spec.weights is not None:
        role, weights = _weight_role(spec, constants, operands, params, carrying, known)
    signal = spec.carries if spec.carries is not None else bool(carrying)
    if role is Role.WEIGHT:
        signal = True
    own = weights or tuple(use for use in params if role is not Role.WEIGHT)
    if role is Role.NONLINEARITY:
        constants |= _learned(spec, constants, operands, params, slopes)
    learned = role is Role.WEIGHT or (spec.role is Role.SOURCE and signal)
    return Op(
        name, spec.name, role, params=own, constants=constants, signal=signal, made=learned or (signal and bool(made)),
        call=call, acts=spec.acts.value, operands=operands, demodulated_by=aside, **where,
    )  # fmt: skip


def _role(spec: OpSpec, operands: Mapping[str, Op], carrying: list[str], made: list[str]) -> Role:
    """The role that the operands leave of the table's."""
    if spec.name == "div" and len(carrying) == 1 and carrying[0] != "input":
        return Role.NONLINEARITY  # constant / signal
    if spec.role is Role.PRODUCT:
        return _product_role(spec, carrying, made)
    one_of_several = spec.name == "getitem" and "input" in operands and _gives_several(operands["input"])
    return Role.TRANSPARENT if one_of_several or (spec.role is Role.ADD and len(carrying) < 2) else spec.role


def _product_role(spec: OpSpec, carrying: list[str], made: list[str]) -> Role:
    """A product of two signals that weights made; beside what no weight made, the one that a weight made passes."""
    if len(carrying) < 2:
        return Role.TRANSPARENT
    passed = len(made) == 1 and (not spec.passes or made[0] in spec.passes)
    return Role.TRANSPARENT if passed else Role.PRODUCT


def _learned(
    spec: OpSpec,
    constants: Mapping[str, Any],
    operands: Mapping[str, Op],
    params: tuple[ParamUse, ...],
    values: Mapping[str, torch.Tensor],
) -> dict[str, Any]:
    """Values of a nonlinearity's parameters that are tensors; the defaults, and a note, where they are not known."""
    found: dict[str, Any] = {}
    known = ACTIVATIONS[spec.name].parameters if spec.name in ACTIVATIONS else ()
    for name, default in spec.arguments:
        held = [use for use in params if use.slot == spec.attributes.get(name, name)]
        if not held and name in operands and name in known:
            held = list(operands[name].params)
        if held:
            value = _one_number(values.get(held[0].name))
        elif name in operands and name in known:
            value = operands[name].constants.get("rms")
        elif isinstance(constants.get(name), torch.Tensor):
            value = _one_number(constants[name])
        else:
            continue
        if value is None and isinstance(default, float):
            value = default
            what = held[0].name if held else name
            found["assumed"] = f"the value of {what} is not known: {value:g}, the default, taken"
        found[name] = value
    return found


def _one_number(value: torch.Tensor | None) -> float | None:
    """A number that stands for a tensor: the root mean square over channels."""
    if value is None or value.is_meta:
        return None
    numbers = value.detach().double()
    return float(numbers if numbers.numel() == 1 else numbers.square().mean().sqrt())


def _is_place(bound: Mapping[str, Any]) -> bool:
    """Whether an item is taken that says where the values stood (`x.topk(2)[1]`)."""
    taken = bound.get("input")
    spec = taken.call.spec if isinstance(taken, Op) and taken.call is not None else None
    return spec is not None and spec.ranks and bound.get("index") in (1, "indices")


def _gives_several(op: Op) -> bool:
    return op.call is not None and op.call.spec is not None and op.call.spec.several


def _weight_role(
    spec: OpSpec,
    constants: Mapping[str, Any],
    operands: Mapping[str, Op],
    params: tuple[ParamUse, ...],
    carrying: list[str],
    layouts: dict[Any, Any],
) -> tuple[Role, tuple[ParamUse, ...]]:
    """A weight operation, a product of signals, or a fixed linear map."""
    assert spec.weights is not None
    with calling(f"weights= of operation {spec.name!r}"):
        known = tuple(spec.weights(constants))
    uses: list[ParamUse] = []
    for use in params:
        found = next((named for slot in known if (named := slot.named(use.slot)) is not None), None)
        uses.append(_with_layout(use, found, constants) if found is not None and len(use.shape) >= 2 else use)
    for name, op in operands.items():
        alone = op.signal and spec.role is not Role.WEIGHT and len(carrying) < 2
        if alone or (op.role is Role.WEIGHT and not is_mixture(op)):
            continue
        found = next((named for slot in known if (named := slot.named(name)) is not None), None)
        product = spec.role is not Role.WEIGHT
        if found is not None and (carrying or not product):
            uses += _operand_uses(op, found, constants, layouts, product=product)
        elif op.op == "parameter":
            uses += [ParamUse(name, use.name, use.shape) for use in op.params]
    used = any(use.layout is not None or use.left == "bent" for use in uses)
    if used or (carrying and any(_untraced(use, known) for use in uses)) or any(len(use.shape) > 1 for use in params):
        return Role.WEIGHT, tuple(uses)
    return _product_role(spec, carrying, [slot for slot in carrying if operands[slot].made]), tuple(uses)


def _untraced(use: ParamUse, known: tuple[WeightSlot, ...]) -> bool:
    """Whether a parameter enters as a weight, by an unknown way. `known` are the weight slots; none: any may be one."""
    enters = not known or any(slot.named(use.slot) is not None for slot in known)
    return enters and use.layout is None and len(use.shape) >= 2 and not use.left


def _with_layout(use: ParamUse, slot: WeightSlot, constants: Mapping[str, Any]) -> ParamUse:
    return ParamUse(use.slot, use.name, use.shape, slot.layout(constants, use.shape), use.transform)


def _operand_uses(
    op: Op, slot: WeightSlot, constants: Mapping[str, Any], layouts: dict[Any, Any], *, product: bool
) -> Iterator[ParamUse]:
    """The parameters behind a weight operand, each with the layout of its own axes."""
    tag = f"{slot.slot} {dict(constants)!r}"
    for use in operand_layout(op, lambda shape: slot.layout(constants, shape), tag, layouts, either=product):
        if use.shape:
            yield replace(use, slot=slot.slot)
