"""Regions: operations that start at one tensor and meet again, taken together as one function of it.

Three kinds matter to the walk. An elementwise region is a scalar function (`x * sigmoid(x)`, a hand-written GELU,
`relu(x) ** 2`): it is evaluated and named. A region that does not notice when its input is scaled is a norm
(`x * rsqrt(mean(x ** 2))`). A region that only moves, adds and scales by constants (rotary embedding) passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import networkx as nx
import torch

from autoinit.ops import Role, Trait
from autoinit.tracing.dataflow import LENDING, Dataflow, Op
from autoinit.tracing.noise import SHAPED_ONLY
from autoinit.tracing.rerunning import execute, substitute

_LIMIT = 64
_LONGEST_RUN = 8
_IGNORED = frozenset({"size", "assertion"})
_NONLINEAR = frozenset({Role.NONLINEARITY, Role.PRODUCT, Role.SINK})


@dataclass(frozen=True)
class Region:
    """Operations between `start` (outside) and `end` (inside), in order of execution."""

    start: Op
    end: Op
    ops: tuple[Op, ...]

    @property
    def length(self) -> int:
        """Number of operations that are more than casts."""
        return sum(Trait.NEUTRAL not in op.traits and op.signal for op in self.ops)

    @property
    def covers(self) -> frozenset[Op]:
        """The operations that take the start itself."""
        return frozenset(op for op in self.ops if self.start in op.operands.values())

    @property
    def doubles(self) -> bool:
        """Whether an operation takes the start twice (`x * x`)."""
        return any(list(op.operands.values()).count(self.start) > 1 for op in self.ops)

    @property
    def assumes(self) -> str:
        """Name of a parameter whose value is needed but unknown (on meta, or large), so that 1 stands for it."""
        inside = {self.start, *self.ops}
        waiting = [each for op in self.ops for each in op.operands.values()]
        while waiting:
            here = waiting.pop(0)
            if here.op == "parameter" and "value" not in here.constants:
                return here.params[0].name
            if here not in inside and here.op != "size":
                waiting += here.operands.values()
        return ""

    @property
    def path(self) -> tuple[str, ...]:
        """Names of its operations that carry the signal."""
        return tuple(op.name for op in self.ops if op.signal)

    def key(self) -> Any:
        """Equal for regions that compute the same: operations, constants, and which feeds which."""
        numbers = {op: number for number, op in enumerate((self.start, *self.ops))}

        def operand(op: Op) -> Any:
            return numbers.get(op, (op.op, op.shape, op.constants.get("value")))

        return tuple(
            (op.op, repr(op.constants), tuple((slot, operand(each)) for slot, each in op.operands.items()))
            for op in self.ops
        )

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
    if Trait.NEUTRAL in op.traits and inside:
        return inside[0].to(like.dtype) if op.op == "cast" and inside[0].dtype is torch.bool else inside[0]
    outside = {each: value_outside(each, like) for each in op.operands.values() if each not in values}
    if op.op == "setitem":
        return _written_over(op, {**values, **outside})
    return _spread(op, execute(op, {**values, **outside}), like)


def _spread(op: Op, result: Any, like: torch.Tensor) -> Any:
    """Equal numbers in the model's shape (`x.new_zeros(x.shape)`) as equal numbers in the shape evaluated at."""
    if op.op != "constant" or like.dim() != 1 or not isinstance(result, torch.Tensor) or not result.numel():
        return result
    number = result.reshape(-1)[0]
    return number.to(like.dtype).expand_as(like).clone() if bool((result == number).all()) else result


def _written_over(op: Op, values: dict[Op, Any]) -> Any:
    """`x[index] = value`, on a copy."""
    assert op.call is not None
    target, index, value = (substitute(each, values) for each in op.call.args)
    if isinstance(value, torch.Tensor) and value.shape == target.shape == getattr(index, "shape", None):
        return torch.where(index, value, target)  # one number for all places
    result = target.clone()
    result[index] = value
    return result


def value_outside(op: Op, like: torch.Tensor) -> Any:
    """The value of an operand that does not depend on the start."""
    if op.op in ("parameter", "buffer"):
        value = op.constants.get("value", 1.0)
        if op.shape and like.dim() > 1:
            return torch.full(op.shape, float(value), dtype=like.dtype)
        return torch.tensor(float(value), dtype=like.dtype)
    if op.op == "size" or (op.op in SHAPED_ONLY and any(each.signal for each in op.operands.values())):
        return execute(op, dict.fromkeys(op.operands.values(), like))
    if op.op == "output_in_place":  # the others only lend their shape
        return value_outside(op.operands["input"], like)
    if op.acts == "rearranging" and like.dim() == 1:  # one number stands for the parameter: there is nothing to move
        return value_outside(op.operands["input"], like)
    return _spread(op, execute(op, {each: value_outside(each, like) for each in op.operands.values()}), like)


