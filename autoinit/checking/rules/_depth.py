"""How a signal fares over depth: where it leaves a range for good, and what the layers on the way make of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from autoinit.checking._subject import Subject
from autoinit.ops import Fact, Role, Trait
from autoinit.signal.report import SignalReport
from autoinit.tracing.dataflow import Op

_FIX = 'autoinit(model, method="signal")'
MOST = 0.5
"""The share of the change, as a logarithm, from which on one layer is said to make most of it."""


class Leaving(NamedTuple):
    """A weight operation at which a signal leaves its range and from which it does not come back.

    Attributes:
        level: there.
        layers: how many weights the signal has passed.
        since: the norm behind which counting begins.
        factor: what each makes of it, as a geometric mean.
        worst: one that makes most of it, and its factor.
        sigmoids: whether a sigmoid is on the way, behind which no scale keeps what differs.
        fixed: whether weights whose scale no values change make most of it.
    """

    op: Op
    level: float
    layers: int
    since: Op | None
    factor: float
    worst: tuple[Op, float] | None
    sigmoids: bool
    fixed: bool


@dataclass(frozen=True, eq=False)
class Direction:
    """One direction through a dataflow.

    Attributes:
        order: the operations that carry a signal, from one end to the other.
        before: those that an operation's signal comes from.
        ends: where the signal comes out.
        levels: the size of the signal at operations, 0 where it is lost in rounding; that of an operation without one
            is taken to be that of the ones before it.
        opaque: operations behind which nothing is known.
        heads: those that no weight comes behind.
        fixed: those whose weights have the same scale whatever their values.
    """

    order: Sequence[Op]
    before: Callable[[Op], Iterable[Op]]
    ends: Iterable[Op]
    levels: Mapping[Op, float]
    opaque: frozenset[Op]
    heads: frozenset[Op]
    fixed: frozenset[Op]

    def vanishing(self, least: float) -> Op | None:
        """The first weight operation from which the signal stays below the least on some way to an end.

        A signal that is exactly zero there was made so.
        """
        first = self._first(lambda level: level < least)
        return first if first is not None and self.levels[first] > 0 and self._reached(first, least) else None

    def exploding(self, most: float) -> Op | None:
        """The first weight operation from which the signal stays above the most on some way to an end."""
        return self._first(lambda level: level > most or math.isnan(level))

    def _first(self, outside: Callable[[float], bool]) -> Op | None:
        stuck: set[Op] = set()
        waiting = list(self.ends)
        while waiting:
            op = waiting.pop()
            known = op in self.levels
            if op in stuck or op in self.opaque or (known and not outside(self.levels[op])):
                continue
            stuck.add(op)
            waiting.extend(self.before(op))
        return next(
            (
                op
                for op in self.order
                if op in stuck and _is_weight(op) and not math.isnan(self.levels.get(op, math.nan))
            ),
            None,
        )

    def _reached(self, op: Op, least: float) -> bool:
        """Whether anything before an operation is not below the least."""
        waiting, seen = [op], {op}
        while waiting:
            for each in self.before(waiting.pop()):
                if self.levels.get(each, 0.0) >= least:
                    return True
                if each not in seen:
                    seen.add(each)
                    waiting.append(each)
        return False

    def leaving(self, op: Op, *, counts_own: bool, stops: Callable[[Op], bool]) -> Leaving | None:
        """What happened on the way to an operation, where the signal was strongest.

        None where that is not the weights' doing, but that of parameters that multiply it, such as a small LayerScale,
        of one number, of one choice of positions, or of a head that starts small; or where the way comes through what
        could not be predicted.

        counts_own: whether the signal at an operation has passed its weight. stops: where counting begins.
        """
        way = self._way(op, stops)
        strengths = [self._strength(each) for each in way]
        start = strengths[-1] or 1.0
        total = strengths[0] / start
        steps = zip(way if counts_own else way[1:], itertools.pairwise(strengths), strict=False)
        changes = [(each, _log(one / other)) for each, (one, other) in steps if other]
        by_parameters = sum(change for each, change in changes if _is_scaled_by_parameter(each))
        excused = (_is_scaled(each) or (change < 0 and each in self.heads) for each, change in changes)
        by_one = max((abs(change) for (_, change), fine in zip(changes, excused, strict=True) if fine), default=0.0)
        if way[-1] in self.opaque or max(abs(by_parameters), by_one) > MOST * abs(_log(total)):
            return None
        weights = [each for each in way if _is_weight(each) and each in self.levels]
        levels = [self.levels[each] for each in weights]
        passed = weights if counts_own else weights[1:]
        ratios = itertools.pairwise([*levels, start] if counts_own else levels)
        factors = [one / other if other else math.inf for one, other in ratios]
        by_fixed = sum(_log(made) for each, made in zip(passed, factors, strict=True) if each in self.fixed)
        worst = max(zip(passed, factors, strict=True), key=lambda each: abs(_log(each[1])), default=None)
        if worst is not None and (len(passed) == 1 or abs(_log(worst[1])) < MOST * abs(_log(total))):
            worst = None
        return Leaving(
            op=op,
            level=levels[0],
            layers=len(passed),
            since=way[-1] if stops(way[-1]) else None,
            factor=total ** (1 / max(1, len(passed))),
            worst=worst,
            sigmoids=any(map(_is_sigmoid, way)),
            fixed=abs(by_fixed) > MOST * abs(_log(total)),
        )

    def _way(self, op: Op, stops: Callable[[Op], bool]) -> list[Op]:
        """From an operation back to where the signal comes from, always to the strongest one."""
        way = [op]
        while way[-1] not in self.opaque and (len(way) == 1 or not stops(way[-1])):
            found = list(self.before(way[-1]))
            if not found:
                break
            way.append(max(found, key=self._strength))
        return way

    def _strength(self, op: Op) -> float:
        """The level of an operation, or of what it passes on."""
        while op not in self.levels:
            found = list(self.before(op))
            if not found:
                return 0.0
            op = found[0]
        return self.levels[op]


def heads(subject: Subject) -> frozenset[Op]:
    """Weight operations that no weight comes behind."""
    return frozenset(op for name in subject.surroundings["final"] if _is_weight(op := subject.dataflow.by_name[name]))


def unpredicted(subject: Subject, signal: SignalReport) -> frozenset[Op]:
    """Operations that could not be computed."""
    ops = subject.dataflow.by_name
    return frozenset(ops[each.name] for each in signal.operations if each.note)


def of_fixed_scale(subject: Subject) -> frozenset[Op]:
    """Weight operations whose weight has the same scale whatever values it is given: weight_norm's g takes theirs."""
    ops = subject.dataflow.by_name
    normalised = {op for op in ops.values() for use in op.params if use.layout is not None and use.factor == 0}
    kinds = {layer.reparam: set[Op]() for layer in subject.plan.layers}
    for layer in subject.plan.layers:
        kinds[layer.reparam].update(ops[use] for use in layer.uses)
    return frozenset((normalised - kinds.get("weight_norm", set())) | kinds.get("spectral_norm", set()))


