"""Models that `method="signal"` started are held against its plan: clean as they are, and a fault is found.

The networks give the plan by signal other stds than their layers' places have: padding takes power from an input, means
of ReLU and pooling add up, a head behind them takes 1 / sqrt(fan_in E[h^2]).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoinit import autoinit, check, plan
from autoinit.plans.options import PlanArguments

SIZE = (2, 3, 12, 12)


def plain() -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 16), (16, 16), (16, 32)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.SiLU(), nn.MaxPool2d(3, 1, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 4))


class Residual(nn.Module):
    """Four branches of two convolutions each, without norms, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 4)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.GELU(), nn.Conv2d(16, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, 16, 3, padding=1))
            for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean((2, 3)))


def deep() -> nn.Sequential:
    """Behind GELU both plans are the same: only the first layer differs, whose input has the second moment 1."""
    hidden = [layer for place in range(6) for layer in (nn.Linear(64 if place else 8, 64), nn.GELU())]
    return nn.Sequential(*hidden, nn.Linear(64, 4))


STARTS: dict[str, tuple[Any, PlanArguments]] = {
    "plain": (plain, {}),
    "small heads": (plain, {"heads": "small"}),
    "residual": (Residual, {}),
    "residual, depth": (Residual, {"residual": "depth"}),
}


def started(key: str) -> nn.Module:
    make, options = STARTS[key]
    torch.manual_seed(0)
    model: nn.Module = make()
    autoinit(model, torch.zeros(SIZE), method="signal", seed=0, verbose=False, **options)
    return model


@pytest.mark.parametrize("key", STARTS)
def test_it_is_clean_right_after(key: str):
    """And by other stds than those of the layers' places: by these, several findings are there."""
    model = started(key)
    result = check(model, torch.zeros(SIZE))
    assert result.findings == ()
    assert result.report.plan.method == "signal"
    places = plan(model, torch.zeros(SIZE))
    off = [each.std / result.report.plan[each.name].std for each in places.layers]
    assert sum(not 1 / 1.2 < each < 1.2 for each in off) >= 2


def test_a_fault_put_in_is_found():
    model = started("plain")
    with torch.no_grad():
        model[6].weight *= 4
    (found,) = check(model, torch.zeros(SIZE), select=["INI1"]).findings
    assert found.layer == "6"


def test_a_model_by_its_places_stays_held_against_them():
    """One fault more or less: its other weights have the stds of their places, and the plan by signal has not more."""
    torch.manual_seed(0)
    model = plain()
    autoinit(model, torch.zeros(SIZE), seed=0, verbose=False)
    with torch.no_grad():
        model[6].weight *= 4
    result = check(model, torch.zeros(SIZE))
    assert result.report.plan.method == "nonlinearity"
    assert {each.layer for each in result.findings} == {"6"}


def test_small_heads_are_seen():
    """A tenth of what the place of a head calls for."""
    found = check(started("small heads"), torch.zeros(SIZE)).report.plan
    whole = plan(plain(), torch.zeros(SIZE), method="signal", seed=0)
    assert found["16"].std == pytest.approx(whole["16"].std / 10, rel=0.01)
    assert found["14"].std == pytest.approx(whole["14"].std, rel=0.01)


def test_one_weight_that_differs_is_enough_where_all_follow():
    model, x = deep(), torch.zeros(4, 8)
    autoinit(model, x, method="signal", seed=1, verbose=False)
    assert check(model, x).findings == ()
    with torch.no_grad():
        model[0].weight *= 3
    assert [each.layer for each in check(model, x, select=["INI1"]).findings] == ["0"]
