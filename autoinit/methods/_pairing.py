"""Which weights can be mirrored, and what is to be known of each: see `mirrored`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from autoinit.plans.layers import LayerPlan
from autoinit.resolving import Ending, Reason, Resolution, merge
from autoinit.resolving.features import InputAxis, Source, input_axis, output_axis
from autoinit.theory.pointwise import evaluate
from autoinit.tracing import Dataflow, Op

Feeds = Callable[[Op], list[Ending]]
"""Every ending of the walks from an operation."""

_LINEAR = (Reason.ADD, Reason.OUTPUT, Reason.WEIGHT, Reason.SOFTMAX)

_AXES = ("oi", "io", "oik", "oikk", "oikkk", "iok", "iokk", "iokkk")


@dataclass(frozen=True)
class MirrorableLayer:
    """A weight that may be mirrored.

    uses: the operations that use it. ending: what it feeds; for a gate, the ending at the product; where its output is
    added to others' before a nonlinearity, that nonlinearity's. ends: for each use the operation that ends the
    nonlinearity; None where there is none. factor: by which the operations see the weight. gate: the distance in
    features from what is gated to its gate; 0 where there is none. summed: whether others' outputs are added to its own
    before the nonlinearity, at one use at least.
    """

    plan: LayerPlan
    uses: tuple[Op, ...]
    ending: Ending
    ends: tuple[Op | None, ...]
    factor: float
    gate: int = 0
    summed: bool = False

    @property
    def bends(self) -> bool:
        """Whether it feeds a nonlinearity."""
        return self.ends[0] is not None

    @property
    def transposed(self) -> bool:
        """Whether it is the weight of a transposed convolution."""
        return self.plan.axes.startswith("iok")

    @property
    def outputs(self) -> int:
        """Output features."""
        return self.plan.shape[self.plan.axes.index("o")] * (self.plan.groups if self.transposed else 1)

    @property
    def inputs(self) -> int:
        """Input features."""
        return self.plan.shape[self.plan.axes.index("i")] * (1 if self.transposed else self.plan.groups)

    @property
    def features(self) -> int:
        """How many output features its readers see."""
        return self.outputs // 2 if self.gate else self.outputs

    @property
    def first(self) -> int:
        """The first of the output features that its readers see."""
        return max(0, -self.gate)

    @property
    def spread(self) -> int:
        """Of a transposed convolution: over how many output positions each input position is one of."""
        return self.plan.stride_area if self.transposed else 1

    @property
    def groups(self) -> int:
        """Groups that the output features which readers see fall into."""
        return self.plan.groups // 2 if self.gate and self.plan.groups > 1 else self.plan.groups

    @property
    def kernel(self) -> tuple[int, ...]:
        """Of a convolution."""
        return tuple(size for size, axis in zip(self.plan.shape, self.plan.axes, strict=True) if axis == "k")

    def straight(self) -> MirrorableLayer:
        """The same without a nonlinearity behind its sum."""
        ending = replace(self.ending, reason=Reason.ADD, nonlinearity="linear", before=1.0, function=None)
        return replace(self, ending=ending, ends=(None,) * len(self.uses), summed=False)

    def sources(self) -> Iterator[Source]:
        """Its output features, at each use."""
        for op, end in zip(self.uses, self.ends, strict=True):
            yield Source(op, self.outputs, output_axis(op, self.plan.param), end, self.gate)

    def readings(self) -> Iterator[tuple[Op, InputAxis]]:
        """How each use reads its input."""
        for op in self.uses:
            reading = input_axis(op, self.plan.param)
            assert reading is not None
            yield op, reading


def mirrorable(plan: LayerPlan, resolution: Resolution, dataflow: Dataflow, feeds: Feeds) -> MirrorableLayer | str:
    """A weight that may be mirrored, or why it cannot be."""
    uses = tuple(op for name in plan.uses if (op := dataflow.by_name.get(name)) is not None)
    gate = _gate(resolution) if len(uses) == 1 else None
    why = _unfit(plan, resolution, uses, gated=gate is not None)
    if why:
        return why
    factor = resolution.factor or 1.0
    if gate is not None:
        ending, distance = gate
        if plan.groups > 1 and plan.groups % 2:
            return "what is gated shares a group with its gates"
        return MirrorableLayer(plan, uses, ending, (dataflow.by_name[ending.path[-1]],), factor, distance)
    found = [_behind(op, dataflow, feeds) for op in uses]
    bent = {_function(ending) for ending, _ in found if ending.reason is Reason.ACTIVATION}
    if not bent and resolution.reason in _LINEAR:
        return MirrorableLayer(plan, uses, resolution.ending, (None,) * len(uses), factor)
    if len(bent) != 1 or any(ending.reason is not Reason.ACTIVATION for ending, _ in found):
        return f"it feeds {plan.reason}" if len(uses) == 1 else f"its {len(uses)} uses feed different things"
    ends = tuple(dataflow.by_name[ending.path[-1]] for ending, _ in found)
    return MirrorableLayer(plan, uses, found[0][0], ends, factor, summed=any(behind_sum for _, behind_sum in found))


def _unfit(plan: LayerPlan, resolution: Resolution, uses: tuple[Op, ...], *, gated: bool) -> str:
    """Why a weight cannot be mirrored, whatever lies around it."""
    layouts = {use.layout for op in uses for use in op.params if use.name == plan.param}
    problems = (
        (bool(plan.reparam), f"its module computes it ({plan.reparam})"),
        (plan.axes not in _AXES, f"{plan.op} has no single matrix"),
        (bool(plan.slices) and not gated, "parts of its output feed different things"),
        (len(layouts) > 1, f"its {len(uses)} uses read it in different ways"),
        (not resolution.factor, "its scale does not reach the operation"),
        (plan.normalised, "a norm follows: nothing to gain"),
        (
            not uses
            or any(op.shape is None or len(_weights(op)) > 1 for op in uses)
            or any(input_axis(op, plan.param) is None for op in uses),
            f"what is read and made inside of {plan.op} is not followed",
        ),
    )
    return next((text for problem, text in problems if problem), "")


def _weights(op: Op) -> list[str]:
    return [use.name for use in op.params if use.layout is not None]


def _function(ending: Ending) -> object:
    return ending.nonlinearity, tuple(sorted(ending.params.items())), round(ending.before, 9)


def _behind(op: Op, dataflow: Dataflow, feeds: Feeds) -> tuple[Ending, bool]:
    """What a use of a weight feeds, and whether sums with others' outputs come before it."""
    endings = feeds(op)
    if len(endings) != 1:
        return merge(endings)[0], False
    summed = False
    while len(endings) == 1 and endings[0].reason is Reason.ADD:
        behind = feeds(dataflow.by_name[endings[0].path[-1]])
        if len(behind) != 1 or behind[0].normalised or behind[0].reason not in (Reason.ADD, Reason.ACTIVATION):
            return endings[0], False
        summed, endings = True, behind
    return endings[0], summed


