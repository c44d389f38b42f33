"""The std of a weight that numbers multiply, and what a plan says of where and how it was found."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoinit import plan
from autoinit.models import ModelView
from autoinit.planning import heads, plan_dataflow
from autoinit.plans.options import PlanOptions
from autoinit.resolving import resolve
from autoinit.tracing import trace


class Scaled(nn.Module):
    """ReLU of a linear layer of 8 features, its input and its weight multiplied by numbers."""

    def __init__(self, inputs: float, weight: float) -> None:
        super().__init__()
        self.inputs, self.factor = inputs, weight
        self.weight = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x * self.inputs, self.weight * self.factor).relu(), torch.eye(8))


@pytest.mark.parametrize(("inputs", "weight", "std"), [(4.0, 1.0, 0.125), (1.0, 0.5, 1.0), (4.0, 0.5, 0.25)])
def test_numbers_before_and_on_the_weight_are_made_up_for(inputs: float, weight: float, std: float) -> None:
    """He before a ReLU with 8 inputs: sqrt(2 / 8) = 1/2, over both numbers."""
    (layer,) = plan(Scaled(inputs, weight), (2, 8)).layers
    assert layer.std == pytest.approx(std)


def test_one_layer_of_zeros_is_the_authors_intent() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    nn.init.zeros_(model[0].weight)
    (layer,) = plan(model).layers
    assert (layer.status, layer.note) == ("kept", "exactly zero: the author's intent (zeros='reset' overrides)")


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.both(x).chunk(2, -1)
        return value * gate.sigmoid()


def test_a_head_of_several_parts_is_scaled_in_all_of_them() -> None:
    """All rows, named as such, not part by part; `small` is a tenth."""
    (layer,) = plan(Gated(), (2, 8)).layers
    made = heads._scaled(layer, [()], "small", tied=False)
    assert len(layer.slices) == 2
    assert [part.std for part in made.slices] == [pytest.approx(part.std / 10) for part in layer.slices]
    assert made.std == pytest.approx(layer.std / 10)


def test_a_weight_whose_line_is_not_known_has_none() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    dataflow = trace(model)
    (found,) = resolve(dataflow)
    made = plan_dataflow(dataflow, ModelView.of(model), PlanOptions(), [replace(found, source=None)])
    assert made["0"].source == ""
