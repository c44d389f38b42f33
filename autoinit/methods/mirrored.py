"""`plan(method="mirrored")`: a start at which deep networks without norms are orthogonal linear maps.

Each weight that feeds a nonlinearity gets its output units in pairs of opposite sign, and what reads them gets its
columns in pairs: the odd part of the nonlinearity is all that the next layer sees (`theory.mirrored`). The matrices are
orthogonal, so that no direction of the signal or of the gradient is lost over depth, and the start depends neither on
depth nor on width. What cannot be mirrored is planned by `signal`, and says why.

A weight is mirrored if it is linear or a convolution without groups, is used once, and feeds one nonlinearity with an
odd part whose output is read by weights that are mirrored too, with nothing on the way that mixes features or bends
them; or if it feeds no nonlinearity (the end of a residual branch, a head).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from autoinit.methods.signal import MakeMirror, plan_by_signal, with_std
from autoinit.models import ModelView
from autoinit.ops import Role
from autoinit.planning import plan_dataflow
from autoinit.plans.layers import LayerPlan
from autoinit.plans.mirror import FeatureRun, Mirror, Taps
from autoinit.plans.options import PlanOptions
from autoinit.plans.plan import Plan
from autoinit.resolving import Ending, Reason, Resolution, resolve
from autoinit.resolving.features import Origins, Source, origins
from autoinit.resolving.residual import branch_counts
from autoinit.theory.mirrored import Tangent, tangent
from autoinit.theory.pointwise import evaluate
from autoinit.tracing import Dataflow, Op

Numbers = npt.NDArray[np.integer[Any]]

_LINEAR = (Reason.ADD, Reason.OUTPUT, Reason.WEIGHT, Reason.SOFTMAX)
_OUTPUTS = (Reason.OUTPUT, Reason.SOFTMAX)
DEEP = 20
"""Nonlinearities in a row from which on the report recommends the method."""
_AXES = ("oi", "io", "oik", "oikk", "oikkk")
_SEEN = 0.5
"""A tap is drawn only if it reaches inside of the input at this share of an axis's positions."""


@dataclass(frozen=True)
class _Layer:
    """A weight that may be mirrored.

    op: its one use. ending: what it feeds; for a gate, the ending at the product. factor: by which the operation sees
    it. gate: the distance in features from what is gated to its gate; 0 where there is none.
    """

    plan: LayerPlan
    op: Op
    ending: Ending
    factor: float
    gate: int = 0

    @property
    def bends(self) -> bool:
        """Whether it feeds a nonlinearity."""
        return self.ending.reason is Reason.ACTIVATION or bool(self.gate)

    @property
    def features(self) -> int:
        """How many output features its readers see."""
        return self.size("o") // 2 if self.gate else self.size("o")

    def size(self, letter: str) -> int:
        """The weight's output or input features."""
        return self.plan.shape[self.plan.axes.index(letter)]


def plan_by_mirroring(
    view: ModelView, dataflow: Dataflow, options: PlanOptions, example_inputs: Any = None, *, taps: Taps = "shift"
) -> Plan:
    """A plan in which every layer that can be is mirrored, and the others are as by `signal`.

    The last weight of each of the L branches of a residual stream is divided by sqrt(L).

    Args:
        view: of the model.
        dataflow: traced from it, with shapes.
        options: as for `plan`; `distribution` is that of the matrices that are mirrored: orthogonal, or another.
        example_inputs: as for `plan`; only shapes and integers matter.
        taps: where the matrix of a convolution stands in its kernel: see `Mirror`.
    """
    resolutions = resolve(dataflow)
    by_param = {each.param: each for each in resolutions}
    reasons: dict[str, str] = {}
    layers: dict[Op, _Layer] = {}
    for each in plan_dataflow(dataflow, view, options, resolutions).layers:
        if each.status == "planned":
            found = _candidate(each, by_param[each.param], dataflow)
            if isinstance(found, str):
                reasons[each.param] = found
            else:
                layers[found.op] = found
    makers = _makers(dataflow, layers, reasons, taps)
    signal = plan_by_signal(view, dataflow, replace(options, residual="depth"), example_inputs, makers)
    planned = tuple(_replanned(each, reasons.get(each.param, "")) for each in signal.layers)
    return replace(signal, layers=planned, method="mirrored")