def _gate(resolution: Resolution) -> tuple[Ending, int] | None:
    """The ending at the product, and the distance in features, where one half of the features gates the other.

    What passes is u (g(v) + g(-v)) for a pair: u, if g(v) + g(-v) = 1 as for a sigmoid.
    """
    gated = next((each for each in resolution.slices if each.ending.reason is Reason.GATE), None)
    gating = next((each for each in resolution.slices if each.ending.reason is Reason.ACTIVATION), None)
    if len(resolution.slices) != 2 or gated is None or gating is None or gating.ending.function is None:
        return None
    if len(gated.rows) != 1 or len(gating.rows) != 1 or gated.alternatives or gating.alternatives:
        return None
    points = np.linspace(-4.0, 4.0, 81)
    both = evaluate(gating.ending.function, points, "gate") + evaluate(gating.ending.function, -points, "gate")
    (start, stop), (other_start, other_stop) = gated.rows[0], gating.rows[0]
    if stop - start != other_stop - other_start or not np.allclose(both, 1.0, atol=1e-6):
        return None
    return gated.ending, other_start - start


@dataclass(frozen=True)
class Share:
    """The share of the variance that a place asks for, which one layer gives: `part` over `steps`."""

    part: float = 1.0
    steps: int = 1


def share_of_sum(layer: MirrorableLayer, layers: Iterable[MirrorableLayer], recurrent: Collection[str]) -> Share:
    """What a layer gives to the sum in front of its nonlinearity.

    Of n layers 1 / n each. A recurrence gives all of its own, so that it keeps its state over any number of steps; what
    drives it adds up over the steps.

    recurrent: parameters of the layers that read what they have made before.
    """
    if not layer.summed:
        return Share()
    terms = [each for each in layers if each.summed and not set(each.ends).isdisjoint(layer.ends)]
    again = sum(each.plan.param in recurrent for each in terms)
    if layer.plan.param in recurrent:
        return Share(1 / again)
    return Share(1 / (len(terms) - again), len(layer.uses) if again else 1)


def pads(layer: MirrorableLayer) -> bool:
    """Whether a convolution reads zeros beyond its input, or gives outputs that read less than others."""
    paddings = [op.constants.get("padding", 0) for op in layer.uses]
    return layer.transposed or any(
        each == "same" or (not isinstance(each, str) and np.any(np.asarray(each)).item()) for each in paddings
    )
