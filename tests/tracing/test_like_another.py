"""A tensor that only lends its type is no signal: the parameter cast like it stays a weight."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import autoinit

SPELLINGS = {
    "to": lambda weight, x: weight.to(x),
    "type_as": lambda weight, x: weight.type_as(x),
    "type": lambda weight, x: weight.type(x.dtype),
}


class Layer(nn.Module):
    """relu(W x), W taken like x."""

    def __init__(self, like):
        super().__init__()
        self.weight, self.like = nn.Parameter(torch.randn(8, 8)), like

    def forward(self, x):
        return F.relu(F.linear(x, self.like(self.weight, x)))


@pytest.mark.parametrize("given", [True, False], ids=["recorded", "symbolic"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_weight_taken_like_the_input_is_a_weight(spelling, given):
    plan = autoinit.plan(Layer(SPELLINGS[spelling]), torch.randn(8, 8) if given else None)
    assert [(layer.param, layer.nonlinearity, layer.fan_in) for layer in plan.layers] == [("weight", "relu", 8.0)]
