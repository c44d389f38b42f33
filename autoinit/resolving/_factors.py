"""Constant factors: numbers that multiply a signal around a nonlinearity, or on the way into a weight.

Behind an operation that changes a signal's scale (a sum, a product with a matrix), a number makes up for that change,
and is no factor of the layer before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from autoinit.ops import Role, Trait
from autoinit.resolving._regions import Region, Regions, evaluable, value_outside
from autoinit.resolving.normalising import is_unit_norm
from autoinit.theory.fans import fans
from autoinit.tracing.dataflow import LENDING, Op
from autoinit.tracing.noise import SHAPED_ONLY
from autoinit.tracing.rerunning import NOT_RUN

_BYTES = (127.5, 128.0, 255.0, 256.0)
"""What bytes are divided by: 1 over them brings an image to the unit range."""
_EQUALISING = (1.0, math.sqrt(2))
"""Gains that an equalised learning rate divides by sqrt(fan_in)."""
_ABOUT = 0.025
"""How near to an activation's gain a number is that stands for it: StyleGAN2 has sqrt(2) for sqrt(2 / 1.04)."""
_FARTHEST = 64
"""Operations that are looked at behind an activation."""


def factor_of(op: Op) -> float:
    """By how much an operation multiplies the one signal that it takes: a number's magnitude, or 1."""
    signals = [slot for slot, each in op.operands.items() if each.signal]
    if op.role is not Role.TRANSPARENT or len(signals) != 1:
        return 1.0
    if op.op not in ("mul", "div"):
        return _slope_of(op, signals[0])
    other = "other" if signals[0] == "input" else "input"
    number = _number(op.constants[other] if other in op.constants else op.operands.get(other))
    if number is None or not 0 < abs(number) < math.inf or op.constants.get("rounding_mode") is not None:
        return 1.0
    return abs(number) if op.op == "mul" else 1 / abs(number)


def _slope_of(op: Op, slot: str) -> float:
    """By how much an operation multiplies the signal in this slot beside constants: `lerp`, `add(bias, z, alpha=3)`."""
    weighs = Trait.ADDING not in op.traits or op.constants.get("alpha", 1) != 1
    if op.spec is None or not weighs or not (op.spec.role is Role.ADD or Trait.SCALING in op.traits):
        return 1.0
    others = [each for name, each in op.operands.items() if name != slot]
    factors = [each for name, each in op.operands.items() if name not in (slot, "input")]
    if not all(map(evaluable, others)) or any(_number(each) is None for each in factors):
        return 1.0
    return slope(Region(op.operands[slot], op, (op,)))


def slope(region: Region) -> float:
    """By how much a region of elementwise operations multiplies its start; 1 if it does more, or is not known."""
    if any(op.signal and op.acts != "elementwise" for op in region.ops):
        return 1.0
    some = torch.tensor([0.0, 1.0, 3.0, -2.0], dtype=torch.float64)
    try:
        found = region.function()(some)
    except NOT_RUN:
        return 1.0
    risen = found - found[0]
    is_straight = bool(torch.allclose(risen, risen[1] * some, rtol=1e-6)) and math.isfinite(risen[1])
    return abs(float(risen[1])) or 1.0 if is_straight else 1.0


def _number(value: Any) -> float | None:
    """A number, or a constant tensor all of whose elements have one magnitude.

    A parameter of one element counts with the value that it has; larger ones are gains that are learned.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, Op) or not evaluable(value) or not all(map(_is_uniform, _sources(value))):
        return None
    try:
        made = value_outside(value, torch.zeros(1, dtype=torch.float64))
    except NOT_RUN:
        return None
    magnitudes = torch.as_tensor(made).double().abs()
    if not magnitudes.numel() or not bool((magnitudes == magnitudes.max()).all()):
        return None
    return float(magnitudes.max())


def _sources(op: Op) -> Iterator[Op]:
    """What a constant is computed from; what lends it a shape is no part of it."""
    if not op.operands or op.op in SHAPED_ONLY:
        yield op
        return
    for slot, each in op.operands.items():
        if slot == "input" or op.op not in LENDING:
            yield from _sources(each)


def _is_uniform(op: Op) -> bool:
    if op.op == "parameter":
        return "value" in op.constants and math.prod(op.shape or ()) == 1
    return op.op != "buffer" or math.isclose(abs(op.constants["value"]), op.constants["rms"], rel_tol=1e-6)


def keeps_scale(op: Op) -> bool:
    """Whether an operation keeps the signal's scale, so that a number behind it may as well stand before it."""
    if op.spec is None or Trait.SUMMING in op.traits:
        return op.spec is None
    signals = sum(each.signal for each in op.operands.values())
    return op.spec.weights is None and (op.spec.role is not Role.PRODUCT or signals == 1)


