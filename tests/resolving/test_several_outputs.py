"""Operations with several outputs: each belongs to the operand in its place, in every tier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Independent, Laplace, Normal

from autoinit import autoinit, check, plan
from autoinit.models import ModelView
from autoinit.planning import plan_dataflow
from autoinit.plans.options import PlanOptions
from autoinit.tracing import trace
from tests.shared.written_nets import Many, Net, assert_planned, linear, numbers, relu, softplus, tanh

WIDTH, HIDDEN, ACTIONS = 6, 16, 2

PAIRS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "broadcast": lambda a, b: torch.broadcast_tensors(a, b),
    "broadcast_shapes_differ": lambda a, b: torch.broadcast_tensors(a, b.mean(0, keepdim=True)),
    "meshgrid": lambda a, b: torch.meshgrid(a.flatten(), b.flatten(), indexing="ij"),
    "meshgrid_of_a_list": lambda a, b: torch.meshgrid([a.flatten(), b.flatten()], indexing="xy"),
    "atleast": lambda a, b: torch.atleast_3d(a, b),
    "taken_from_the_end": lambda a, b: (lambda both: (both[-2], both[-1]))(torch.broadcast_tensors(a, b)),
}


def two(pair: Callable[[Tensor, Tensor], Any]) -> Net:
    def forward(net: Any, x: Tensor) -> Tensor:
        both = pair(net.a(x), net.b(x))
        return torch.relu(both[0]).sum() + torch.tanh(both[1]).sum()

    return Net(forward, a=nn.Linear(WIDTH, WIDTH), b=nn.Linear(WIDTH, WIDTH))


@pytest.mark.parametrize("tier", ["recorded", "symbolic", "exported"])
@pytest.mark.parametrize("key", PAIRS)
def test_each_output_is_its_own_operand_s(key: str, tier: str):
    """One output feeds relu, the other tanh: not both of them both."""
    model, x = two(PAIRS[key]), numbers(2, WIDTH)
    if tier == "symbolic":
        made = plan_dataflow(trace(model, tier="symbolic"), ModelView.of(model), PlanOptions())
        assert {name: each.nonlinearity for name, each in made.items()} == {"a": "relu", "b": "tanh"}
    else:
        given = torch.export.export(model, (x,)) if tier == "exported" else model
        assert_planned(given, None if tier == "exported" else x, {"a": relu(WIDTH), "b": tanh(WIDTH, WIDTH)})


@pytest.mark.parametrize("inputs", [None, (2, WIDTH)], ids=["no_input", "input"])
def test_outputs_that_go_on_together(inputs: Any):
    """stack(broadcast_tensors(a, b)): both feed what follows."""
    model = Net(
        lambda net, x: torch.relu(torch.stack(torch.broadcast_tensors(net.a(x), net.b(x)))),
        a=nn.Linear(WIDTH, WIDTH),
        b=nn.Linear(WIDTH, WIDTH),
    )
    assert_planned(model, inputs, {"a": relu(WIDTH), "b": relu(WIDTH)})


@pytest.mark.parametrize("inputs", [None, (2, WIDTH)], ids=["no_input", "input"])
def test_one_tensor_that_is_given_axes(inputs: Any):
    """atleast_2d of one tensor returns a tensor, not several."""
    model = Net(lambda net, x: torch.relu(torch.atleast_2d(net.a(x))), a=nn.Linear(WIDTH, WIDTH))
    assert_planned(model, inputs, {"a": relu(WIDTH)})


def test_halves_of_one_output():
    """The rows are followed through it: the first three feed relu, the others tanh."""

    def forward(net: Any, x: Tensor) -> Tensor:
        a, _ = torch.broadcast_tensors(net.a(x), x)
        return torch.relu(a[:, :3]).sum() + torch.tanh(a[:, 3:]).sum()

    made = plan(Net(forward, a=nn.Linear(WIDTH, WIDTH)), (2, WIDTH))["a"]
    assert [(part.rows, part.nonlinearity) for part in made.slices] == [(((0, 3),), "relu"), (((3, 6),), "tanh")]


POLICIES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "normal": lambda mu, sigma, a: Normal(mu, sigma).log_prob(a).sum(-1),
    "independent": lambda mu, sigma, a: Independent(Normal(mu, sigma), 1).log_prob(a),
    "laplace": lambda mu, sigma, a: Laplace(mu, sigma).log_prob(a).sum(-1),
}


@pytest.mark.parametrize("key", POLICIES)
def test_a_policy_s_likelihood(key: str):
    """(a - mu) / sigma: the head mu feeds a subtraction and is linear; the other feeds its softplus."""

    def forward(net: Any, observation: Tensor, action: Tensor) -> Tensor:
        h = torch.tanh(net.body(observation))
        return POLICIES[key](net.mu(h), F.softplus(net.sigma(h)), action)

    model = Many(
        forward, body=nn.Linear(WIDTH, HIDDEN), mu=nn.Linear(HIDDEN, ACTIONS), sigma=nn.Linear(HIDDEN, ACTIONS)
    )
    expected = {
        "body": tanh(WIDTH, HIDDEN),
        "mu": linear("add", HIDDEN, ACTIONS),
        "sigma": softplus(HIDDEN),
    }
    inputs = (numbers(4, WIDTH), numbers(4, ACTIONS))
    assert_planned(model, inputs, expected)
    autoinit(model, inputs, seed=0, verbose=False)
    assert check(model, inputs).ok
