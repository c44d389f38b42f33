"""Which regions are norms, and which are softmaxes: decided by running them on random numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch

from autoinit.ops import WEIGHTED_SUM, Role, Trait
from autoinit.resolving._regions import Region, Regions, bends
from autoinit.tracing.dataflow import Dataflow, Op
from autoinit.tracing.rerunning import NOT_RUN

_LONGEST = 16
"""Operations that a written norm has at most."""
_LONG = 6
"""Entries that are enough of an axis to show a norm."""


def is_norm(region: Region, known: dict[Any, bool]) -> bool:
    """Whether the region's output stays as it is when its input is scaled (homogeneous of degree 0).

    Decided by running it on random tensors, of the traced shape where that is known. `known` keeps the answers, since
    the same norm stands in every block of a model.
    """
    return _reduces(region) and not _bends_first(region) and _shown("norm", region, known, _ignores_scale)


def _bends_first(region: Region) -> bool:
    """Whether all of the start goes through a curved function first, so that it is this which is normalised."""
    last = {each: place for place, op in enumerate(region.ops) for each in op.operands.values()}
    curved = False
    for place, op in enumerate(region.ops[:-1]):
        curved = curved or bends(op)
        if curved and all(last.get(each, 0) <= place for each in (region.start, *region.ops[:place])):
            return True
    return False


def written_norms(dataflow: Dataflow) -> Mapping[Op, tuple[Op, ...]]:
    """The norms that are written out in simpler operations: the last one of each, with all of them."""
    return {end: tuple(region.ops) for end, region in _norms(dataflow).items()}


def norm_parameters(dataflow: Dataflow) -> frozenset[str]:
    """Gains and biases of norms that take none themselves: written out, or of torch's without affine parameters.

    A gain stands inside the norm, or multiplies what it gives, also as `1 + gain`. A bias, of one axis, is added to
    that. One number alone is neither.
    """
    met = {
        parameter: tuple(_met(dataflow, parameter))
        for parameter in dataflow.graph.nodes
        if parameter.op == "parameter" and any(size > 1 for size in parameter.params[0].shape)
    }
    if not any(met.values()):
        return frozenset()
    norms = _norms(dataflow)
    inside = {op for norm in norms.values() for op in norm.ops}
    ends = {*norms, *(op for op in dataflow.graph.nodes if op.role is Role.NORM and not _is_affine(op))}
    return frozenset(
        parameter.params[0].name
        for parameter, ops in met.items()
        if ops and all(op in inside or _completes(op, parameter, ends) for op in ops)
    )


def _norms(dataflow: Dataflow) -> dict[Op, Region]:
    """For the last operation of each written norm, the shortest region that is one."""
    regions, known = Regions(dataflow), dict[Any, bool]()
    norms: dict[Op, Region] = {}
    for start in dataflow.graph.nodes:
        if not start.signal or start not in regions.live:
            continue
        whole = regions.wide(start)
        found = [whole] if whole is not None and is_norm(whole, known) else regions.meetings(start)
        for region in found:
            if is_norm(region, known):
                norms[region.end] = min(norms.get(region.end, region), region, key=lambda each: len(each.ops))
    return norms


def _met(dataflow: Dataflow, parameter: Op) -> Iterator[Op]:
    """The operations where a parameter, or what is computed from it, first meets a signal."""
    waiting = [parameter]
    for here in waiting:
        for op in dataflow.graph.successors(here):
            if op.signal:
                yield op
            elif op not in waiting:
                waiting.append(op)


def _completes(op: Op, parameter: Op, ends: Collection[Op]) -> bool:
    """Whether an operation scales, or shifts by one number for each feature, what a norm gives."""
    if op.op == "add" and sum(size > 1 for size in parameter.params[0].shape) > 1:
        return False
    carrying = list({each for each in op.operands.values() if each.signal})
    scales = op.op in ("mul", "add", "addcmul", WEIGHTED_SUM) or (op.op == "einsum" and op.role is not Role.WEIGHT)
    return scales and len(carrying) == 1 and _unscaled(carrying[0]) in ends


def _unscaled(op: Op) -> Op:
    """What comes before casts, moves and factors that no signal gives."""
    while Trait.NEUTRAL in op.traits or op.acts == "rearranging" or Trait.SCALING in op.traits:
        carrying = [each for each in op.operands.values() if each.signal]
        if len(carrying) != 1:
            break
        (op,) = carrying
    return op


def _is_affine(norm: Op) -> bool:
    return bool(norm.params) or not norm.operands.keys().isdisjoint(("weight", "bias"))


def is_unit_norm(op: Op, regions: Regions) -> bool:
    """Whether an operation, alone or as the last of several, is a norm whose output has second moment 1."""
    if op.role is Role.NORM:
        return Trait.STANDARDISING in op.traits
    return any(
        region is not None and region.end is op and is_norm(region, {}) and _shown("unit", region, {}, _has_unit_power)
        for region in map(regions.wide, _before(op))
    )


def _before(op: Op) -> list[Op]:
    """Signals that come in before an operation, the nearest first; as many as a written norm has at most."""
    found = [op]
    for here in found:
        found += (each for each in here.operands.values() if each.signal and each not in found)
        if len(found) > _LONGEST:
            break
    return found[1:]


def is_softmax(region: Region, known: dict[Any, bool]) -> bool:
    """Whether the region ignores a constant added to its input, and its output (or the output's exp) sums to 1."""
    return _reduces(region) and _shown("softmax", region, known, _ignores_shift)


def cancels(region: Region, known: dict[Any, bool]) -> bool:
    """Whether nothing of the start is left behind operations that only move, add and scale: a sample less its mean."""
    differs = any(op.op in ("sub", "rsub", "neg") for op in region.ops)
    return differs and _shown("difference", region, known, _stays_when_scaled)


def _reduces(region: Region) -> bool:
    return any(op.acts == "reducing" or op.op == "logsumexp" for op in region.ops)


Phi = Callable[[torch.Tensor], Any]


def _shown(what: str, region: Region, known: dict[Any, bool], shows: Callable[[Phi, torch.Tensor], bool]) -> bool:
    key = (what, region.start.shape, region.key())
    if key not in known:
        tries = (_tried(shows, region.function(), shape) for shape in _shapes(region))
        if region.start.shape is None:
            known[key] = any(tries)
        else:
            known[key] = bool(next((shown for shown in tries if shown is not None), False))
    return known[key]


def _tried(shows: Callable[[Phi, torch.Tensor], bool], phi: Phi, shape: tuple[int, ...]) -> bool | None:
    """Whether it shows on a tensor of this shape; None if the region cannot be run on it."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    try:
        return shows(phi, x)
    except NOT_RUN:
        return None


def _shapes(region: Region) -> Iterator[tuple[int, ...]]:
    """Shapes to try, one by one until the region can be run.

    The traced shape, first with each long axis cut down whose size nothing in the region names; where it is not known,
    shapes that the region's own constants allow.
    """
    if region.start.shape is not None:
        named = _named_sizes(region)
        yield tuple(size if size in named else min(size, _LONG) for size in region.start.shape)
        yield region.start.shape
        return
    constants = (op for each in region.ops for op in each.operands.values() if not op.signal)
    width = max((op.shape[-1] for op in constants if op.shape), default=8)
    yield from ((3, 5, width), (3, width, 6, 6), (3, width))


def _named_sizes(region: Region) -> set[int]:
    """Sizes that constants of the region have, or are."""
    inside = {region.start, *region.ops}
    outside = (each for op in region.ops for each in op.operands.values() if each not in inside)
    return {size for each in outside for size in each.shape or ()} | {
        number for op in region.ops if op.call is not None for number in _numbers((op.call.args, op.call.kwargs))
    }


def _numbers(value: Any) -> Iterator[int]:
    """Whole numbers in nested arguments."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, Mapping):
        yield from _numbers(tuple(value.values()))


def _ignores_scale(phi: Phi, x: torch.Tensor) -> bool:
    """At most places of x itself, and at all places of a large one.

    Where what is normalised together is all but equal, as two features may be, its variance is no more than epsilon.
    """
    if not _is_like(once := phi(x), x) or float((once - once.flatten()[0]).abs().max()) <= 1e-6:
        return False
    return float(_changed(phi, x).median()) < 1e-3 and float(_changed(phi, 1e4 * x).max()) < 1e-3


def _changed(phi: Phi, x: torch.Tensor) -> torch.Tensor:
    """By how much the result changes when x is scaled, over its largest entry."""
    once, scaled = phi(x), phi(7.0 * x)
    changed: torch.Tensor = (once - scaled).abs() / once.abs().max()
    return changed


def _has_unit_power(phi: Phi, x: torch.Tensor) -> bool:
    return abs(float(phi(x).square().mean()) - 1) < 0.1


def _ignores_shift(phi: Phi, x: torch.Tensor) -> bool:
    once, shifted = phi(x), phi(x + 3.0)
    if not _is_like(once, x) or float((once - shifted).abs().max()) > 1e-6:
        return False
    shares = once if bool((once > 0).all()) else once.exp()
    return any(float((shares.sum(axis) - 1).abs().max()) < 1e-6 for axis in range(x.dim()))


def _stays_when_scaled(phi: Phi, x: torch.Tensor) -> bool:
    """With the same noise each time."""
    with torch.random.fork_rng(devices=()):
        once, thrice = (phi(scale * x) for scale in (1.0, 3.0) if torch.default_generator.manual_seed(0))
    return bool(torch.allclose(once, thrice, rtol=1e-4, atol=1e-6))


def _is_like(result: Any, x: torch.Tensor) -> bool:
    return isinstance(result, torch.Tensor) and result.shape == x.shape and bool(torch.isfinite(result).all())