def evaluable(op: Op) -> bool:
    """Whether an operand from outside the region has a value here: it is, or is computed from, constants alone."""
    if op.op in ("parameter", "buffer"):
        return op.op == "parameter" or "value" in op.constants
    if op.op == "size":
        return True
    if op.signal or op.role is Role.UNKNOWN or op.call is None or _is_undefined(op.call.target):
        return False
    if op.op == "constant":  # of its operands it takes the shape
        return True
    moves = op.acts == "rearranging" and (list(op.operands) == ["input"] or op.op in LENDING)
    if not moves and op.acts != "elementwise":
        return False
    return all(evaluable(each) for slot, each in op.operands.items() if slot == "input" or not moves)


def _is_undefined(target: Any) -> bool:
    """Whether a function makes a tensor of no particular values (`torch.empty`)."""
    return "empty" in str(getattr(target, "__name__", target))


class Regions:
    """Finds the regions of one Dataflow."""

    def __init__(self, dataflow: Dataflow) -> None:
        self.graph = dataflow.graph
        self.order = {op: position for position, op in enumerate(dataflow.graph.nodes)}
        self.live = _live(dataflow)
        self.carried = _carried(dataflow)
        self._consumers: dict[Op, tuple[Op, ...]] = {}
        self.activations: set[Op] = set()
        """Operations that have been taken together as activations."""

    def consumers(self, op: Op) -> tuple[Op, ...]:
        """Operations that take the output as more than a size, and whose own output is used."""
        found = self._consumers.get(op)
        if found is None:
            after = self.graph.successors(op)
            found = tuple(each for each in after if each in self.live and each.op not in _IGNORED)
            self._consumers[op] = found
        return found

    def elementwise(self, start: Op) -> Region | None:
        """The shortest scalar function of `start` that everything that takes it is part of."""
        ops = self._grown(start, _joins_elementwise)
        return next(filter(None, (self._closed(start, ops[:count]) for count in range(1, len(ops) + 1))), None)

    def scalar(self, start: Op) -> Iterator[Region]:
        """The scalar functions of a start that is taken several times: one for each group that meets again.

        A group with several ways out is as many functions.
        """
        for group in self._groups(self._grown(start, _joins_elementwise)):
            closed = next(
                filter(None, (self._closed(start, group[:count], group) for count in range(1, len(group) + 1))), None
            )
            if closed is not None:
                yield closed
                continue
            members = set(group)
            for end in group:
                leaves = end.signal and any(after not in members for after in self.consumers(end))
                if leaves and not _is_part(end, members, {start: False}):
                    needed = self._needed(end, start, {start, *group})
                    yield Region(start, end, tuple(op for op in group if op in needed))

    def _groups(self, ops: list[Op]) -> list[list[Op]]:
        """The operations, parted into those that are connected other than through the start."""
        inside = self.graph.subgraph(ops)
        return [sorted(group, key=self.order.__getitem__) for group in nx.weakly_connected_components(inside)]

    def runs(self, start: Op, first: Op | None = None) -> list[Region]:
        """The regions of elementwise operations that follow in single file, one more in each; at most eight.

        first: the operation that they begin with, where others take the start as well.
        """
        found: list[Region] = []
        ops: tuple[Op, ...] = ()
        after = (first,) if first is not None else self.consumers(start)
        while len(ops) < _LONGEST_RUN and len(after) == 1:
            here = after[0]
            if not _joins_elementwise(here, {start, *ops}):
                break
            ops = (*ops, here)
            if Trait.NEUTRAL not in here.traits and here.signal:
                found.append(Region(start, here, ops))
            after = self.consumers(here)
        return found

    def wide(self, start: Op) -> Region | None:
        """The shortest region with moves, reductions and concatenations in which `start` meets itself again."""
        ops = self._grown(start, _joins_wide)
        for count in range(1, len(ops) + 1):
            if len([each for each in ops[count - 1].operands.values() if each in ops or each is start]) > 1:
                region = self._closed(start, ops[:count])
                if region is not None:
                    return region
        return None

    def meetings(self, start: Op) -> Iterator[Region]:
        """Regions in which `start` meets itself again and nothing but their end goes on, whatever else takes it."""
        ops = self._grown(start, _joins_wide)
        members = {start, *ops}
        for end in ops:
            if end.signal and sum(each in members for each in set(end.operands.values())) > 1:
                needed = self._needed(end, start, members)
                if all(after in needed for op in needed - {end} for after in self.consumers(op)):
                    yield Region(start, end, tuple(op for op in ops if op in needed))

    def between(self, start: Op, end: Op) -> Region | None:
        """All that `end` is computed of from `start` alone, whatever else takes it; None if something else comes in."""
        ops = self._grown(start, _joins_wide)
        if end not in ops:
            return None
        needed = self._needed(end, start, {start, *ops})
        return Region(start, end, tuple(op for op in ops if op in needed))

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

    def _closed(self, start: Op, ops: list[Op], group: list[Op] | None = None) -> Region | None:
        """The region if all its output leaves through one operation, and none of the start's by another way.

        With a group, what takes the start outside the group does not count.
        """
        members = {start, *ops}
        exits = [op for op in ops if any(after not in members for after in self.consumers(op))]
        if any(after not in members and (group is None or after in group) for after in self.consumers(start)):
            return None
        if len(exits) != 1 or exits[0] is start or not exits[0].signal:
            return None
        if _is_part(exits[0], members, {start: False}):
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


