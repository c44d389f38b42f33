"""Which weights can be mirrored, and what is to be known of each: see `mirrored`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from autoinit.methods._gates import Feeds, Part, Products, gate_in_one, gated_rows, part_of_product
from autoinit.methods._partners import Numbers
from autoinit.ops import Role
from autoinit.plans.layers import LayerPlan
from autoinit.resolving import Ending, Reason, Resolution, merge
from autoinit.resolving.axes import InputAxis, input_axis, output_axis
from autoinit.resolving.features import Source
from autoinit.tracing import Dataflow, Op

_LINEAR = (Reason.ADD, Reason.OUTPUT, Reason.WEIGHT, Reason.SOFTMAX)

_FED: Mapping[str, str] = {Reason.GATE: "a product with what another weight makes", Reason.MIXED: "several things"}

_AXES = ("oi", "io", "oik", "oikk", "oikkk", "iok", "iokk", "iokkk")


@dataclass(frozen=True)
class MirrorableLayer:
    """A weight that may be mirrored.

    uses: the operations that use it. ending: what it feeds; for a gate, the ending at the product; where its output is
    added to others' before a nonlinearity, that nonlinearity's. ends: for each use the operations that end the
    nonlinearity, several where parts of the output are bent one by one; none where there is none. factor: by which the
    operations see the weight. gate: the distance in features from what is gated to its gate; 0 where there is none.
    summed: whether others' outputs are added to its own before the nonlinearity, at one use at least. part: what it
    gives to a product with what another weight makes. reads_only: why its outputs cannot be paired whatever reads them;
    its columns can be all the same. rows: of such a one whose rows feed different things, runs of rows and by how much
    each is multiplied before its nonlinearity. through: whether a depthwise convolution lies before its nonlinearity.
    """

    plan: LayerPlan
    uses: tuple[Op, ...]
    ending: Ending
    ends: tuple[frozenset[Op], ...]
    factor: float
    gate: int = 0
    summed: bool = False
    part: Part = ""
    reads_only: str = ""
    rows: tuple[tuple[int, int, float], ...] = ()
    through: bool = False

    @property
    def bends(self) -> bool:
        """Whether it feeds a nonlinearity."""
        return bool(self.ends[0])

    @property
    def all_ends(self) -> frozenset[Op]:
        """Of all its uses."""
        return frozenset().union(*self.ends)

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
    def rows_read(self) -> Numbers:
        """The output features that its readers see; of a gate, what is gated."""
        return gated_rows(self.features, self.gate) if self.gate else np.arange(self.outputs)

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

    @property
    def carries(self) -> bool:
        """Whether it is a depthwise convolution: of pairs it makes pairs."""
        special = self.reads_only or self.transposed or self.gate or self.part or self.summed
        return not special and len(self.uses) == 1 and self.plan.groups == self.inputs > 1

    def straight(self) -> MirrorableLayer:
        """The same without a nonlinearity behind its sum, or behind a depthwise convolution."""
        ending = replace(self.ending, reason=Reason.ADD, nonlinearity="linear", before=1.0, function=None)
        return replace(self, ending=ending, ends=(frozenset(),) * len(self.uses), summed=False, through=False)

    def sources(self) -> Iterator[Source]:
        """Its output features, at each use."""
        for op, ends in zip(self.uses, self.ends, strict=True):
            axis = output_axis(op, self.plan.param)
            yield Source(op, self.outputs, axis, ends, self.gate, gates=self.part == "gates")

    def readings(self) -> Iterator[tuple[Op, InputAxis]]:
        """How each use reads its input."""
        for op in self.uses:
            reading = input_axis(op, self.plan.param)
            assert reading is not None
            yield op, reading


def mirrorable(
    plan: LayerPlan, resolution: Resolution, dataflow: Dataflow, feeds: Feeds, products: Products
) -> MirrorableLayer | str:
    """A weight that may be mirrored, or why it cannot be."""
    uses = tuple(op for name in plan.uses if (op := dataflow.by_name.get(name)) is not None)
    gate = gate_in_one(resolution, dataflow) if len(uses) == 1 else None
    why = _unfit(plan, resolution, uses)
    if why:
        return why
    factor = resolution.factor or 1.0

    def reading_only(reason: str) -> MirrorableLayer:
        return MirrorableLayer(plan, uses, resolution.ending, (frozenset(),) * len(uses), factor, reads_only=reason)

    if plan.status == "kept":
        return reading_only("it is zero")
    if any(part.reason == Reason.ATTENTION for part in (plan, *plan.slices)):
        return "it feeds attention"
    if gate is not None:
        ending, product, distance = gate
        if plan.groups > 1 and (plan.groups % 2 or abs(distance) != plan.size("o") // 2):
            return reading_only("what is gated shares a group with its gates")
        return MirrorableLayer(plan, uses, ending, (frozenset({product}),), factor, distance)
    if plan.slices and (alike := _bent_alike(resolution)):
        bent = frozenset(dataflow.by_name[part.ending.path[-1]] for part in resolution.slices)
        return MirrorableLayer(plan, uses, alike, (bent,), factor)
    if plan.slices:
        why = "parts of its output feed different things"
        runs = sorted((*run, part.ending.before) for part in resolution.slices for run in part.rows)
        covered = sum(stop - start for start, stop, _ in runs) == plan.size("o") and plan.groups == 1
        return replace(reading_only(why), rows=tuple(runs)) if covered else why
    found = [_behind(op, dataflow, feeds, products) for op in uses]
    if len(uses) == 1 and (behind := _behind_depthwise(found[0][0], dataflow, feeds)) is not None:
        bent = _with_twins(dataflow.by_name[behind.path[-1]], dataflow)
        return MirrorableLayer(plan, uses, behind, (bent,), factor, through=True)
    curves = {(_function(ending), part) for ending, _, part, _ in found if ending.reason is Reason.ACTIVATION or part}
    if not curves and resolution.reason in _LINEAR:
        return MirrorableLayer(plan, uses, resolution.ending, (frozenset(),) * len(uses), factor)
    if len(curves) != 1 or not all(ending.reason is Reason.ACTIVATION or part for ending, _, part, _ in found):
        return reading_only(
            f"it feeds {_FED.get(plan.reason, plan.reason)}"
            if len(uses) == 1
            else f"its {len(uses)} uses feed different things"
        )
    ends = tuple(
        frozenset({product}) if product is not None else _with_twins(dataflow.by_name[ending.path[-1]], dataflow)
        for ending, _, _, product in found
    )
    ending, _, part, _ = found[0]
    return MirrorableLayer(plan, uses, ending, ends, factor, summed=any(each[1] for each in found), part=part)


def _behind_depthwise(ending: Ending, dataflow: Dataflow, feeds: Feeds) -> Ending | None:
    """Of a walk that ends at a depthwise convolution: the nonlinearity that this feeds, which makes up for factors."""
    if ending.reason is not Reason.WEIGHT:
        return None
    op = dataflow.by_name[ending.path[-1]]
    depthwise = op.constants.get("groups", 1) > 1 and all(
        use.shape[1] == 1 for use in op.params if use.slot == "weight"
    )
    behind = feeds(op) if depthwise else []
    plain = len(behind) == 1 and behind[0].reason is Reason.ACTIVATION and not behind[0].normalised
    return replace(behind[0], before=1.0) if plain else None


def _with_twins(end: Op, dataflow: Dataflow) -> frozenset[Op]:
    """A nonlinearity, and the same one where it is computed of the same signal again."""
    if end.role is not Role.NONLINEARITY:
        return frozenset({end})
    read = (operand for operand in end.operands.values() if operand.signal)
    beside = (each for operand in read for each in dataflow.graph.successors(operand))
    return frozenset({end, *(each for each in beside if _curve(each) == _curve(end))})


def _curve(op: Op) -> object:
    return op.op, op.params, repr(op.constants)


def _bent_alike(resolution: Resolution) -> Ending | None:
    """The ending of a weight of one use whose parts feed the same nonlinearity, one by one."""
    first, *others = (part.ending for part in resolution.slices)
    same = len(resolution.uses) == 1 and not any(part.alternatives for part in resolution.slices)
    bent = first.reason is Reason.ACTIVATION and all(each.reason is Reason.ACTIVATION for each in others)
    return first if same and bent and all(_function(each) == _function(first) for each in others) else None


def _unfit(plan: LayerPlan, resolution: Resolution, uses: tuple[Op, ...]) -> str:
    """Why a weight cannot be mirrored, whatever lies around it."""
    layouts = {use.layout for op in uses for use in op.params if use.name == plan.param}
    problems = (
        (bool(plan.reparam), f"its module computes it ({plan.reparam})"),
        (plan.axes not in _AXES, f"{plan.op} has no single matrix"),
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


def _behind(op: Op, dataflow: Dataflow, feeds: Feeds, products: Products) -> tuple[Ending, bool, Part, Op | None]:
    """What a use of a weight feeds; whether sums with others' outputs come before it; its part in a product."""
    endings = feeds(op)
    if len(endings) != 1:
        return merge(endings)[0], False, "", None
    summed = False
    while len(endings) == 1 and endings[0].reason is Reason.ADD:
        behind = feeds(dataflow.by_name[endings[0].path[-1]])
        known = (Reason.ADD, Reason.ACTIVATION)
        if len(behind) != 1 or behind[0].normalised:
            return endings[0], False, "", None
        if behind[0].reason not in known and not part_of_product(behind[0], dataflow, products)[0]:
            return endings[0], False, "", None
        summed, endings = True, behind
    return (endings[0], summed, *part_of_product(endings[0], dataflow, products))


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
    terms = [
        each
        for each in layers
        if each.summed and each.part == layer.part and not each.all_ends.isdisjoint(layer.all_ends)
    ]
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
