"""`--fix`: the plan applied to exactly the layers with findings."""

from __future__ import annotations

import glob
from dataclasses import replace
from typing import Any

from autoinit.checking.findings import CheckResult, Finding
from autoinit.checking.rules.registry import About, rules
from autoinit.models import Model, ModelView
from autoinit.planning import plan_dataflow
from autoinit.plans.options import PlanOptions
from autoinit.tensors.process_state import tensors_on_cpu
from autoinit.tracing.tiers import trace_view

_MENDED = (About.VALUES, About.SCALE)
"""Faults that new values for the weight mend."""


def fix(model: Model, result: CheckResult, example_inputs: Any = None, *, seed: int | None = None) -> CheckResult:
    """Initialises the weights that a check found fault with, and no others. All or nothing.

    A bias of such a weight becomes zero if there is a finding about it, too; a prior that none is about stays.
    Findings about other biases, norms, unused and unresolved weights are left: what is right there is the author's to
    say. So are weights that follow a recipe.

    Args:
        model: the model that was checked.
        result: of that check.
        example_inputs: as for the check.
        seed: as for `Plan.apply`.

    Returns:
        The result with the names of the layers written in `fixed`, and a note for each fault that was left.

    Raises:
        PlanError, TrainedModelError, ApplyError: nothing was written.
    """
    wanted = {finding.layer for finding in result.findings if _repairable(finding)}
    if not wanted:
        return result
    view = ModelView.of(model)
    dataflow = trace_view(view, example_inputs)
    with tensors_on_cpu():
        whole = plan_dataflow(dataflow, view, PlanOptions(zeros="reset"))
    names = [layer.name for layer in whole.layers if layer.name in wanted and layer.status == "planned"]
    left = sorted(wanted - set(names))
    notes = result.notes + tuple(f"{name}: not written, for it is no layer of the plan that can be" for name in left)
    if not names:
        return replace(result, notes=notes)
    only = tuple(glob.escape(name) for name in names)
    with tensors_on_cpu():
        made = plan_dataflow(dataflow, view, PlanOptions(zeros="reset", only=only))
    faulty = {finding.param for finding in result.findings}
    layers = (replace(layer, biases=tuple(each for each in layer.biases if each in faulty)) for layer in made.layers)
    replace(made, layers=tuple(layers)).apply(model, seed)
    return replace(result, fixed=tuple(names), notes=notes)


def _repairable(finding: Finding) -> bool:
    return rules()[finding.code].about in _MENDED and bool(finding.fix)
