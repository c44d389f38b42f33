"""What happens to a weight's scale between the parameter and the operation that uses it.

`F.linear(x, self.weight * self.scale)` multiplies it, weight standardisation takes it away. The operations are run on a
random parameter, at three scales; other parameters and buffers stand at their root mean square, or their mean.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from autoinit.tracing.dataflow import Op
from autoinit.tracing.rerunning import execute

_MOST_ELEMENTS = 1 << 20
_SCALES = (2.0, 0.25)
"""Beside 1: a step of rounding, or a bound, that is out of reach at one scale shows at another."""
_KEEPING = frozenset({"rearranging"})


def scale_factor(parameter: Op, end: Op, chain: list[Op], steps: Any, known: dict[Any, Any]) -> float | None:
    """The factor by which the operations of `chain` multiply the parameter's std on the way to `end`.

    1 where they only move elements; 0 where the scale is normalised away; None where it is neither kept nor a
    multiple, or cannot be told (an operation that cannot be run again, another parameter whose value is unknown).
    `known` keeps the answers by `steps` and shape; a weight of more than a million elements takes a smaller one's, if
    that is 0 or 1.
    """
    if all(op.acts in _KEEPING or op.op in ("cast", "identity", "dropout") for op in chain):
        return 1.0
    shape = parameter.shape or ()
    names = tuple(op.op for op in chain)
    if torch.Size(shape).numel() > _MOST_ELEMENTS and known.get(names) in (0.0, 1.0):
        smaller: float = known[names]
        return smaller
    key = ("scale", shape, steps)
    if key not in known:
        known[key] = known[names] = _measured(parameter, end, shape)
    found: float | None = known[key]
    return found


def _measured(parameter: Op, end: Op, shape: tuple[int, ...]) -> float | None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    once = _std_at(parameter, end, weight)
    scaled = {scale: _std_at(parameter, end, scale * weight) for scale in _SCALES}
    stds = {scale: std for scale, std in scaled.items() if std is not None}
    if not once or len(stds) < len(scaled):
        return None
    if all(abs(std - once) < 1e-3 * once for std in stds.values()):
        return 0.0
    if not _all_known(parameter, end):
        return None
    proportional = all(abs(std / scale - once) < 1e-3 * once for scale, std in stds.items())
    return _tidy(once / float(weight.std())) if proportional else None


def _all_known(parameter: Op, op: Op) -> bool:
    """Whether every other parameter and buffer on the way has a value (not on meta, not large)."""
    if op is parameter:
        return True
    if op.op in ("parameter", "buffer"):
        return "value" in op.constants
    return all(_all_known(parameter, each) for each in op.operands.values())


def _tidy(factor: float) -> float:
    """1 where sampling cannot tell it from 1 (a mask of ones, a LoRA that adds nothing)."""
    return 1.0 if abs(factor - 1) < 1e-5 else factor


def _std_at(parameter: Op, end: Op, weight: torch.Tensor) -> float | None:
    values: dict[Op, Any] = {parameter: weight}
    try:
        result = _value(end, values)
    except (RuntimeError, TypeError, KeyError, IndexError, ValueError, AttributeError):
        return None  # an operation that cannot be run outside the model
    if not isinstance(result, torch.Tensor) or not result.is_floating_point() or result.numel() < 2:
        return None
    std = float(result.std())
    return std if math.isfinite(std) else None


def _value(op: Op, values: dict[Op, Any]) -> Any:
    if op in values:
        return values[op]
    if op.op in ("parameter", "buffer"):
        stands = op.constants.get("rms", op.constants.get("value", 1.0))
        values[op] = torch.full(op.shape or (), float(stands))
    else:
        for each in op.operands.values():
            _value(each, values)
        values[op] = execute(op, values)
    return values[op]
