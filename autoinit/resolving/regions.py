"""Regions: operations that start at one tensor and meet again, taken together as one function of it.

Three kinds matter to the walk. An elementwise region is a scalar function (`x * sigmoid(x)`, a hand-written GELU,
`relu(x) ** 2`): it is evaluated and named. A region that does not notice when its input is scaled is a norm
(`x * rsqrt(mean(x ** 2))`). A region that only moves, adds and scales by constants (rotary embedding) passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from autoinit.ops import Role
from autoinit.tracing.dataflow import Dataflow, Op
from autoinit.tracing.executing import execute

_LIMIT = 64
_NEUTRAL = frozenset({"cast", "identity", "dropout"})
_IGNORED = frozenset({"size", "assertion"})
_NONLINEAR = frozenset({Role.NONLINEARITY, Role.PRODUCT})


@dataclass(frozen=True)
class Region:
    """Operations between `start` (outside) and `end` (inside), in order of execution."""

    start: Op
    end: Op
    ops: tuple[Op, ...]

    @property
    def path(self) -> tuple[str, ...]:
        """Names of its operations that carry the signal."""
        return tuple(op.name for op in self.ops if op.signal)

    def function(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The region as a function of the start's value; casts and dropout are left out."""

        def phi(z: torch.Tensor) -> torch.Tensor:
            values: dict[Op, Any] = {self.start: z}
            for op in self.ops:
                values[op] = _evaluated(op, values, z)
            result: torch.Tensor = values[self.end]
            return result

        return phi


def _evaluated(op: Op, values: dict[Op, Any], like: torch.Tensor) -> Any:
    inside = [values[each] for each in op.operands.values() if each in values]
    if op.op in _NEUTRAL and inside:
        return inside[0]
    outside = {each: _constant(each, like) for each in op.operands.values() if each not in values}
    return execute(op, {**values, **outside})


def _constant(op: Op, like: torch.Tensor) -> Any:
    """The value of an operand that does not depend on the start."""
    if op.op in ("parameter", "buffer"):
        value = op.constants.get("value", 1.0)
        if op.shape and like.dim() > 1:
            return torch.full(op.shape, float(value), dtype=like.dtype)
        return torch.tensor(float(value), dtype=like.dtype)
    return execute(op, {each: _constant(each, like) for each in op.operands.values()})


def _is_affine(op: Op) -> bool:
    """A sum or product with constants that have a value."""
    scales = op.op in ("add", "sub", "rsub", "mul", "div") and op.role is Role.TRANSPARENT
    return scales and all(each.signal or _evaluable(each) for each in op.operands.values())


def _evaluable(op: Op) -> bool:
    """Whether an operand from outside the region has a value here."""
    if op.op in ("parameter", "buffer"):
        return op.op == "parameter" or "value" in op.constants
    return op.op in ("constant", "cast", "identity") and all(map(_evaluable, op.operands.values()))


