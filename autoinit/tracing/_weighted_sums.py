"""Products that are summed at once: `(h * v).sum(-1)` is to v what `h @ v` is, and so is `(h * (v * style)).sum(-1)`.

Told from a gain that is followed by pooling by the axes: a weight varies along an axis that is summed over.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
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
    signals, weight, factor = found
    dims, keep = bound.get("dim"), bool(bound.get("keepdim"))
    shapes = [each.shape if each.shape is not None else _likely(weight.shape, dims) for each in signals]
    known = [each for each in shapes if each is not None]
    if len(known) < len(shapes) or weight.shape is None:
        return None
    rank = max(map(len, (*known, weight.shape)))
    summed = {axis % rank - rank for axis in _listed(dims, rank)}
    equation, count = _equation(known, weight.shape, summed, keep=keep)
    if not count or (len(signals) > 1 and not _has_outputs(equation)):
        return None
    means = call.name.endswith("mean")

    def computed(*factors: torch.Tensor) -> torch.Tensor:
        over = sorted(summed)
        product = reduce(torch.mul, factors) * factor
        return product.mean(over, keep) if means else product.sum(over, keep)

    return WeightedSum(
        {"equation": equation, "operands": (*signals, weight)},
        Call(computed, (*signals, weight), {}, REGISTRY.specs[WEIGHTED_SUM]),
        factor / count if means else factor,
        ("mean",) * means + ("mul",) * (factor != 1),
    )


_Factors = tuple[tuple[Op, ...], Op, float]
"""Signals, the weight that multiplies them, and the numbers that do."""


def _product(spec: OpSpec, bound: Mapping[str, Any], call: Call) -> _Factors | None:
    """The factors of the product that a call sums."""
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


def _parted(operands: tuple[Any, ...], factor: float) -> _Factors | None:
    if len(operands) != 2 or not all(isinstance(each, Op) for each in operands):
        return None
    signal, other = sorted(operands, key=lambda each: not each.signal)
    if not signal.signal:
        return None
    if not other.signal:
        return (signal,), other, factor
    for scaled, beside in ((signal, other), (other, signal)):
        if scaled.op == "mul" and (inner := _parted(tuple(scaled.operands.values()), factor)) is not None:
            return (beside, *inner[0]), *inner[1:]
    return None


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


def _has_outputs(equation: str) -> bool:
    """Whether the weight, the last operand, brings an axis to the result: else it is the gain of one of two signals."""
    given, _, made = equation.partition("->")
    *signals, weight = given.split(",")
    return any(letter in made and letter not in "".join(signals) for letter in weight)


def _equation(
    signals: Sequence[tuple[int, ...]], weight: tuple[int, ...], summed: set[int], *, keep: bool
) -> tuple[str, int]:
    """The equation that einsum would have, and over how many elements of the weight a product is summed.

    Axes of size 1, which are repeated, have letters of their own.
    """
    letters = iter(string.ascii_letters)
    given, held, made = [""] * len(signals), "", ""
    count = 1
    for axis in range(-max(map(len, (*signals, weight))), 0):
        sizes = [shape[axis] if -axis <= len(shape) else None for shape in signals]
        here = max((size for size in sizes if size is not None), default=None)
        there = weight[axis] if -axis <= len(weight) else None
        shared = next(letters)
        own = shared if here != 1 or there == 1 else next(letters)
        if there == 1 and axis in summed:
            own = next(letters)
        for number, size in enumerate(sizes):
            if size is not None:
                given[number] += shared if size == here else next(letters)
        held += own if there is not None else ""
        if axis not in summed:
            made += own if there not in (None, 1) else shared
        elif keep:
            made += next(letters)
        count *= (there or 1) if axis in summed else 1
    return f"{','.join(given)},{held}->{made}", count if count > 1 else 0
