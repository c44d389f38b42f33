"""What multiplies a weight as the model runs: an equalised learning rate (Karras et al. 2018), and styles (2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from autoinit.facts._attention import operands_entered
from autoinit.ops import Role
from autoinit.resolving import Ending, Reason, Resolution, factor_of
from autoinit.theory.layouts import size
from autoinit.tracing.dataflow import Dataflow, Op, ParamUse

_ABOUT = 1e-3


def runtime_gain(ops: Sequence[Op], resolution: Resolution) -> float:
    """The numbers that multiply a weight, or what it takes; 0 where its own norm divides what it gives.

    Of numbers on the way of a signal that multiplies either (a style), only 1 / sqrt(fan_in) belongs to the weight.
    """
    if resolution.factor == 0:
        return 0.0
    known = (resolution.factor or 1.0) * resolution.input_factor
    summed = _summed(resolution)
    return _on_styles(ops[0], summed**-0.5) if known == 1 and summed else known


def is_style(dataflow: Dataflow, resolution: Resolution, ending: Ending) -> bool:
    """Whether what a weight gives multiplies another weight, or the input of one that it demodulates."""
    end = dataflow.by_name.get(ending.path[-1]) if ending.reason is Reason.WEIGHT and ending.path else None
    if end is None:
        return False
    entered = operands_entered(end, ending.path, resolution.uses)
    return any(use.slot in entered or _is_demodulated_beside(end, use) for use in end.params)


def _is_demodulated_beside(op: Op, use: ParamUse) -> bool:
    """Whether a signal takes part in a weight's scale, though none changes what the operation takes as its weight."""
    return use.modulated and not any(each.signal for slot, each in op.operands.items() if slot == use.slot)


def _summed(resolution: Resolution) -> int:
    """Products in one output, whatever the stride: what an equalised learning rate is the root of."""
    axes, shape = resolution.layout.axes, resolution.shape
    return size(axes, shape, "i") * size(axes, shape, "k")


def _on_styles(op: Op, gain: float) -> float:
    """The gain, if a number that it is stands before what is multiplied into the weight or its input; else 1."""
    waiting = [each for each in op.operands.values() if each.signal]
    for here in waiting:
        if math.isclose(factor_of(here), gain, rel_tol=_ABOUT):
            return gain
        if here.role is Role.TRANSPARENT or (here.role is Role.PRODUCT and here.acts == "elementwise"):
            waiting += (each for each in here.operands.values() if each.signal and each not in waiting)
    return 1.0