def advice(dataflow: Dataflow, plan: Plan) -> str:
    """Where a plan by another method loses what this one keeps: many nonlinearities in a row without norm or sum."""
    if any(op.role is Role.NORM for op in dataflow.graph.nodes) or any(layer.normalised for layer in plan.layers):
        return ""
    uses = {name for layer in plan.layers if layer.reason == Reason.ACTIVATION for name in layer.uses}
    depth: dict[Op, int] = {}
    for op in dataflow.graph.nodes:
        before = 0 if op.role is Role.ADD else max((depth[each] for each in op.operands.values()), default=0)
        depth[op] = before + (op.name in uses)
    longest = max(depth.values(), default=0)
    if longest < DEEP:
        return ""
    return (
        f"{longest} nonlinearities in a row without a norm or a skip connection: over such a depth independent weights "
        f"lose most directions of the signal, whatever their scale; method='mirrored' keeps them"
    )


def _candidate(plan: LayerPlan, resolution: Resolution | None, dataflow: Dataflow) -> _Layer | str:
    """A weight that may be mirrored, or why it cannot be."""
    assert resolution is not None
    op = dataflow.by_name.get(plan.uses[0]) if plan.uses else None
    gate = _gate(resolution)
    problems = (
        (plan.groups > 1, "a convolution of several groups"),
        (plan.axes not in _AXES, f"{plan.op} has no single matrix"),
        (plan.op.startswith("conv_transpose"), "a transposed convolution"),
        (bool(plan.slices) and gate is None, "parts of its output feed different things"),
        (len(plan.uses) != 1, f"used {len(plan.uses)} times"),
        (bool(plan.reparam), f"its module computes it ({plan.reparam})"),
        (not resolution.factor, "its scale does not reach the operation"),
        (plan.normalised, "a norm follows: nothing to gain"),
        (op is None or op.shape is None or "input" not in op.operands, "its operation's shapes are not known"),
        (gate is None and resolution.reason not in (Reason.ACTIVATION, *_LINEAR), f"it feeds {plan.reason}"),
    )
    why = next((text for problem, text in problems if problem), "")
    if why:
        return why
    assert op is not None
    ending, distance = gate if gate is not None else (resolution.ending, 0)
    return _Layer(plan, op, ending, resolution.factor or 1.0, distance)


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


def _makers(
    dataflow: Dataflow, layers: Mapping[Op, _Layer], reasons: dict[str, str], taps: Taps
) -> dict[str, MakeMirror]:
    """What makes the mirror of each weight that is mirrored, by parameter; why the others are not goes to `reasons`."""
    tangents, found = _settled(dataflow, layers, reasons)
    counts = branch_counts(dataflow)
    made: dict[str, MakeMirror] = {}
    for op, layer in layers.items():
        if layer.bends and op not in tangents and op not in found.columns:
            continue
        branches = counts.get(f"{op.name}/{layer.plan.param}", 1)
        made[layer.plan.param] = partial(_mirror, layer, layers, tangents, found, branches, taps)
    return made


def _settled(
    dataflow: Dataflow, layers: Mapping[Op, _Layer], reasons: dict[str, str]
) -> tuple[dict[Op, Tangent], Origins]:
    """How each layer uses its nonlinearity, for those whose features only mirrored layers read; and who reads what."""
    bending = {op: layer for op, layer in layers.items() if layer.bends}
    readers = {op: layer.plan.axes for op, layer in layers.items()}
    while True:
        sources = {op: _source(each, dataflow) for op, each in layers.items() if op in bending or not each.bends}
        found = origins(dataflow, sources, readers)
        lost = {op: why for op, why in found.lost.items() if op in bending}
        if not lost:
            lost = dict(_torn(found, bending))
        if not lost:
            depth = _most_in_a_row(dataflow, bending)
            tangents = {op: _tangent(layer, depth) for op, layer in bending.items()}
            lost = {
                op: f"{bending[op].ending.nonlinearity} has no odd part that is nearly linear"
                for op, each in tangents.items()
                if each is None
            }
            if not lost:
                return {op: each for op, each in tangents.items() if each is not None}, found
        for op, why in lost.items():
            reasons[layers[op].plan.param] = why
            del bending[op]


