"""The walk: from a tensor forward to everything that it feeds.

What a tensor feeds does not depend on where the walk came from, so each tensor's answer is computed once and kept; the
cost is linear in the graph.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoinit.ops import Fact, Role, Trait
from autoinit.resolving._factors import factor_behind, factor_of, keeps_scale, slope
from autoinit.resolving._naming import NAMED, ending_of, ending_of_function, unresolved
from autoinit.resolving._regions import Region, Regions, is_curved, is_length, is_penalty, is_recombination
from autoinit.resolving.noise import noise_layers
from autoinit.resolving.normalising import cancels, is_norm, is_softmax
from autoinit.resolving.resolution import PENALTY, Ending, Reason
from autoinit.theory.activations import ACTIVATIONS, SOFTMAXES
from autoinit.tracing.dataflow import Dataflow, Op, only_steers
from autoinit.tracing.rerunning import NOT_RUN


@dataclass(frozen=True)
class Step:
    """One step from a tensor: to an ending, or (with `to`) on to another tensor.

    Attributes:
        via: names of the operations stepped over.
        normalised: whether one of them is a norm.
        splits: whether features may part on it.
        region: the operations stepped over, when they are several.
        factor: by how much they multiply the signal.
        keeps: whether they keep its scale otherwise.
    """

    via: tuple[str, ...]
    ending: Ending | None = None
    to: Op | None = None
    normalised: bool = False
    splits: bool = False
    region: Region | None = None
    factor: float = 1.0
    keeps: bool = True

    def before(self, ending: Ending) -> Ending:
        """An ending that is reached from where the step leads, as it is reached from where the step begins."""
        return ending.behind_step(self.via, normalised=self.normalised, factor=self.factor, keeps=self.keeps)


Endings = dict[Any, Ending]


class Walker:
    """Walks one Dataflow."""

    def __init__(self, dataflow: Dataflow) -> None:
        self.regions = Regions(dataflow)
        self.noise = noise_layers(dataflow)
        self._steps: dict[Op, tuple[Step, ...]] = {}
        self._feeds: dict[Op, Endings] = {}
        self._splits: dict[Op, bool] = {}
        self._known: dict[Any, bool] = {}
        self._differences: dict[Op, bool] = {}
        self._functions: dict[Any, Ending | None] = {}

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
            self._splits[here] = any(step.splits or (step.to is not None and self._splits[step.to]) for step in steps)
            stack.pop()

    def _gathered(self, steps: tuple[Step, ...]) -> Endings:
        found: Endings = {}
        for step in steps:
            reached = [step.ending] if step.ending is not None else self._feeds[step.to].values() if step.to else ()
            for ending in reached:
                add_ending(found, ending if step.ending is not None else step.before(ending))
        return found

    def steps(self, start: Op) -> tuple[Step, ...]:
        """The steps from a tensor."""
        if start not in self._steps:
            self._steps[start] = tuple(self._find_steps(start))
        return self._steps[start]

    def _find_steps(self, start: Op) -> Iterator[Step]:
        consumers: Sequence[Op] = self.regions.consumers(start)
        slots = [self.regions.graph.edges[start, consumer]["slots"] for consumer in consumers]
        if len(consumers) == 1 and (consumers[0].role is not Role.SPLIT and len(slots[0]) == 1):
            step = self._in_line(start, consumers[0])
            if step is not None:
                yield step
                return
        elif (meeting := self._meeting(start)) is not None:
            yield meeting
            return
        else:
            consumers = self._carrying(consumers)
            for region, step in self._met_again(start):
                if region.covers <= set(consumers):
                    yield step
                    consumers = [each for each in consumers if each not in region.covers]
            for region in self.regions.scalar(start):
                if is_curved(region) and (len(region.ops) > 1 or region.doubles):
                    if not region.covers.isdisjoint(consumers):
                        yield self._scalar(region)
                    consumers = [each for each in consumers if each not in region.covers]
        for consumer in consumers:
            taken = self.regions.graph.edges[start, consumer]["slots"]
            if self._scores(consumer):
                yield Step((consumer.name,), ending=_scored((consumer.name,)))
            elif consumer.added is start and taken == ("bias",):
                yield Step((consumer.name,), ending=Ending("linear", Reason.ADD, path=(consumer.name,)))
            elif not all(only_steers(consumer, slot) for slot in taken):
                step = (self._in_line(start, consumer) if len(taken) == 1 else None) or self._step_into(consumer)
                if step is not None:
                    yield step

    def _carrying(self, consumers: Sequence[Op]) -> Sequence[Op]:
        """Without those by which only a rank or a sign goes on (the distances of a nearest neighbour), if others do."""
        return [each for each in consumers if each in self.regions.carried] or consumers

    def _in_line(self, start: Op, consumer: Op) -> Step | None:
        """A run of elementwise operations that is a known function as a whole (`log(1 + exp(x))`)."""
        if consumer.acts != "elementwise":
            return None
        runs = [region for region in self.regions.runs(start, consumer) if is_curved(region)]
        longer = [region for region in runs if region.length > 1 or Trait.CHOOSING in region.end.traits]
        return next(filter(None, (self._named(region) for region in reversed(longer))), None)

    def _named(self, region: Region) -> Step | None:
        """A step to the region's end if it is an activation with a name, or over it if it is the identity."""
        ending = self._evaluated(region)
        if ending is None:
            factors = [factor_of(each) for each in region.ops]
            return None if _looks_straight(region, factors) else _over(region, math.prod(factors))
        return self._at(ending, region.ops) if ending.nonlinearity in NAMED else None

    def _at(self, ending: Ending, ops: tuple[Op, ...]) -> Step:
        """A step to an ending, which these operations are."""
        if _may_be_penalty(ending) and (is_penalty(self.regions, ops[-1]) or is_length(self.regions, ops[-1])):
            return Step(ending.path, ending=replace(ending, note=PENALTY))
        self.regions.activations.update(ops)
        if ending.reason is Reason.ACTIVATION:
            behind = factor_behind(self.regions, ops[-1], ending.gain)
            ending = ending if behind == ending.behind else replace(ending, behind=behind)
        return Step(ending.path, ending=ending)

    def _meeting(self, start: Op) -> Step | None:
        """A tensor that parts and meets itself again: a recombination, a norm, or softmax."""
        wide = self.regions.wide(start)
        if wide is None:
            return None
        if is_recombination(wide):
            return (
                Step(wide.path, ending=_scored(wide.path)) if cancels(wide, self._known) else _over(wide, slope(wide))
            )
        if is_norm(wide, self._known):
            return Step(wide.path, to=wide.end, normalised=True, region=wide)
        return self._softmax(wide)

    def _scores(self, op: Op) -> bool:
        """Whether an operation is the difference of a tensor and what it became by additions of noise."""
        if op.role is not Role.ADD or op.op not in ("sub", "rsub"):
            return False
        if op not in self._differences:
            regions = [self.regions.between(start, op) for start in op.operands.values()]
            self._differences[op] = any(
                each and is_recombination(each) and cancels(each, self._known) for each in regions
            )
        return self._differences[op]

    def _met_again(self, start: Op) -> Iterator[tuple[Region, Step]]:
        """Norms and softmaxes that are written out, and parts that are joined again, of a tensor that others take."""
        for region in self.regions.meetings(start):
            if is_norm(region, self._known):
                yield region, Step(region.path, to=region.end, normalised=True, region=region)
            elif (softmax := self._softmax(region)) is not None:
                yield region, softmax
            elif Trait.JOINING in region.end.traits and start.shape == region.end.shape and is_recombination(region):
                yield region, _over(region)

    def _softmax(self, region: Region) -> Step | None:
        if not is_softmax(region, self._known):
            return None
        return Step(region.path, ending=Ending("softmax", Reason.SOFTMAX, path=region.path))

    def _scalar(self, region: Region) -> Step:
        """A curved scalar function: by its name, if need be with what follows it in single file; or as custom."""
        longer = [Region(region.start, run.end, (*region.ops, *run.ops)) for run in self.regions.runs(region.end)]
        named = next(filter(None, (self._named(each) for each in reversed(longer))), None)
        if named is not None and named.ending is not None:
            return named
        more = self._continued(region.end)
        if more is not None:
            region = Region(region.start, more.end, (*region.ops, *more.ops))
        ending = self._evaluated(region)
        return _over(region) if ending is None else self._at(ending, region.ops)

    def _evaluated(self, region: Region) -> Ending | None:
        """The ending at a scalar function; each distinct one is evaluated once."""
        key = region.key()
        if key not in self._functions:
            self._functions[key] = self._evaluated_anew(region)
        ending = self._functions[key]
        if ending is None and region.assumes:
            return unresolved(f"a function of {region.assumes}, whose value is not known", region.path)
        if ending is None:
            return None
        note = f"the value of {region.assumes} is not known: 1 taken" if region.assumes else ending.note
        return replace(ending, path=region.path, note=note)

    def _evaluated_anew(self, region: Region) -> Ending | None:
        try:
            return ending_of_function(region.function(), region.path)
        except NOT_RUN as error:
            names = ", ".join(op.op for op in region.ops)
            return unresolved(f"the composite of {names} could not be evaluated: {error}", region.path)

    def _step_into(self, op: Op) -> Step | None:
        """The step that the operation's role prescribes; None where the branch carries no signal."""
        name = (op.name,)
        if op.role is Role.NONLINEARITY:
            return self._nonlinearity(op)
        if op in self.noise:
            return Step(name, to=op)
        if op.role in (Role.TRANSPARENT, Role.SPLIT, Role.NORM):
            if not op.signal:
                return None
            norm, split = op.role is Role.NORM, op.role is Role.SPLIT
            return Step(name, to=op, normalised=norm, splits=split, factor=factor_of(op), keeps=keeps_scale(op))
        if op.role is Role.UNKNOWN:
            note = (
                f"{op.op} (called {op.name}) is not in the table of operations: describe it with autoinit.register_op"
            )
            return Step(name, ending=unresolved(note, name))
        if Trait.RANKING in op.traits:
            return Step(name, ending=Ending("linear", Reason.UNUSED, path=name, note=RANKED))
        reason = _reason(op)
        if reason is None:
            return None
        return Step(name, ending=Ending("softmax" if reason is Reason.SOFTMAX else "linear", reason, path=name))

    def _nonlinearity(self, op: Op) -> Step:
        """This nonlinearity, with the elementwise operations that follow it if they change what it is."""
        if op.op in SOFTMAXES:
            return Step((op.name,), ending=Ending("softmax", Reason.SOFTMAX, path=(op.name,)))
        if op.op == "exp" and (wide := self._opened(op, self.regions.wide(op))) is not None:
            softmax = self._softmax(wide)
            if softmax is not None:
                return softmax
        if op.acts == "elementwise":
            before = self._opened(op, self._continued(op))
            if before is not None:
                return self._scalar(before)
        start = next((each for each in op.operands.values() if each.signal), op)
        ending = ending_of(op, Region(start, op, (op,)).function())
        return Step((op.name,), to=op) if ending is None else self._at(ending, (op,))

    def _continued(self, op: Op) -> Region | None:
        """What follows a nonlinearity and makes it another function: a power, a product with itself."""
        met = self.regions.elementwise(op)
        if met is not None and len(self.regions.consumers(op)) > 1 and is_curved(met):
            return met
        longest = None
        for run in self.regions.runs(op):
            if run.end.op in ACTIVATIONS or Fact.CLIPPING in run.end.facts:
                break
            if _continues(run.end):
                longest = run
        return longest

    @staticmethod
    def _opened(op: Op, region: Region | None) -> Region | None:
        """The region from the output of `op`, with `op` itself before it."""
        if region is None:
            return None
        before = next((each for each in op.operands.values() if each.signal), None)
        return Region(before, region.end, (op, *region.ops)) if before is not None else None


