"""The signal that a model's present weights make of random inputs, as far as the tracing knows shapes."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch import nn

from autoinit.errors import words_of
from autoinit.models import ModelView
from autoinit.plans.plan import Plan
from autoinit.signal.predicting.propagating import InputSignal, Propagation
from autoinit.signal.report import SignalReport
from autoinit.tracing.dataflow import Dataflow
from autoinit.tracing.inputs import given_inputs

MOST_SAMPLES = 16
"""Samples of a batch that a prediction is made for: enough for statistics over a batch, cheap for what holds them."""

MOST_ELEMENTS = 1 << 16
"""Elements of a wide layer that are drawn: rules ask for powers of ten."""


class Prediction(NamedTuple):
    """A predicted signal.

    Attributes:
        report: None where nothing could be predicted.
        why: what kept it from that.
        failed: whether it was tried, and an error kept it from that.
    """

    report: SignalReport | None
    why: str = ""
    failed: bool = False


def predict(view: ModelView, dataflow: Dataflow, plan: Plan, *, backward: bool) -> Prediction:
    """Propagate the signal through a traced model whose weights have values; the plan, of its dataflow, names them."""
    if not dataflow.knows_shapes or not view.has_modules:
        return Prediction(None, f"the {dataflow.tier} tracing knows no shapes")
    if any(each.is_meta for each in view.parameters.values()):
        return Prediction(None, "its weights have no values (meta device)")
    propagation = Propagation(dataflow, view, None, InputSignal(), given=None, seed=0)
    try:
        started = time.perf_counter()
        return Prediction(propagation.report(backward=backward, started=started, layers=plan, most=MOST_ELEMENTS))
    except (RuntimeError, TypeError, ValueError, LookupError, ArithmeticError) as error:
        return Prediction(None, f"{type(error).__name__}: {' '.join(words_of(error).split())[:160]}", failed=True)


def few_samples(model: nn.Module, example_inputs: Any) -> Any:
    """Inputs less all samples but a few, in a form that `trace` takes; None if they are few, or it is not clear.

    It is clear where all tensors begin with an axis of one size, and nothing holds others.
    """
    inputs = given_inputs(example_inputs, model)
    values = (*inputs.args, *inputs.kwargs.values())
    tensors = [each for each in values if isinstance(each, torch.Tensor)]
    plain = all(isinstance(each, (torch.Tensor, str, int, float, type(None))) for each in values)
    sizes = {each.shape[0] if each.dim() > 1 else 0 for each in tensors}
    if not plain or len(sizes) != 1 or sizes.pop() <= MOST_SAMPLES:
        return None

    def few(value: Any) -> Any:
        return value[:MOST_SAMPLES] if isinstance(value, torch.Tensor) else value

    return {name: few(each) for name, each in inputs.kwargs.items()} if inputs.kwargs else tuple(map(few, inputs.args))
