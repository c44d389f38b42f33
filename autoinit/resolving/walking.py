"""The walk: from a tensor forward to everything that it feeds.

What a tensor feeds does not depend on where the walk came from, so each tensor's answer is computed once and kept; the
cost is linear in the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from autoinit.ops import Role
from autoinit.resolving.naming import SOFTMAX, ending_of, ending_of_function, unresolved
from autoinit.resolving.regions import Region, Regions, is_norm, is_recombination
from autoinit.resolving.resolution import Ending, Reason
from autoinit.theory.activations import ACTIVATIONS
from autoinit.tracing.dataflow import Dataflow, Op

_IGNORED_SLOTS = {
    "where": {"condition"},
    "masked_fill": {"mask"},
    "softmax_loss": {"target", "weight"},
    "gather": {"index"},
}


@dataclass(frozen=True)
class Step:
    """One step from a tensor: to an ending, or (with `to`) on to another tensor.

    via: names of the operations stepped over. normalised: whether one of them is a norm. splits: whether features may
    part on it. region: the operations stepped over, when they are several.
    """

    via: tuple[str, ...]
    ending: Ending | None = None
    to: Op | None = None
    normalised: bool = False
    splits: bool = False
    region: Region | None = None


Endings = dict[Any, Ending]


class Walker:
    """Walks one Dataflow."""

    def __init__(self, dataflow: Dataflow) -> None:
        self.regions = Regions(dataflow)
        self._steps: dict[Op, tuple[Step, ...]] = {}
        self._feeds: dict[Op, Endings] = {}
        self._splits: dict[Op, bool] = {}
        self._norms: dict[Any, bool] = {}

    def feeds(self, start: Op) -> list[Ending]:
        """Every distinct ending of the walks from this tensor, nearest first."""
        self._complete(start)
        return sorted(self._feeds[start].values(), key=lambda ending: len(ending.path))

    def splits_ahead(self, start: Op) -> bool:
        """Whether the features may part before the walks end."""
        self._complete(start)
        return self._splits[start]

    def _complete(self, start: Op) -> None:
        """Answer for `start`, after all that it depends on; a stack in place of recursion, since graphs are deep."""
        stack = [start]
        while stack:
            here = stack[-1]
            if here in self._feeds:
                stack.pop()
                continue
            steps = self.steps(here)
            missing = [step.to for step in steps if step.to is not None and step.to not in self._feeds]
            if missing:
                stack.extend(missing)
                continue
            self._feeds[here] = self._gathered(steps)
            self._splits[here] = any(
                step.splits or (step.to is not None and self._splits[step.to]) for step in steps
            )
            stack.pop()

    def _gathered(self, steps: tuple[Step, ...]) -> Endings:
        found: Endings = {}
        for step in steps:
            reached = [step.ending] if step.ending is not None else self._feeds[step.to].values() if step.to else ()
            for ending in reached:
                if step.ending is None:
                    ending = replace(
                        ending, path=step.via + ending.path, normalised=ending.normalised or step.normalised
                    )
                add_ending(found, ending)
        return found

    def steps(self, start: Op) -> tuple[Step, ...]:
        """The steps from a tensor."""
        if start not in self._steps:
            self._steps[start] = tuple(self._find_steps(start))
        return self._steps[start]

    def _find_steps(self, start: Op) -> Iterator[Step]:
        consumers = list(self.regions.consumers(start))
        together = self._together(start, consumers)
        if together is not None:
            yield together
            return
        for consumer in consumers:
            slots = self.regions.graph.edges[start, consumer]["slots"]
            if all(slot in _IGNORED_SLOTS.get(consumer.op, ()) for slot in slots):
                continue
            step = self._step_into(consumer)
            if step is not None:
                yield step

    def _together(self, start: Op, consumers: list[Op]) -> Step | None:
        """All consumers as one region: an activation, a norm, or a mere recombination."""
        if len(consumers) < 2 and not (consumers and consumers[0].role is Role.SPLIT):
            return None
        region = self.regions.elementwise(start) if len(consumers) > 1 else None
        if region is not None:
            return self._scalar(region)
        wide = self.regions.wide(start)
        if wide is None:
            return None
        if is_recombination(wide):
            return Step(wide.path, to=wide.end, region=wide)
        if is_norm(wide, self._norms):
            return Step(wide.path, to=wide.end, normalised=True, region=wide)
        return None

    def _scalar(self, region: Region) -> Step:
        """A scalar function: by its name, if need be with the scaling that follows it; otherwise as custom."""
        if not any(op.role in (Role.NONLINEARITY, Role.PRODUCT) or op.op in _KINKED for op in region.ops):
            return Step(region.path, to=region.end, region=region)
        whole = self._evaluated(region)
        if whole is None:
            return Step(region.path, to=region.end, region=region)
        if whole.nonlinearity == "custom":
            for scaled in self.regions.scaled(region):
                named = self._evaluated(scaled)
                if named is not None and named.nonlinearity != "custom":
                    return Step(scaled.path, ending=named)
        return Step(region.path, ending=whole)

    def _evaluated(self, region: Region) -> Ending | None:
        try:
            return ending_of_function(region.function(), region.path)
        except (RuntimeError, TypeError, KeyError, IndexError, ValueError, AttributeError) as error:
            names = ", ".join(op.op for op in region.ops)
            return unresolved(f"the composite of {names} could not be evaluated: {error}", region.path)

    def _step_into(self, op: Op) -> Step | None:
        """The step that the operation's role prescribes; None where the branch carries no signal."""
        name = (op.name,)
        if op.role is Role.NONLINEARITY:
            return self._nonlinearity(op)
        if op.role in (Role.TRANSPARENT, Role.SPLIT, Role.NORM):
            if not op.signal:
                return None
            return Step(name, to=op, normalised=op.role is Role.NORM, splits=op.role is Role.SPLIT)
        if op.role is Role.UNKNOWN:
            note = f"{op.op} (called {op.name}) is not in the table of operations: describe it with autoinit.register_op"
            return Step(name, ending=unresolved(note, name))
        if op.op in _RANKINGS:
            return Step(name, ending=Ending("linear", Reason.UNUSED, path=name, note=RANKED))
        reason = _reason(op)
        if reason is None:
            return None
        return Step(name, ending=Ending("softmax" if reason is Reason.SOFTMAX else "linear", reason, path=name))

    def _nonlinearity(self, op: Op) -> Step:
        """This nonlinearity, with the elementwise operations that follow it if they change what it is."""
        after = list(self.regions.consumers(op))
        if op.op not in SOFTMAX and op.acts == "elementwise" and any(_continues(each) for each in after):
            region = self._chain(op)
            if region is not None:
                return self._scalar(region)
        ending = ending_of(op)
        return Step((op.name,), to=op) if ending is None else Step((op.name,), ending=ending)

    def _chain(self, op: Op) -> Region | None:
        """The elementwise region that `op` itself opens."""
        region = self.regions.elementwise(op)
        if region is None:
            return None
        before = next((each for each in op.operands.values() if each.signal), None)
        return Region(before, region.end, (op, *region.ops)) if before is not None else None