def _over(region: Region, factor: float = 1.0) -> Step:
    """A step over operations that only move, add and scale."""
    return Step(region.path, to=region.end, region=region, factor=factor, keeps=all(map(keeps_scale, region.ops)))


def _looks_straight(region: Region, factors: list[float]) -> bool:
    """Whether a function that is evaluated as straight is curved all the same: `sigmoid(0.01 * x)` at small x.

    One that is bounded far away is straight, and so may be several that undo each other (`log(exp(x))`).
    """
    bent = [op for op in region.ops if op.role is Role.NONLINEARITY and Fact.CLIPPING not in op.facts]
    return len(bent) == 1 or (bool(bent) and any(factor != 1 for factor in factors))


SCORED = "a sample less its own mean goes on, to be scored"
RANKED = "only compared or ranked (argmax, a threshold)"


def _scored(path: tuple[str, ...]) -> Ending:
    return Ending("linear", Reason.UNUSED, path=path, note=SCORED)


def _may_be_penalty(ending: Ending) -> bool:
    """Whether it is a power, or the magnitude."""
    return ending.nonlinearity in ("pow", "square") or ending.params.get("negative_slope") == -1


def _continues(op: Op) -> bool:
    """Whether an operation after a nonlinearity makes it another function; another activation does not."""
    changes = op.role in (Role.NONLINEARITY, Role.PRODUCT) or Trait.CHOOSING in op.traits or op.op == "real"
    return op.acts == "elementwise" and changes


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
    if op.ends:
        return Reason.OUTPUT
    return None


def add_ending(found: Endings, ending: Ending) -> None:
    """Keep one ending for each (nonlinearity, parameters, reason): the nearest; normalised if all ways are."""
    scale = round(ending.scale, 9)
    key = (ending.nonlinearity, tuple(sorted(ending.params.items())), scale, ending.reason, ending.note)
    known = found.get(key)
    if known is None:
        found[key] = ending
    else:
        nearest = min(known, ending, key=lambda each: len(each.path))
        found[key] = replace(nearest, normalised=known.normalised and ending.normalised)