def _source(layer: _Layer, dataflow: Dataflow) -> Source:
    end = dataflow.by_name[layer.ending.path[-1]] if layer.bends else None
    return Source(layer.op, layer.size("o"), -1 - layer.plan.axes.count("k"), end, layer.gate)


def _most_in_a_row(dataflow: Dataflow, bending: Mapping[Op, _Layer]) -> int:
    """The largest number of nonlinearities, each behind one of these layers, on one way through the graph."""
    depth: dict[Op, int] = {}
    for op in dataflow.graph.nodes:
        before = max((depth[each] for each in op.operands.values()), default=0)
        depth[op] = before + (op in bending)
    return max(depth.values(), default=1) or 1


def _tangent(layer: _Layer, depth: int) -> Tangent | None:
    ending = layer.ending
    if layer.gate:
        return Tangent(paired=True, a=1.0, c=1.0)
    if ending.function is None:
        return None
    key = (ending.nonlinearity, tuple(sorted(ending.params.items())))
    if ending.nonlinearity == "custom":
        return tangent(ending.function, "custom", depth)
    return _known(_Keyed(key, ending.function), depth)


@dataclass(frozen=True)
class _Keyed:
    """A function that is told apart by its name and parameters."""

    key: tuple[str, tuple[tuple[str, float], ...]]
    function: Any

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and other.key == self.key


@cache
def _known(function: _Keyed, depth: int) -> Tangent | None:
    return tangent(function.function, function.key[0], depth)


def _mirror(
    layer: _Layer,
    layers: Mapping[Op, _Layer],
    tangents: Mapping[Op, Tangent],
    found: Origins,
    branches: int,
    taps: Taps,
    moment: float,
    share: float,
) -> Mirror:
    """How the layer's weight is made.

    moment: the second moment of what it reads, for features of no mirrored layer. share: of the second moment of
    features of mirrored layers, what padding leaves: zeros at the border would else take it away layer by layer.
    """
    here = tangents.get(layer.op)
    columns = found.columns.get(layer.op)
    factor = 1 / math.sqrt(moment)
    if layer.ending.reason in _OUTPUTS:  # what was averaged before it may be less white than predicted
        factor = min(factor, 1.0)
    if columns is None:
        inputs: tuple[FeatureRun, ...] = (FeatureRun(0, layer.size("i"), paired=False, factor=factor),)
    else:
        inputs = _inputs(columns.numpy(), found.starts, layers, tangents, factor)
        if _pads(layer.op):
            inputs = tuple(replace(run, factor=run.factor / math.sqrt(share)) for run in inputs)
    kernel = tuple(size for size, axis in zip(layer.plan.shape, layer.plan.axes, strict=True) if axis == "k")
    a = here.a if here is not None else 1.0
    return Mirror(
        outputs=_outputs(layer, here),
        inputs=inputs,
        scale=a / math.sqrt(branches) / layer.factor,
        taps=taps,
        seen=_seen(layer.op, kernel),
        moment=moment if columns is None or not bool(columns.all()) else None,
        a=a,
        c=here.c if here is not None else 1.0,
    )


def _pads(op: Op) -> bool:
    """Whether a convolution reads zeros beyond its input."""
    padding = op.constants.get("padding", 0)
    return padding == "same" or (not isinstance(padding, str) and np.any(np.asarray(padding)).item())


def _outputs(layer: _Layer, here: Tangent | None) -> tuple[FeatureRun, ...]:
    """The output features in pairs, those of a gate apart; an odd one is left over."""
    if here is None or not here.paired:
        return (FeatureRun(0, layer.size("o"), paired=False),)
    pairs, left = divmod(layer.features, 2)
    made: list[FeatureRun] = []
    for start in (0, layer.features) if layer.gate else (0,):
        made += [FeatureRun(start, 2 * pairs, paired=True)] if pairs else []
        made += [FeatureRun(start + 2 * pairs, 1, paired=False)] if left else []
    return tuple(made)


