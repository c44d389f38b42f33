"""`plan(method="nonlinearity")`: each std from what its weight feeds (He et al. 2015; Glorot & Bengio 2010)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autoinit.methods.mirrored import advice
from autoinit.models import ModelView
from autoinit.planning import plan_dataflow
from autoinit.plans.options import PlanOptions
from autoinit.plans.plan import Plan
from autoinit.tracing.dataflow import Dataflow


def plan_by_nonlinearity(
    view: ModelView, dataflow: Dataflow, options: PlanOptions, _example_inputs: Any = None
) -> Plan:
    """A plan by the gain of what each weight feeds and by its fans; the inputs have served to trace it."""
    made = plan_dataflow(dataflow, view, options)
    better = advice(dataflow, made)
    return replace(made, notes=(*made.notes, better)) if better else made