class Regions:
    """Finds the regions of one Dataflow."""

    def __init__(self, dataflow: Dataflow) -> None:
        self.graph = dataflow.graph
        self.order = {op: position for position, op in enumerate(dataflow.graph.nodes)}

    def consumers(self, op: Op) -> Iterator[Op]:
        """Operations that take the output as more than a size."""
        return (after for after in self.graph.successors(op) if after.op not in _IGNORED)

    def elementwise(self, start: Op) -> Region | None:
        """The shortest scalar function of `start` that everything that takes it is part of."""
        ops = self._grown(start, _joins_elementwise)
        return next(filter(None, (self._closed(start, ops[:count]) for count in range(1, len(ops) + 1))), None)

    def scaled(self, region: Region) -> Iterator[Region]:
        """The region with the constant scales and shifts that follow it, one more each time."""
        while len(after := list(self.consumers(region.end))) == 1 and _is_affine(after[0]):
            region = Region(region.start, after[0], (*region.ops, after[0]))
            yield region

    def wide(self, start: Op) -> Region | None:
        """The shortest region with moves, reductions and concatenations in which `start` meets itself again."""
        ops = self._grown(start, _joins_wide)
        for count in range(2, len(ops) + 1):
            if len([each for each in ops[count - 1].operands.values() if each in ops or each is start]) > 1:
                region = self._closed(start, ops[:count])
                if region is not None:
                    return region
        return None

    def _grown(self, start: Op, joins: Callable[[Op, set[Op]], bool]) -> list[Op]:
        inside: list[Op] = []
        members = {start}
        waiting = sorted(self.consumers(start), key=self.order.__getitem__)
        while waiting and len(inside) < _LIMIT:
            here = waiting.pop(0)
            if here in members or not joins(here, members):
                continue
            members.add(here)
            inside.append(here)
            after = {*waiting, *self.consumers(here)} - members
            waiting = sorted(after, key=self.order.__getitem__)
        return inside

    def _closed(self, start: Op, ops: list[Op]) -> Region | None:
        """The region if all its output leaves through one operation, and none of the start's by another way."""
        members = {start, *ops}
        exits = [op for op in (start, *ops) if any(after not in members for after in self.consumers(op))]
        if len(exits) != 1 or exits[0] is start or not exits[0].signal:
            return None
        needed = self._needed(exits[0], start, members)
        return Region(start, exits[0], tuple(op for op in ops if op in needed))

    def _needed(self, end: Op, start: Op, members: set[Op]) -> set[Op]:
        needed: set[Op] = set()
        waiting = [end]
        while waiting:
            op = waiting.pop()
            if op in members and op is not start and op not in needed:
                needed.add(op)
                waiting.extend(op.operands.values())
        return needed


def _joins_elementwise(op: Op, members: set[Op]) -> bool:
    if op.op == "constant":
        return any(each in members for each in op.operands.values())
    if op.acts != "elementwise" or op.role in (Role.WEIGHT, Role.UNKNOWN) or op.call is None:
        return False
    return all(each in members or _evaluable(each) for each in op.operands.values())


def _joins_wide(op: Op, members: set[Op]) -> bool:
    if op.acts not in ("elementwise", "rearranging", "reducing") and op.op not in ("constant", "setitem"):
        return False
    if op.role in (Role.WEIGHT, Role.UNKNOWN, Role.NORM) or op.call is None:
        return False
    return all(each in members or not each.signal for each in op.operands.values())


def is_recombination(region: Region) -> bool:
    """Whether the region only moves, adds, averages and scales by constants."""
    return not any(op.role in _NONLINEAR for op in region.ops)


def is_norm(region: Region, seen: dict[Any, bool]) -> bool:
    """Whether the region's output stays as it is when its input is scaled (homogeneous of degree 0).

    Decided by running it on random tensors, of the traced shape where that is known. `seen` keeps the answers, since
    the same norm stands in every block of a model.
    """
    if not any(op.acts == "reducing" for op in region.ops):
        return False
    key = tuple((op.op, repr(sorted(op.constants.items(), key=str)), op.shape) for op in region.ops)
    found = seen.get(key)
    if found is None:
        found = seen[key] = any(_ignores_scale(region, shape) for shape in _shapes(region))
    return found


def _shapes(region: Region) -> Iterator[tuple[int, ...]]:
    if region.start.shape is not None:
        yield region.start.shape
        return
    widths = [op.shape[-1] for each in region.ops for op in each.operands.values() if not op.signal and op.shape]
    width = max(widths, default=8)
    yield from ((3, 5, width), (3, width, 6, 6), (3, width))


def _ignores_scale(region: Region, shape: tuple[int, ...]) -> bool:
    phi = region.function()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    try:
        once, scaled = phi(x), phi(7.0 * x)
    except (RuntimeError, TypeError, KeyError, IndexError, ValueError, AttributeError):
        return False
    if not isinstance(once, torch.Tensor) or once.shape != x.shape or not bool(torch.isfinite(once).all()):
        return False
    varies = float((once - once.flatten()[0]).abs().max()) > 1e-6
    return varies and float((once - scaled).abs().max()) < 1e-3 * float(once.abs().max())

