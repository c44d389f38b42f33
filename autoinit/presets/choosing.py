"""`choose`: the options of a plan by a preset, and `advice`: what a plan without one is told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from autoinit.errors import ArgumentError
from autoinit.methods.table import METHODS, complete
from autoinit.models import ModelView
from autoinit.planning import plan_dataflow
from autoinit.plans.options import PlanArguments, PlanOptions
from autoinit.plans.plan import Plan
from autoinit.presets import train
from autoinit.presets._seeing import seen_in
from autoinit.tracing.dataflow import Dataflow


@dataclass(frozen=True)
class Choice:
    """What a preset chose for a model.

    Attributes:
        options: the caller's, and the preset's where the caller gave none.
        row: of the preset's table; of its options those that were taken.
    """

    options: PlanOptions
    row: train.Decision

    def noted_in(self, plan: Plan) -> Plan:
        """The plan made by these options, which says what chose them and why."""
        name, row = self.options.preset, self.row
        taken = row.spelled or "no more than what is given" if row.options else "the defaults"
        note = f"preset {name}, since {row.shows}: {taken}; {row.reason}"
        return replace(plan, preset=f"{name} ({row.name})", notes=(*plan.notes, note))


def choose(given: PlanArguments, dataflow: Dataflow, view: ModelView) -> Choice:
    """The options for a model, by the preset that the caller names.

    What is given is left as given. With a method that is given, the row's options go as far as the method has a use for
    them.

    Raises:
        ArgumentError: what is given has no meaning with what the row chooses.
    """
    rest = cast("PlanArguments", {name: value for name, value in given.items() if name != "preset"})
    row = train.row(seen_in(dataflow, plan_dataflow(dataflow, view, PlanOptions())))
    left = set(rest)
    if "method" in rest:
        left |= {"recipe", *METHODS[rest["method"]].refuses}
    row = replace(row, options={name: value for name, value in row.options.items() if name not in left})
    merged = cast("PlanArguments", {**row.options, **rest})
    try:
        return Choice(replace(complete(merged), preset=given["preset"]), row)
    except ArgumentError as error:
        raise ArgumentError(
            f"{error}. For this model ({row.name}) preset={given['preset']!r} chose {row.spelled}: leave that option "
            f"out, or name a method"
        ) from None


def advised(plan: Plan, dataflow: Dataflow) -> Plan:
    """A plan by the plain assignment, with a note where it is known to train worse than the preset's."""
    if (plan.method, plan.residual, plan.heads) != (PlanOptions.method, PlanOptions.residual, PlanOptions.heads):
        return plan
    row = train.row(seen_in(dataflow, plan))
    if not row.advises or not any(each.reason == "output" for each in plan.layers):  # a part of a model has no loss
        return plan
    gained = "; ".join(map(str, row.figures))
    note = f"{row.shows}: preset='train' ({row.spelled}) trains better there ({gained})"
    return replace(plan, notes=(*plan.notes, note))
