"""A weak branch beside one with weights of its own is no graver than one beside a skip: a warning.

All layers are drawn as planned; one is twenty times too small, which alone is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import autoinit, check, plan
from tests.shared.written_nets import Net, numbers

WIDTH = 32
BATCH = (numbers(4, WIDTH),)


def checked(forward: Callable[[Any, Tensor], Tensor], weak: tuple[str, ...] = ("b",)) -> dict[str, str]:
    """The severity for each layer whose scale is told to be too small."""
    layers = {name: nn.Linear(WIDTH, WIDTH, bias=False) for name in "abc"}
    model = Net(lambda net, x: net.head(F.relu(forward(net, x))), **layers, head=nn.Linear(WIDTH, 4))
    autoinit(model, BATCH, seed=0, verbose=False)
    with torch.no_grad():
        for name in weak:
            model.get_submodule(name).weight.mul_(0.05)
    return {each.layer: str(each.severity) for each in check(model, BATCH).findings if each.code == "INI101"}


BESIDE: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "two": lambda net, x: net.a(x) + net.b(x),
    "function": lambda net, x: torch.add(net.b(x), net.a(x), alpha=0.5),
    "three": lambda net, x: net.a(x) + net.b(x) + net.c(x),
    "less": lambda net, x: net.a(x) - net.b(x),
    "inside": lambda net, x: net.a(x) + net.c(F.relu(net.b(x))),
    "beside_a_deep_one": lambda net, x: net.c(F.relu(net.a(x))) + net.b(x),
    "addmm": lambda net, x: torch.addmm(net.a(x), x, net.b.weight.T),
    "its_bias": lambda net, x: torch.addmm(net.b(x), x, net.a.weight.T),
    "linear_with_it": lambda net, x: F.linear(x, net.b.weight) + F.linear(F.silu(x), net.a.weight),
    "skip": lambda net, x: x + net.b(x),
}


@pytest.mark.parametrize("key", BESIDE)
def test_a_weak_branch_is_a_warning(key: str):
    assert checked(BESIDE[key]) == {"b": "warning"}


ALONE: dict[str, tuple[Callable[[Any, Tensor], Tensor], tuple[str, ...]]] = {
    "in_a_chain": (lambda net, x: net.b(x), ("b",)),
    "before_the_sum": (lambda net, x: (lambda h: net.a(h) + net.c(h))(F.relu(net.b(x))), ("b",)),
    "both": (lambda net, x: net.a(x) + net.b(x), ("a", "b")),
    "beside_a_weak_deep_one": (lambda net, x: net.c(F.relu(net.a(x))) + net.b(x), ("a", "b")),
    "side_by_side": (lambda net, x: torch.cat([net.a(x)[:, :16], net.b(x)[:, :16]], 1), ("b",)),
}


@pytest.mark.parametrize("key", ALONE)
def test_where_nothing_carries_the_rest_it_is_an_error(key: str):
    forward, weak = ALONE[key]
    assert checked(forward, weak) == dict.fromkeys(weak, "error")


class Kan(nn.Module):
    """A layer of a KAN as in efficient-kan: splines (here powers) of the input beside silu, each with its weight."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base_weight = nn.Parameter(torch.empty(outputs, inputs))
        self.spline_weight = nn.Parameter(torch.empty(outputs, inputs, 4))
        nn.init.kaiming_uniform_(self.base_weight, a=math.sqrt(5), generator=torch.Generator().manual_seed(0))
        nn.init.normal_(self.spline_weight, std=0.01, generator=torch.Generator().manual_seed(1))

    def forward(self, x: Tensor) -> Tensor:
        splines = torch.stack([x, x**2, x**3, torch.ones_like(x)], -1)
        return F.linear(F.silu(x), self.base_weight) + F.linear(splines.flatten(1), self.spline_weight.flatten(1))


def test_a_kan_has_no_error_of_scale():
    """The splines' weights are small in both layers; those of the second are heads, which may start so."""
    found = check(nn.Sequential(Kan(WIDTH, WIDTH), Kan(WIDTH, 4)), BATCH).findings
    scale = {each.layer: str(each.severity) for each in found if each.code.startswith("INI10")}
    assert scale.pop("0.spline_weight") == "warning"
    assert "1.spline_weight" not in scale
    assert "error" not in scale.values()


@pytest.mark.parametrize("rank", [2, 4])
def test_a_low_rank_update_beside_a_frozen_weight(rank: int):
    """LoRA once trained, A and B both small: the frozen weight carries the signal."""

    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(WIDTH, WIDTH, bias=False).requires_grad_(False)
            self.down, self.up = nn.Linear(WIDTH, rank, bias=False), nn.Linear(rank, WIDTH, bias=False)
            for layer in (self.base, self.down, self.up):
                nn.init.normal_(layer.weight, std=0.2, generator=torch.Generator().manual_seed(0))
            with torch.no_grad():
                self.up.weight.mul_(0.01)
                self.down.weight.mul_(0.01)

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + self.up(self.down(x))

    found = check(nn.Sequential(Adapted(), nn.ReLU(), nn.Linear(WIDTH, 4)), BATCH).findings
    severities = {each.layer: str(each.severity) for each in found if each.layer in ("0.down", "0.up")}
    assert severities == {"0.down": "warning", "0.up": "warning"}


def test_what_a_product_is_added_to_is_a_sum():
    """relu(h + x W) of addmm: neither h's layer nor W feeds the relu alone."""
    model = Net(
        lambda net, x: F.relu(torch.addmm(net.a(x), x, net.w)),
        a=nn.Linear(WIDTH, WIDTH),
        w=nn.Parameter(torch.randn(WIDTH, WIDTH)),
    )
    made = plan(model, BATCH)
    assert {name: (each.nonlinearity, each.reason) for name, each in made.items()} == {
        "a": ("linear", "add"),
        "w": ("linear", "add"),
    }
