"""`plan(method="nonlinearity")`: each std from what its weight feeds (He et al. 2015; Glorot & Bengio 2010).

A weight in front of a nonlinearity phi has std gain / sqrt(fan_in), gain = 1 / sqrt(E[phi(z)^2]): ReLU and its kin are
sqrt(2 / (1 + slope^2)). In front of none, of tanh and of a sigmoid it has Xavier's std, over the mean of both fans.
Nothing is run: it needs no input, and knows nothing of depth, of sums or of pooling.

## When to use it

By default; above all where norms keep the scale anyway.

## When not to

In deep networks without norms: `signal` follows the second moment through sums and pooling, and `mirrored` keeps all
directions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autoinit.methods._advice import advice
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
