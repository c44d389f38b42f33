"""Weights whose scale is divided out beside their operation: `conv(x * s, w) * rsqrt(sum((w * s) ** 2))`.

So StyleGAN2-ADA's convolutions are written where the styles are not fused into the weights (Karras et al. 2020), and
so are classifiers by cosine. What multiplies is computed from the weight itself; whether it takes the scale away is
seen from what comes of it at several scales.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from autoinit.ops import Role, Trait
from autoinit.tracing._scaling import value_at
from autoinit.tracing.dataflow import Op, OpGraph, ParamUse
from autoinit.tracing.rerunning import NOT_RUN, execute

_FARTHEST = 64
"""Operations that are looked at behind a factor."""
_MOST_ELEMENTS = 1 << 26
_SCALES = (1.0, 2.0, 0.25)
_ABOUT = 1e-3
_BESIDE = frozenset({"addcmul", "addcdiv"})
"""Operations that multiply, and are no product."""


class Demodulations(NamedTuple):
    """Found in a graph.

    Attributes:
        slots: of an operation, by its name, the operand that takes a weight's scale away.
        uses: of a weight operation, by its name, its parameters with that said of them.
    """

    slots: Mapping[str, str]
    uses: Mapping[str, tuple[ParamUse, ...]]


def demodulations(graph: OpGraph) -> Demodulations:
    """The operations by which weights are demodulated, and these weights' uses."""
    slots: dict[str, str] = {}
    uses: dict[str, tuple[ParamUse, ...]] = {}
    for op in graph.nodes:
        if op.acts != "elementwise" or not (Trait.SCALING in op.traits or op.op in _BESIDE) or len(op.operands) < 2:
            continue
        for slot, scaled in op.operands.items():
            weight = _weight_behind(scaled)
            if weight is None:
                continue
            for other, factor in op.operands.items():
                changed = _changed(op, scaled, weight, factor) if other != slot else ()
                if changed:
                    slots[op.name], uses[weight.name] = other, changed
    return Demodulations(slots, uses)


def _weight_behind(op: Op) -> Op | None:
    """The weight operation whose output an operand is, but for its place and numbers."""
    while op.role in (Role.TRANSPARENT, Role.SPLIT):
        signals = [each for each in op.operands.values() if each.signal]
        if len(signals) != 1:
            return None
        op = signals[0]
    return op if op.role is Role.WEIGHT else None


def _changed(op: Op, scaled: Op, weight: Op, factor: Op) -> tuple[ParamUse, ...]:
    """The uses of a weight operation's parameters, if a factor takes the scale of one of them away; else none."""
    held = {use.name: use for use in weight.params if use.layout is not None}
    for parameter, chain in _ways(factor):
        use = held.get(parameter.params[0].name)
        if use is not None and _takes_away(op, scaled, factor, parameter, chain, normalised=use.factor == 0):
            steps = tuple(each.op for each in (*chain, op) if Trait.NEUTRAL not in each.traits)
            before = () if steps[: len(use.transform)] == use.transform else use.transform
            modulated = use.modulated or factor.signal
            made = replace(use, factor=0.0, transform=before + steps, modulated=modulated)
            return tuple(made if each is use else each for each in weight.params)
    return ()


def _ways(end: Op) -> Iterator[tuple[Op, list[Op]]]:
    """The parameters of which an operand is computed, other than by weights, each with the operations on its way."""
    behind = [end]
    for op in behind:
        if len(behind) > _FARTHEST:
            return
        if not _is_opaque(op):
            behind += (each for each in dict.fromkeys(op.operands.values()) if each not in behind)
    for parameter in (each for each in behind if each.op == "parameter"):
        way = {parameter}
        while more := {op for op in behind if not way.isdisjoint(op.operands.values()) and not _is_opaque(op)} - way:
            way |= more
        if end in way:
            yield parameter, [op for op in reversed(behind) if op in way and op is not parameter]


def _is_opaque(op: Op) -> bool:
    """Whether a weight makes what an operation gives: not the square of one, summed by a product with squares."""
    return op.role is Role.WEIGHT and not all(use.left for use in op.params)


def _takes_away(op: Op, scaled: Op, factor: Op, parameter: Op, chain: list[Op], *, normalised: bool) -> bool:
    """Whether what an operation gives is the same whatever the parameter's scale.

    normalised: whether the other operand has lost that scale already.
    """
    shape = parameter.shape or ()
    if math.prod(shape) > _MOST_ELEMENTS:
        return False
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = []
    try:
        for scale in _SCALES:
            factors = value_at(factor, {parameter: weight * scale}, chain)
            values: dict[Op, Any] = dict.fromkeys(op.operands.values(), torch.zeros(()))
            values |= {scaled: torch.tensor(1.0 if normalised else scale), factor: factors}
            found.append(execute(op, values))
    except NOT_RUN:
        return False
    first = found[0]
    if not isinstance(first, torch.Tensor) or not bool((first.isfinite() & (first != 0)).any()):
        return False
    return all(torch.allclose(each, first, rtol=_ABOUT, atol=0) for each in found[1:])
