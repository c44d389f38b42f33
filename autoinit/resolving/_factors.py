"""Constant factors: numbers that multiply a signal around a nonlinearity, or on the way into a weight.

Behind an operation that changes a signal's scale (a sum, a product with a matrix), a number makes up for that change,
and is no factor of the layer before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from autoinit.ops import Role
from autoinit.resolving._regions import Regions, evaluable, value_outside
from autoinit.tracing.dataflow import Op

_BYTES = (127.5, 128.0, 255.0, 256.0)
"""What bytes are divided by: 1 over them brings an image to the unit range."""
_FARTHEST = 64
"""Operations that are looked at behind an activation."""


def factor_of(op: Op) -> float:
    """By how much an operation multiplies the one signal that it takes: a number's magnitude, or 1."""
    signals = [slot for slot, each in op.operands.items() if each.signal]
    if op.role is not Role.TRANSPARENT or op.op not in ("mul", "div") or len(signals) != 1:
        return 1.0
    other = "other" if signals[0] == "input" else "input"
    number = _number(op.constants[other] if other in op.constants else op.operands.get(other))
    if number is None or not 0 < abs(number) < math.inf or op.constants.get("rounding_mode") is not None:
        return 1.0
    return abs(number) if op.op == "mul" else 1 / abs(number)


def _number(value: Any) -> float | None:
    """A number, or a constant tensor all of whose elements have one magnitude; parameters are no constants."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, Op) or not evaluable(value) or not all(map(_is_uniform, _sources(value))):
        return None
    try:
        made = value_outside(value, torch.zeros(1))
    except (RuntimeError, TypeError, KeyError, IndexError, ValueError, AttributeError):
        return None
    magnitudes = torch.as_tensor(made).double().abs()
    if not magnitudes.numel() or not torch.equal(magnitudes, magnitudes.flatten()[0].expand(magnitudes.shape)):
        return None
    return float(magnitudes.flatten()[0])


def _sources(op: Op) -> Iterator[Op]:
    """What a constant is computed from."""
    if not op.operands:
        yield op
    for each in op.operands.values():
        yield from _sources(each)


def _is_uniform(op: Op) -> bool:
    if op.op == "parameter":
        return False
    return op.op != "buffer" or math.isclose(abs(op.constants["value"]), op.constants["rms"], rel_tol=1e-6)


def keeps_scale(op: Op) -> bool:
    """Whether an operation passes each element's scale, so that a number behind it may as well stand before it."""
    is_product = op.spec is not None and op.spec.role is Role.PRODUCT and sum(map(_carries, op.operands.values())) > 1
    return op.acts in ("elementwise", "rearranging") and not is_product


def _carries(op: Op) -> bool:
    return op.signal


def factor_behind(regions: Regions, op: Op) -> float:
    """The numbers that multiply what an activation gives, on the nearest way to a weight; 1 if it comes to none first.

    Before an addition, in attention or before an output they are the author's weighting; before a norm they are nothing.
    """
    waiting = [(op, 1.0, True)]
    for here, factor, counts in waiting:
        for after in regions.consumers(here):
            if after.role is Role.WEIGHT:
                return factor
            if after.role in (Role.TRANSPARENT, Role.SPLIT) and after.signal and len(waiting) < _FARTHEST:
                counting = counts and keeps_scale(after)
                waiting.append((after, factor * factor_of(after) if counting else factor, counting))
    return 1.0


def factor_before(op: Op) -> float:
    """The numbers that multiply the one signal that a weight operation takes, as they would multiply its weight.

    They count where what they multiply has unit second moment: an input, a norm's output, another layer's. Behind a
    nonlinearity or an addition they make up for it. An input that is also shifted, or divided as bytes are, is brought to
    unit scale by that.
    """
    here, factor, shifted = _signal_of(op), 1.0, False
    while here is not None and here.role is Role.TRANSPARENT and keeps_scale(here):
        factor *= factor_of(here)
        shifted = shifted or (here.spec is not None and here.spec.role is Role.ADD)
        here = _signal_of(here)
    if here is None or factor == 1:
        return 1.0
    if here.op == "input":
        return 1.0 if shifted or any(math.isclose(factor * whole, 1, rel_tol=1e-3) for whole in _BYTES) else factor
    is_unit = here.role is Role.WEIGHT or (here.role is Role.NORM and here.spec is not None and here.spec.unit)
    return factor if is_unit else 1.0


def _signal_of(op: Op) -> Op | None:
    """The one signal that an operation takes."""
    signals = [each for each in op.operands.values() if each.signal]
    return signals[0] if len(signals) == 1 else None