def _inputs(
    columns: Numbers,
    starts: Mapping[Op, int],
    layers: Mapping[Op, _Layer],
    tangents: Mapping[Op, Tangent],
    factor: float,
) -> tuple[FeatureRun, ...]:
    """The input features by where they come from: runs of one source's, with what makes up for its nonlinearity.

    columns: 1 + the place of each column's feature among those of all sources. factor: for columns of no source.
    """
    ops = list(starts)
    source = np.where(columns > 0, np.searchsorted(list(starts.values()), columns - 1, side="right") - 1, -1)
    breaks = [0, *(np.flatnonzero(np.diff(source)) + 1).tolist(), len(columns)]
    made: list[FeatureRun] = []
    for begin, stop in itertools.pairwise(breaks):
        if source[begin] < 0:
            made.append(FeatureRun(begin, stop - begin, paired=False, factor=factor))
        else:
            op = ops[int(source[begin])]
            here = tangents.get(op)
            if here is None or not here.paired:
                made.append(FeatureRun(begin, stop - begin, paired=False, factor=here.c if here is not None else 1.0))
            else:
                local = columns[begin:stop] - 1 - starts[op]
                made += (replace(run, factor=run.factor * here.c) for run in _pairs(begin, local, layers[op]) or ())
    return tuple(made)


def _pairs(begin: int, local: Numbers, layer: _Layer) -> list[FeatureRun] | None:
    """Runs of whole pairs, and of what is left over, among the columns that read one layer's features.

    local: the feature of each column. None where a pair is read in part, or its halves are not side by side: a pair
    must be read as one column and its negative.
    """
    made: list[FeatureRun] = []
    half = layer.features // 2
    local = local - local.min() if layer.gate else local
    breaks = [0, *(np.flatnonzero(np.diff(local) < 0) + 1).tolist(), len(local)]
    for start, stop in itertools.pairwise(breaks):
        whole = local[start:stop]
        left = int(np.count_nonzero(whole == 2 * half))
        first, second = np.split(whole[: len(whole) - left], [(len(whole) - left) // 2])
        if len(first) != len(second) or not np.array_equal(first + half, second):
            return None
        made += [FeatureRun(begin + start, 2 * len(first), paired=True)] if len(first) else []
        made += [FeatureRun(begin + stop - left, left, paired=False, factor=0.0)] if left else []
    return made


def _torn(found: Origins, bending: Mapping[Op, _Layer]) -> Iterator[tuple[Op, str]]:
    """Layers of whose pairs something reads only a part, or in another order."""
    for reader, columns in found.columns.items():
        for op, layer in bending.items():
            start = found.starts[op]
            mine = columns[(columns > start) & (columns <= start + layer.size("o"))].numpy() - 1 - start
            if len(mine) and _pairs(0, mine, layer) is None:
                yield op, f"{reader.name} does not read its units in whole pairs"


def _seen(op: Op, kernel: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """For each axis of a kernel the taps that reach inside of the input at half of the output's positions or more."""
    if not kernel:
        return ()
    before, after = op.operands["input"].shape, op.shape
    assert before is not None
    assert after is not None
    axes = len(kernel)
    found = []
    for axis, size in enumerate(kernel):
        stride, padding, dilation = (
            _along(op.constants.get(name, default), axis)
            for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
        )
        there, here = before[axis - axes], after[axis - axes]
        if isinstance(padding, str):
            padding = dilation * (size - 1) // 2 if padding == "same" else 0
        at = np.arange(here)[:, None] * stride - padding + np.arange(size)[None] * dilation
        inside = ((at >= 0) & (at < there)).mean(0) >= _SEEN
        good = np.flatnonzero(inside) if inside.any() else np.array([size // 2])
        found.append((int(good[0]), int(good[-1]) + 1))
    return tuple(found)


def _along(value: Any, axis: int) -> Any:
    return value if isinstance(value, (int, str)) else value[axis] if len(value) > 1 else value[0]


def _replanned(layer: LayerPlan, why: str) -> LayerPlan:
    """The layer's plan with the std of what is written, or with the reason why it is not mirrored."""
    if layer.status != "planned":
        return layer
    if layer.mirror is None:
        note = f"not mirrored: {why}" if why else "not mirrored"
        return replace(layer, distribution="normal", note="; ".join(filter(None, (layer.note, note))))
    kernel = math.prod(size for size, axis in zip(layer.shape, layer.axes, strict=True) if axis == "k")
    note = f"its output units are not paired: {why}" if why else ""
    made: LayerPlan = with_std(layer, layer.mirror.std / math.sqrt(kernel))
    return replace(made, note=note)
