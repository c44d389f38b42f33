"""`plan(method="data")`: stds for which every pre-activation has std 1 on a batch, found in one forward.

LSUV (Mishkin & Matas 2016) runs the model again and again, layer by layer. Here the weights are drawn as the plan has
them, and one forward corrects each as it is reached: its output is divided by the output's std before the model goes
on, and its plan by the same number. A layer is exact at once, since all before it are final. A second forward verifies,
with the same random numbers and with the weights drawn anew from the plan that was made, as `apply` draws them. There a
level is off by more than `TOLERANCE` only where a weight is used more than once, or is an embedding's table as well, or
where the model magnifies rounding. Then that pass corrects, by the geometric mean over the uses of a weight, and one
more verifies; what is off in the last pass is in the layer's note.

A layer's *level* is its output's std, or its root mean square over sqrt(2) where that is more: an output with few
features may have a mean that dominates, and std 1 would make it large. Biases do not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from autoinit.errors import ArgumentError
from autoinit.methods._arguments import argument_factors
from autoinit.methods._calibrating import TOLERANCE, Calibration, Found, MeasuredUse, Rows
from autoinit.methods.signal import with_std
from autoinit.models import ModelView
from autoinit.planning import plan_dataflow
from autoinit.planning.heads import head_factors
from autoinit.plans.layers import LayerPlan, SlicePlan, root_mean_square
from autoinit.plans.options import PlanOptions
from autoinit.plans.plan import Plan
from autoinit.signal.batches import first_success, require_values
from autoinit.tensors.process_state import silenced, tensors_on_cpu
from autoinit.tracing.dataflow import Dataflow
from autoinit.tracing.rng import untouched_generators


def plan_by_data(view: ModelView, dataflow: Dataflow, options: PlanOptions, example_inputs: Any = None) -> Plan:
    """A plan for which every pre-activation has std 1 on a batch.

    The stds belong to the values that `Plan.apply(model, seed)` writes with the same seed: with these they are exact
    on this batch, with others as near as chance brings weights of that size.

    The model is copied to the CPU and run as in training. It is not touched. Weights inside LSTM and GRU, and those
    whose scale does not matter or cannot be set, keep the std that their nonlinearity asks for, with a note.

    Args:
        view: of a module whose parameters have values.
        dataflow: traced from it, on the same inputs.
        options: `residual="depth"` makes the target 1 / sqrt(L) at the last weight of each branch, as numbers before a
            nonlinearity make it 1 over them; the seed is that of
            the weights' values, of made-up inputs and of dropout.
        example_inputs: the batch: as for `plan`. A shape stands for N(0, 1) numbers, a tensor on the meta
            device for numbers, or for random ids of its shape, None for a guess.

    Raises:
        ArgumentError: the model is no module, or has no values.
        TraceError: the model could not be run on the batch.
        PlanError: an output is not finite.
    """
    if not view.has_modules:
        raise ArgumentError(f"model is a {view.class_name}: method='data' runs a torch.nn.Module")
    require_values(view, "method='data' runs the model", "method='signal', which needs none")
    base = plan_dataflow(dataflow, view, replace(options, residual="keep"))
    ends: dict[str, float] = {}
    if options.residual == "depth":
        deep = plan_dataflow(dataflow, view, options)
        ends = {one.param: two.std / one.std for one, two in zip(base.layers, deep.layers, strict=True)}
    targets = dict(ends)
    for name, factor in argument_factors(dataflow).items():
        if bool((factor == factor[0]).all()):  # of parts that differ in it, the whole is set to 1
            targets[name] = ends.get(name, 1.0) * float(factor[0])
    heads = head_factors(base, dataflow, options.heads)
    traced = dataflow if dataflow.tier == "recorded" and example_inputs is not None else None

    def replanned(found: Found) -> Plan:
        layers = tuple(
            _replanned(layer, found, ends.get(layer.param, 1.0), targets.get(layer.param, 1.0)) for layer in base.layers
        )
        return replace(base, layers=layers, notes=(*base.notes, *found.notes))

    calibration = Calibration(view, traced, example_inputs, base, replanned, targets, heads, options.seed or 0)
    with tensors_on_cpu(), untouched_generators(), silenced(), torch.no_grad():
        found = first_success(view, example_inputs, calibration, "run", dataflow)
    return replace(replanned(found), method="data", residual=options.residual)


def _replanned(layer: LayerPlan, found: Found, end: float, target: float) -> LayerPlan:
    """The layer's plan with the std found, or a note why there is none."""
    if layer.status != "planned":
        return layer
    factors = found.factors.get(layer.param)
    if not factors:
        why = found.apart.get(layer.param, "not reached on the batch")
        return _noted(layer, f"{why}: std by its nonlinearity")
    notes = [f"ends a residual branch: std * {end:.3g}"] if end != 1.0 else []
    notes += _off(layer, found, target)
    if () in factors:
        parts = tuple(with_std(part, part.std * factors[()]) for part in layer.slices)
        made: LayerPlan = with_std(layer, layer.std * factors[()])
    else:
        parts = tuple(_part(layer, rows, factor) for rows, factor in sorted(factors.items()))
        made = with_std(layer, root_mean_square(parts))
    return _noted(replace(made, slices=parts), *notes)


def _off(layer: LayerPlan, found: Found, target: float) -> Iterator[str]:
    """What the last pass says of the outputs whose std is not the target."""
    for (param, rows), uses in found.uses.items():
        if param != layer.param or all(abs(use.std / target - 1) <= TOLERANCE for use in uses):
            continue
        where = f" of rows {_spelled(rows)}" if rows else ""
        stds = ", ".join(f"{use.std:.3g}" for use in uses[:8]) + (", ..." if len(uses) > 8 else "")
        why = f" in its {len(uses)} uses" if len(uses) > 1 else _dominated(uses[0], target)
        yield f"output{where} has std {stds} on the batch{why}"


def _dominated(use: MeasuredUse, target: float) -> str:
    return ", about a large mean" if abs(use.level - target) <= TOLERANCE * target else ""


def _spelled(rows: Rows) -> str:
    return ", ".join(f"{start}:{stop}" for start, stop in rows[:4]) + (", ..." if len(rows) > 4 else "")


def _noted(layer: LayerPlan, *notes: str) -> LayerPlan:
    return replace(layer, note="; ".join(filter(None, (layer.note, *notes))))


def _part(layer: LayerPlan, rows: Rows, factor: float) -> SlicePlan:
    """The plan of some rows: that of the slice they are in, or of the layer."""
    inside = (part for part in layer.slices if any(a <= rows[0][0] and rows[-1][1] <= b for a, b in part.rows))
    held = next((part for part in layer.slices if part.rows == rows), None) or next(inside, None)
    if held is None:
        held = SlicePlan(rows=rows, **layer.shared())
    made: SlicePlan = with_std(replace(held, rows=rows), held.std * factor)
    return made
