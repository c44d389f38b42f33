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

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from autoinit.methods._pairing import MirrorableLayer, input_runs, mirrorable, output_runs, pads, taps_seen, torn
from autoinit.methods.signal import MakeMirror, plan_by_signal, with_std
from autoinit.models import ModelView
from autoinit.ops import Role
from autoinit.planning import plan_dataflow
from autoinit.plans.layers import LayerPlan
from autoinit.plans.mirror import FeatureRun, Mirror, Taps
from autoinit.plans.options import PlanOptions
from autoinit.plans.plan import Plan
from autoinit.resolving import Reason, resolve
from autoinit.resolving.features import Origins, Source, origins
from autoinit.resolving.residual import branch_counts
from autoinit.theory.mirrored import Tangent, tangent
from autoinit.tracing import Dataflow, Op

_OUTPUTS = (Reason.OUTPUT, Reason.SOFTMAX)
DEEP = 20
"""Nonlinearities in a row from which on the report recommends the method."""


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
    layers: dict[Op, MirrorableLayer] = {}
    for each in plan_dataflow(dataflow, view, options, resolutions).layers:
        if each.status == "planned":
            found = mirrorable(each, by_param[each.param], dataflow)
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


def _makers(
    dataflow: Dataflow, layers: Mapping[Op, MirrorableLayer], reasons: dict[str, str], taps: Taps
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
    dataflow: Dataflow, layers: Mapping[Op, MirrorableLayer], reasons: dict[str, str]
) -> tuple[dict[Op, Tangent], Origins]:
    """How each layer uses its nonlinearity, for those whose features only mirrored layers read; and who reads what."""
    bending = {op: layer for op, layer in layers.items() if layer.bends}
    readers = {op: layer.plan.axes for op, layer in layers.items()}
    while True:
        sources = {op: _source(each, dataflow) for op, each in layers.items() if op in bending or not each.bends}
        found = origins(dataflow, sources, readers)
        lost = {op: why for op, why in found.lost.items() if op in bending}
        if not lost:
            lost = dict(torn(found, bending))
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


def _source(layer: MirrorableLayer, dataflow: Dataflow) -> Source:
    end = dataflow.by_name[layer.ending.path[-1]] if layer.bends else None
    return Source(layer.op, layer.size("o"), -1 - layer.plan.axes.count("k"), end, layer.gate)


def _most_in_a_row(dataflow: Dataflow, bending: Mapping[Op, MirrorableLayer]) -> int:
    """The largest number of nonlinearities, each behind one of these layers, on one way through the graph."""
    depth: dict[Op, int] = {}
    for op in dataflow.graph.nodes:
        before = max((depth[each] for each in op.operands.values()), default=0)
        depth[op] = before + (op in bending)
    return max(depth.values(), default=1) or 1


def _tangent(layer: MirrorableLayer, depth: int) -> Tangent | None:
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
    layer: MirrorableLayer,
    layers: Mapping[Op, MirrorableLayer],
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
        inputs = input_runs(layer.op, found, layers, tangents, factor)
        if pads(layer.op):
            inputs = tuple(replace(run, factor=run.factor / math.sqrt(share)) for run in inputs)
    kernel = tuple(size for size, axis in zip(layer.plan.shape, layer.plan.axes, strict=True) if axis == "k")
    a = here.a if here is not None else 1.0
    return Mirror(
        outputs=output_runs(layer, here),
        inputs=inputs,
        scale=a / layer.ending.before / math.sqrt(branches) / layer.factor,
        taps=taps,
        seen=taps_seen(layer.op, kernel),
        moment=moment if columns is None or not bool(columns.all()) else None,
        a=a,
        c=here.c if here is not None else 1.0,
    )


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