def _live(dataflow: Dataflow) -> set[Op]:
    """Operations from which an output, a loss or a weight operation is reached. The rest is logged, or thrown away."""
    live: set[Op] = set()
    for op in reversed(list(dataflow.graph.nodes)):
        used = any(each in live and each.op not in _IGNORED for each in dataflow.graph.successors(op))
        if used or op.role in (Role.WEIGHT, Role.UNKNOWN) or op.ends:
            live.add(op)
    return live


def _carried(dataflow: Dataflow) -> set[Op]:
    """Operations whose values reach an output or a loss; not only their rank, sign or size, nor a demodulation."""
    carried: set[Op] = set()
    for op in reversed(list(dataflow.graph.nodes)):
        reached = any(
            each in carried
            and each.op not in _IGNORED
            and Trait.RANKING not in each.traits
            and each.operands.get(each.demodulated_by) is not op
            for each in dataflow.graph.successors(op)
        )
        if reached or op.role is Role.UNKNOWN or op.ends:
            carried.add(op)
    return carried


def _joins_elementwise(op: Op, members: set[Op]) -> bool:
    if op.op == "constant":
        return any(each in members for each in op.operands.values())
    if op.op == "size":
        return False
    if op.op in _PLACED:
        return op.operands.get("index") in members and all(
            each in members or evaluable(each) for each in op.operands.values()
        )
    if _is_taken_by(op, members):
        return True
    if op.acts != "elementwise" or op.role in (Role.WEIGHT, Role.UNKNOWN) or op.call is None:
        return False
    return all(each in members or evaluable(each) for each in op.operands.values())


_PLACED = frozenset({"setitem", "masked_scatter"})
"""Operations that write to the places where a condition holds."""
_TAKING = frozenset({"getitem", "gather"})


def _is_taken_by(op: Op, members: set[Op]) -> bool:
    """Whether an operation takes the elements for which a condition on them holds."""
    return op.op in _TAKING and len(op.operands) > 1 and all(each in members for each in op.operands.values())


def _is_part(op: Op, members: set[Op], known: dict[Op, bool]) -> bool:
    """Whether an operation of a region gives values for some of the start's elements alone."""
    if op not in known:
        held = [op.operands.get("input")] if op.op in _PLACED else op.operands.values()
        taken = _is_taken_by(op, members)
        known[op] = taken or any(
            each is not None and each in members and _is_part(each, members, known) for each in held
        )
    return known[op]


def _joins_wide(op: Op, members: set[Op]) -> bool:
    if op.acts not in ("elementwise", "rearranging", "reducing") and op.op not in ("constant", "setitem"):
        return False
    if op.role in (Role.WEIGHT, Role.UNKNOWN, Role.NORM) or op.call is None:
        return False
    return all(each in members or not each.signal for each in op.operands.values())


def is_recombination(region: Region) -> bool:
    """Whether the region only moves, adds, averages and scales by constants."""
    return not is_curved(region)


def is_penalty(regions: Regions, op: Op) -> bool:
    """Whether what an operation gives is only summed up, over features too, and returned: a penalty, a divergence."""
    waiting, seen, summed = [op], {op}, False
    while waiting:
        for after in regions.consumers(waiting.pop()):
            summed |= after.acts == "reducing"
            if after.ends or after in seen:
                continue
            if after.role not in (Role.TRANSPARENT, Role.ADD):
                return False
            seen.add(after)
            waiting.append(after)
    return summed


def is_length(regions: Regions, op: Op) -> bool:
    """Whether what an operation gives is summed up, and the sum added to something: `exp(z @ W - (z ** 2).sum(-1))`."""
    summed = False
    after = regions.consumers(op)
    while len(after) == 1 and after[0].role is Role.TRANSPARENT:
        summed |= after[0].acts == "reducing"
        after = regions.consumers(after[0])
    return summed and len(after) == 1 and after[0].role is Role.ADD


def is_curved(region: Region) -> bool:
    """Whether the region could be anything but linear, by its operations."""
    return any(map(bends, region.ops))


def bends(op: Op) -> bool:
    """Whether an operation could be anything but linear. A mask that is written through is itself such an operation."""
    return op.role in _NONLINEAR or (Trait.CHOOSING in op.traits and op.op != "setitem")
