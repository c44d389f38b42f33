"""What multiplies a weight as the model runs: an equalised learning rate (Karras et al. 2018), and styles (2020)."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from autoinit.facts._attention import operands_entered
from autoinit.ops import Role
from autoinit.resolving import Ending, Reason, Resolution, factor_of
from autoinit.theory.layouts import size
from autoinit.tracing.dataflow import Dataflow, Op

_ABOUT = 1e-3


def runtime_gain(dataflow: Dataflow, ops: Sequence[Op], resolution: Resolution) -> float:
    """The numbers that multiply a weight, or what it takes; 0 where its own norm divides what it gives.

    Of numbers on the way of a signal that multiplies either (a style), only 1 / sqrt(fan_in) belongs to the weight.
    """
    if resolution.factor == 0 or any(_is_demodulated(dataflow, op, resolution.param) for op in ops):
        return 0.0
    known = (resolution.factor or 1.0) * resolution.input_factor
    summed = _summed(resolution)
    return _on_styles(ops[0], summed**-0.5) if known == 1 and summed else known


def is_style(dataflow: Dataflow, resolution: Resolution, ending: Ending) -> bool:
    """Whether what a weight gives multiplies another weight."""
    end = dataflow.by_name.get(ending.path[-1]) if ending.reason is Reason.WEIGHT and ending.path else None
    if end is None:
        return False
    entered = operands_entered(end, ending.path, resolution.uses)
    return any(use.slot in entered for use in end.params)


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


def _is_demodulated(dataflow: Dataflow, op: Op, param: str) -> bool:
    """Whether what a weight gives is multiplied by what comes of the weight itself, beside the operation."""
    waiting = [op]
    for here in waiting:
        for after in dataflow.graph.successors(here):
            if after.role in (Role.TRANSPARENT, Role.SPLIT) and after not in waiting:
                waiting.append(after)
            beside = [each for each in after.operands.values() if each is not here]
            multiplies = after.role is Role.PRODUCT or after.op == "addcmul"
            if multiplies and param in _parameters_of(beside):
                return True
    return False


def _parameters_of(waiting: list[Op]) -> Collection[str]:
    """The parameters of which something is computed without a weight operation."""
    waiting = list(waiting)
    for op in waiting:
        if op.role is not Role.WEIGHT:
            waiting += (each for each in op.operands.values() if each not in waiting)
    return {use.name for op in waiting if op.op == "parameter" for use in op.params}
