"""Products that are summed at once: `(h * v).sum(-1)` is to v what `h @ v` is.

Told from a gain that is followed by pooling by the axes: a weight varies along an axis that is summed over.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from autoinit.ops import REGISTRY, WEIGHTED_SUM, OpSpec, Trait
from autoinit.tracing.dataflow import Call, Op, ParamUse

SUMS = frozenset({"sum", "nansum", "mean", "nanmean"})


class WeightedSum(NamedTuple):
    """A sum (or mean) of products of a signal with what parameters make, as an operation of its own.

    Attributes:
        factor: what multiplies the weight: numbers on the way, and 1 / n of a mean.
        means: names of operations that make it.
    """

    bound: dict[str, Any]
    call: Call
    factor: float
    means: tuple[str, ...]

    def scaled(self, use: ParamUse) -> ParamUse:
        """The use of a weight with what multiplies it."""
        factor = None if use.factor is None else use.factor * abs(self.factor)
        return replace(use, factor=factor, transform=use.transform + self.means)


def weighted_sum(spec: OpSpec, bound: Mapping[str, Any], call: Call) -> WeightedSum | None:
    """The call as a weighted sum; None if it is none, or the shape of the signal is not known.

    Args:
        spec: of `sum`, `mean` or `vecdot`.
        bound: its arguments by name.
        call: the call itself.
    """
    found = _product(spec, bound, call)
    if found is None:
        return None
    signal, weight, factor = found
    dims, keep = bound.get("dim"), bool(bound.get("keepdim"))
    shape = signal.shape if signal.shape is not None else _likely(weight.shape, dims)
    if shape is None or weight.shape is None:
        return None
    rank = max(len(shape), len(weight.shape))
    summed = {axis % rank - rank for axis in _listed(dims, rank)}
    equation, count = _equation(shape, weight.shape, summed, keep=keep)
    if not count:
        return None
    means = call.name.endswith("mean")

    def computed(h: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        over = sorted(summed)
        product = h * v * factor
        return product.mean(over, keep) if means else product.sum(over, keep)

    return WeightedSum(
        {"equation": equation, "operands": (signal, weight)},
        Call(computed, (signal, weight), {}, REGISTRY.specs[WEIGHTED_SUM]),
        factor / count if means else factor,
        ("mean",) * means + ("mul",) * (factor != 1),
    )


def _product(spec: OpSpec, bound: Mapping[str, Any], call: Call) -> tuple[Op, Op, float] | None:
    """The signal, what multiplies it, and the numbers that do, of the product that a call sums."""
    if spec.name == "vecdot":
        return _parted((bound.get("input"), bound.get("other")), 1.0)
    here, factor = bound.get("input"), 1.0
    if spec.name not in ("sum", "mean") or call.name not in SUMS:
        return None
    while isinstance(here, Op):
        if Trait.NEUTRAL in here.traits:
            here = here.operands.get("input")
        elif (number := _number(here)) is not None:
            here, factor = next(iter(here.operands.values())), factor * number
        else:
            return _parted(tuple(here.operands.values()), factor) if here.op == "mul" else None
    return None


def _parted(operands: tuple[Any, ...], factor: float) -> tuple[Op, Op, float] | None:
    if len(operands) != 2 or not all(isinstance(each, Op) for each in operands):
        return None
    signal, weight = sorted(operands, key=lambda each: not each.signal)
    return (signal, weight, factor) if signal.signal and not weight.signal else None


def _number(op: Op) -> float | None:
    """The number that an operation multiplies its one operand by."""
    if Trait.SCALING not in op.traits or len(op.operands) != 1:
        return None
    number = next((op.constants[name] for name in ("other", "input") if name in op.constants), None)
    if not isinstance(number, (int, float)) or number == 0 or (op.op == "div" and "input" in op.constants):
        return None
    return float(number) if op.op == "mul" else 1 / number


def _listed(dims: Any, rank: int) -> tuple[int, ...]:
    if dims is None or dims in ([], ()):
        return tuple(range(rank))
    return tuple(dims) if isinstance(dims, (list, tuple)) else (dims,)


def _likely(weight: tuple[int, ...] | None, dims: Any) -> tuple[int, ...] | None:
    """A shape that a signal of an unknown one may stand in: the weight's, if all of that is summed away."""
    if weight is None or dims is None or any(axis >= 0 for axis in _listed(dims, 0)):
        return None
    kept = [size for axis, size in enumerate(weight, -len(weight)) if axis not in _listed(dims, 0)]
    return weight if all(size == 1 for size in kept) else None


def _equation(signal: tuple[int, ...], weight: tuple[int, ...], summed: set[int], *, keep: bool) -> tuple[str, int]:
    """The equation that einsum would have, and over how many elements of the weight a product is summed.

    Axes of size 1, which are repeated, have letters of their own.
    """
    letters = iter(string.ascii_letters)
    given, held, made = "", "", ""
    count = 1
    for axis in range(-max(len(signal), len(weight)), 0):
        here, there = (shape[axis] if -axis <= len(shape) else None for shape in (signal, weight))
        shared = next(letters)
        own = shared if here != 1 or there == 1 else next(letters)
        if there == 1 and axis in summed:
            own = next(letters)
        given += shared if here is not None else ""
        held += own if there is not None else ""
        if axis not in summed:
            made += own if there not in (None, 1) else shared
        elif keep:
            made += next(letters)
        count *= (there or 1) if axis in summed else 1
    return f"{given},{held}->{made}", count if count > 1 else 0
