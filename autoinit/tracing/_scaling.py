"""What happens to a weight's scale between the parameter and the operation that uses it.

`F.linear(x, self.weight * self.scale)` multiplies it, weight standardisation takes it away. The operations are run on a
random parameter, at three scales; other parameters and buffers stand at their root mean square, or their mean.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from autoinit.ops import Fact, Role, Trait
from autoinit.tracing.dataflow import Op
from autoinit.tracing.mixtures import is_mixture
from autoinit.tracing.rerunning import NOT_RUN, execute

_MOST_ELEMENTS = 1 << 20
_SCALES = (2.0, 0.25)
"""Beside 1: a step of rounding, or a bound, that is out of reach at one scale shows at another."""
_NOTHING = 1e-6
"""A std that is rounding alone."""
_KEEPING = frozenset({"rearranging"})


class Rescaling(NamedTuple):
    """What the operations between a parameter and its use do to its scale.

    Attributes:
        factor: by how much they multiply the std; 0 if they normalise it away, None if neither, or if it is not
            known.
        bends: whether they are a function of the parameter that is not proportional to it (exp, softplus, a square).
    """

    factor: float | None
    bends: bool = False


_KEPT = Rescaling(1.0)


def scaling(parameter: Op, end: Op, chain: list[Op], steps: Any, known: dict[Any, Any]) -> Rescaling:
    """What the operations of `chain` do to the parameter's scale on the way to `end`.

    The factor is 1 where they only move elements. It is not known where an operation cannot be run again, or the
    value of another parameter is unknown. Steps of rounding and bounds, which a scale brings out of reach, do not bend.
    `known` keeps the answers by `steps` and shape; a weight of more than a million elements takes a smaller one's, if
    that is 0 or 1.
    """
    if all(_keeps(op) for op in chain):
        return _KEPT
    if any(map(is_mixture, chain)):
        return Rescaling(None)
    shape = parameter.shape or ()
    names = tuple(op.op for op in chain)
    if torch.Size(shape).numel() > _MOST_ELEMENTS and known.get(names) in (Rescaling(0.0), _KEPT):
        smaller: Rescaling = known[names]
        return smaller
    key = ("scale", shape, steps)
    if key not in known:
        known[key] = known[names] = _measured(parameter, end, shape, chain)
    found: Rescaling = known[key]
    return found


def _keeps(op: Op) -> bool:
    """Whether an operation leaves the elements' values, all of them."""
    return Trait.NEUTRAL in op.traits or (op.acts in _KEEPING and not _is_half(op))


def _is_half(op: Op) -> bool:
    """Whether an operation sets what is on one side of a diagonal to zero."""
    return op.call is not None and op.call.name in ("tril", "triu")


def _bend(chain: list[Op]) -> bool:
    """Whether operations are curved, not only bounded; what is rounded (fake quantisation) is made for weights."""
    specs = [op.spec for op in chain if op.spec is not None]
    return any(spec.role is Role.NONLINEARITY and Fact.CLIPPING not in spec.facts for spec in specs) and not any(
        spec.role is Role.SINK for spec in specs
    )


def _measured(parameter: Op, end: Op, shape: tuple[int, ...], chain: list[Op]) -> Rescaling:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    once = _std_at(parameter, end, weight, chain)
    scaled = {scale: _std_at(parameter, end, scale * weight, chain) for scale in _SCALES}
    stds = {scale: std for scale, std in scaled.items() if std is not None}
    if once is not None and once < _NOTHING and _bend(chain):  # as softmax(E @ F) is where F has equal elements
        return Rescaling(None, bends=True)
    if not once or weight.numel() < 2 or len(stds) < len(scaled):
        return Rescaling(None)
    if all(abs(std - once) < 1e-3 * once for std in stds.values()):
        return Rescaling(0.0)
    proportional = all(abs(std / scale - once) < 1e-3 * once for scale, std in stds.items())
    if not proportional:
        return Rescaling(None, _bend(chain))
    return Rescaling(_tidy(once / float(weight.std(correction=0))) if _all_known(parameter, end, chain) else None)


def _all_known(parameter: Op, op: Op, chain: list[Op]) -> bool:
    """Whether every other parameter and buffer on the way has a value (not on meta, not large)."""
    if op is parameter or (op.signal and op not in chain):
        return True
    if op.op in ("parameter", "buffer"):
        return "rms" in op.constants
    return all(_all_known(parameter, each, chain) for each in op.operands.values())


def _tidy(factor: float) -> float:
    """1 where sampling cannot tell it from 1 (a mask of ones, a LoRA that adds nothing)."""
    return 1.0 if abs(factor - 1) < 1e-5 else factor


def _std_at(parameter: Op, end: Op, weight: torch.Tensor, chain: list[Op]) -> float | None:
    """The std at the end. A signal that changes the weight stands at 1."""
    values: dict[Op, Any] = {parameter: weight.clone()}  # it may be written to
    try:
        result = value_at(end, values, chain)
    except NOT_RUN:
        return None  # an operation that cannot be run outside the model
    if not isinstance(result, torch.Tensor) or not result.is_floating_point() or result.numel() < 2:
        return None
    std = float(result.std(correction=0))  # the same for one sample's and for several samples' copies
    return std if math.isfinite(std) else None


def value_at(op: Op, values: dict[Op, Any], chain: list[Op]) -> Any:
    """What an operation of a chain gives, and into `values` what it needs. A signal beside the chain stands at 1."""
    if op in values:
        return values[op]
    if op.signal and op not in chain:
        values[op] = torch.ones(op.shape or ())
        return values[op]
    if op.op in ("parameter", "buffer"):
        stands = op.constants.get("rms", op.constants.get("value", 1.0))
        values[op] = torch.full(op.shape or (), float(stands))
    else:
        for each in op.operands.values():
            value_at(each, values, chain)
        share = _share_kept(op, values)
        values[op] = execute(op, values) if share is None else values[op.operands["input"]] * math.sqrt(share)
    return values[op]


def _share_kept(op: Op, values: dict[Op, Any]) -> float | None:
    """The share of elements that a mask leaves where the others become zero; None if the operation is nothing such.

    A mask stands for where it is, not for a number: what it leaves has that share of the power.
    """
    if _is_half(op):
        return float(execute(op, {**values, op.operands["input"]: torch.ones(op.operands["input"].shape or ())}).mean())
    mask = op.operands.get("mask") or op.operands.get("condition")
    if op.op not in ("masked_fill", "where") or mask is None or "value" not in mask.constants:
        return None
    other = op.constants.get("value" if op.op == "masked_fill" else "other")
    if other != 0 or "input" not in op.operands:
        return None
    share = float(mask.constants["value"])
    return share if op.op == "where" else 1 - share