def described(leaving: Leaving) -> str:
    """`after 28 weight layers, each multiplying it by 0.49`."""
    behind = f" behind {leaving.since.name}" if leaving.since is not None else ""
    if leaving.layers == 1:
        return f"after 1 weight layer{behind}, which multiplies it by {leaving.factor:.2g}"
    most = f", most of it {leaving.worst[0].name} ({leaving.worst[1]:.1e} times)" if leaving.worst is not None else ""
    return f"after {leaving.layers} weight layers{behind}, each multiplying it by {leaving.factor:.2g} on average{most}"


def advice(leaving: Leaving) -> tuple[str, str]:
    """What to do, in words, and the code that does it, where there is such."""
    if leaving.fixed:
        return (
            "The weights on the way are normalised, so that no values change their scale: multiply them by another "
            "gain, or put norms between the layers.",
            "",
        )
    if leaving.sigmoids:
        return (
            "No scale keeps it behind sigmoids alone: put norms between the layers, add skip connections, or take a "
            f"nonlinearity that is zero at zero; then `{_FIX}`.",
            _FIX,
        )
    return f"Set: `{_FIX}`.", _FIX


def _is_sigmoid(op: Op) -> bool:
    return Fact.SHARE in op.facts and op.acts == "elementwise"


def _is_weight(op: Op) -> bool:
    return op.role is Role.WEIGHT


def _is_scaled(op: Op) -> bool:
    """Whether an operation multiplies the signal by what is no signal, or passes some of it on."""
    scales = Trait.SCALING in op.traits and sum(each.signal for each in op.operands.values()) == 1
    return scales or op.role in (Role.TRANSPARENT, Role.SPLIT)


def _is_scaled_by_parameter(op: Op) -> bool:
    others = [each for each in op.operands.values() if not each.signal]
    made = [*others, *(each for other in others for each in other.operands.values())]
    return Trait.SCALING in op.traits and any(each.op == "parameter" for each in made)


def _log(factor: float) -> float:
    return math.log(factor) if 0 < factor < math.inf else math.inf
