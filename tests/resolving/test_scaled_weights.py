"""Weights that change scale between the parameter and the operation: the weight in use gets the planned scale."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import autoinit, plan

HE = math.sqrt(2 / 64)


class Scaled(nn.Module):
    """A layer whose weight is used through `change`, then a ReLU."""

    def __init__(self, change: Any, rows: int = 128) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, 64) / 8)
        self.register_buffer("mask", (torch.arange(64) % 2).float())
        self.down = nn.Parameter(torch.randn(4, 64) / 8)
        self.up = nn.Parameter(torch.zeros(rows, 4))
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.linear(x, self.change(self)))


def test_equalised_learning_rate():
    """Karras et al. 2018: the parameter is N(0, 1), the weight in use is it times a constant."""
    model = Scaled(lambda self: self.weight * 0.125)
    layer = plan(model)["weight"]
    assert layer.std == pytest.approx(HE / 0.125, rel=1e-4)
    assert "multiplies its std by 0.125" in layer.note
    autoinit(model, seed=0, verbose=False)
    used = model.weight.detach() * 0.125
    assert float(used.std()) == pytest.approx(HE, rel=4 / math.sqrt(2 * used.numel()))


def test_standardised_weights_have_no_scale():
    model = Scaled(lambda self: (self.weight - self.weight.mean(1, keepdim=True)) / self.weight.std(1, keepdim=True))
    layer = plan(model)["weight"]
    assert layer.std == pytest.approx(HE)
    assert "normalises its scale away" in layer.note


def test_lora_that_adds_nothing_yet_changes_nothing():
    model = Scaled(lambda self: self.weight + 2.0 * (self.up @ self.down))
    layer = plan(model)["weight"]
    assert layer.std == pytest.approx(HE, rel=1e-6)
    assert set(plan(model)) == {"weight"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda self: self.weight.sign(), "normalises its scale away"),
        (lambda self: (self.weight * 4).round() / 4, "effect on its scale is unknown"),
    ],
    ids=["sign", "coarse_steps"],
)
def test_what_is_not_proportional_is_said(change: Any, said: str):
    assert said in plan(Scaled(change))["weight"].note


@pytest.mark.parametrize("change", [lambda self: self.weight.t().t(), lambda self: self.weight.to(torch.float32)])
def test_moves_and_casts_keep_the_scale(change: Any):
    layer = plan(Scaled(change))["weight"]
    assert (layer.std, layer.note) == (pytest.approx(HE), "")


def test_an_unknown_factor_is_not_taken_for_one():
    class Gained(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.gain = nn.Parameter(torch.randn(8, 64)), nn.Parameter(torch.full((8, 1), 0.5))

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(F.linear(x, self.weight * self.gain))

    assert plan(Gained())["weight"].std == pytest.approx(HE / 0.5, rel=1e-4)
    with torch.device("meta"):
        layer = plan(Gained())["weight"]
    assert "effect on its scale is unknown" in layer.note
    assert layer.std == pytest.approx(HE)