def factor_behind(regions: Regions, op: Op, gain: float) -> float:
    """The numbers that multiply what an activation gives, on the nearest way to a weight; 1 if it comes to none first.

    Before an addition, in attention or before an output they are the author's weighting, unless they are the
    activation's own gain before an output (`leaky_relu(z, 0.2) * sqrt(2)`); before a norm, nothing. Those that belong
    to the layer behind are its own.
    """
    waiting: list[tuple[Op, tuple[Op, ...], bool]] = [(op, (), True)]
    for here, way, counts in waiting:
        for after in regions.consumers(here):
            if after.role is Role.WEIGHT:
                return math.prod(factor_of(each) for each in way if not _is_equalising(each, after))
            if after.ends and math.isclose(factor := math.prod(map(factor_of, way)), gain, rel_tol=_ABOUT):
                return factor
            if after.role in (Role.TRANSPARENT, Role.SPLIT) and after.signal and len(waiting) < _FARTHEST:
                counting = counts and keeps_scale(after)
                waiting.append((after, (*way, after) if counting else way, counting))
    return 1.0


def factor_before(op: Op, regions: Regions) -> float:
    """The numbers that multiply the one signal that a weight operation takes, as they would multiply its weight.

    They count where what they multiply has second moment 1 (an input, a norm's output, another layer's), and where they
    are an equalised learning rate. Otherwise they make up for what comes before: a nonlinearity, an addition. An input
    that is also shifted, or divided as bytes are, is brought to unit scale by that.
    """
    way, here = [], _signal_of(op)
    while here is not None and _is_passed(here) and here not in regions.activations:
        way.append(here)
        here = _signal_of(here)
    factor = math.prod(map(factor_of, way))
    if here is None or factor == 1:
        return 1.0
    if here.op == "input":
        shifted = any(each.spec is not None and each.spec.role is Role.ADD for each in way)
        return 1.0 if shifted or any(math.isclose(factor * whole, 1, rel_tol=1e-3) for whole in _BYTES) else factor
    if here.role is Role.WEIGHT or is_unit_norm(here, regions):
        return factor
    return math.prod(factor_of(each) for each in way if _is_equalising(each, op))


def _is_passed(op: Op) -> bool:
    return op.role is Role.TRANSPARENT and keeps_scale(op)


def factor_inside(op: Op) -> float:
    """The number by which an operation multiplies its own product: `alpha` of addmm."""
    alpha = op.constants.get("alpha", 1)
    is_number = isinstance(alpha, (int, float)) and not isinstance(alpha, bool)
    return abs(float(alpha)) or 1.0 if is_number else 1.0


def _is_equalising(multiplication: Op, weight: Op) -> bool:
    """Whether a number is the weight's equalised learning rate (Karras et al. 2018).

    It is, if the module that holds the layer multiplies by it what comes from outside, or if it is 1 or sqrt(2) over
    the root of the layer's fan_in.
    """
    factor, before = factor_of(multiplication), _signal_of(multiplication)
    if factor == 1 or before is None:
        return False
    if _scope(multiplication) == _scope(weight) != _scope(before):
        return True
    layouts = [(use.layout, use.shape) for use in weight.params if use.layout is not None]
    roots = [math.sqrt(fans(layout, shape).fan_in) for layout, shape in layouts]
    return any(math.isclose(factor * root, each, rel_tol=1e-3) for root in roots for each in _EQUALISING)


def _scope(op: Op) -> str:
    """The module whose forward calls an operation."""
    return op.module.rpartition(".")[0] if op.is_module else op.module


def _signal_of(op: Op) -> Op | None:
    """The one signal that an operation takes."""
    signals = [each for each in op.operands.values() if each.signal]
    return signals[0] if len(signals) == 1 else None