RANKED = "only compared or ranked (argmax, a threshold)"
_RANKINGS = frozenset({"index", "comparison", "rounding"})
_KINKED = frozenset({"where", "maximum", "minimum", "fmax", "fmin", "masked_fill"})


def _continues(op: Op) -> bool:
    """Whether an operation right after an activation makes it another function: a power, a product with itself.

    Another activation does not; the walk ends at the first.
    """
    if op.op in ACTIVATIONS or op.op.startswith("clamp"):
        return False
    return op.acts == "elementwise" and (op.role in (Role.NONLINEARITY, Role.PRODUCT) or op.op in _KINKED)


def _reason(op: Op) -> Reason | None:
    """Why a walk ends at an operation that is neither passed nor a nonlinearity."""
    if op.role is Role.WEIGHT:
        return Reason.WEIGHT
    if op.role is Role.ADD:
        return Reason.ADD
    if op.role is Role.PRODUCT:
        return Reason.GATE if op.acts == "elementwise" else Reason.ATTENTION
    if op.op == "softmax_loss":
        return Reason.SOFTMAX
    if op.op in ("output", "loss"):
        return Reason.OUTPUT
    return None


def add_ending(found: Endings, ending: Ending) -> None:
    """Keep one ending for each (nonlinearity, parameters, reason): the nearest; normalised if all ways are."""
    key = (ending.nonlinearity, tuple(sorted(ending.params.items())), ending.reason, ending.note)
    known = found.get(key)
    if known is None:
        found[key] = ending
    else:
        nearest = min(known, ending, key=lambda each: len(each.path))
        found[key] = replace(nearest, normalised=known.normalised and ending.normalised)
