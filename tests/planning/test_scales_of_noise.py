"""`mu + sigma * eps` in other words: sigma, which says how noisy a weight is, is left; mu gets the scale.

All compute relu((mu + sigma * eps) x) of 8 inputs: mu gets sqrt(2 / 8).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import Plan, plan

IN, OUT = 8, 16
HE = math.sqrt(2 / IN)


class Noisy(nn.Linear):
    """A linear layer whose weight is noisy in a given way."""

    def __init__(self, given: Callable[[Noisy, Tensor], Tensor]) -> None:
        super().__init__(IN, OUT)
        self.sigma = nn.Parameter(0.1 * torch.rand(OUT, IN, generator=torch.Generator().manual_seed(0)))
        self.register_buffer("eps", torch.randn(OUT, IN, generator=torch.Generator().manual_seed(1)))
        self.given = given

    def forward(self, x: Tensor) -> Tensor:
        return self.given(self, x)


def planned(given: Callable[[Noisy, Tensor], Tensor]) -> Plan:
    return plan(nn.Sequential(Noisy(given), nn.ReLU()), (4, IN))


ONE_WEIGHT: dict[str, Callable[[Noisy, Tensor], Tensor]] = {
    "addcmul": lambda net, x: F.linear(x, torch.addcmul(net.weight, net.sigma, net.eps)),
    "addcmul_method": lambda net, x: F.linear(x, net.weight.addcmul(net.eps, net.sigma, value=0.5)),
    "method": lambda net, x: F.linear(x, net.weight + net.sigma.mul(net.eps)),
    "less": lambda net, x: torch.einsum("bi,oi->bo", x, net.weight - net.eps * net.sigma),
    "lerp": lambda net, x: F.linear(x, torch.lerp(net.weight, net.weight + net.eps, net.sigma)),
    "distribution": lambda net, x: F.linear(x, torch.distributions.Normal(net.weight, net.sigma).rsample()),
    "softplus": lambda net, x: F.linear(x, net.weight + F.softplus(net.sigma) * torch.randn_like(net.weight)),
    "precision": lambda net, x: F.linear(x, net.weight + net.eps / net.sigma),
}
TWO_LAYERS: dict[str, Callable[[Noisy, Tensor], Tensor]] = {
    "sum": lambda net, x: F.linear(x, net.weight) + F.linear(x, net.sigma * net.eps),
    "biases": lambda net, x: (
        F.linear(x, net.sigma * net.eps, net.bias * net.eps[:, 0]) + F.linear(x, net.weight, net.bias)
    ),
    "noise_of_the_bias": lambda net, x: (
        F.linear(x, net.weight, net.bias * net.eps[:, 0]) + F.linear(x, net.sigma * net.eps)
    ),
    "products": lambda net, x: x @ net.weight.T + x @ (net.sigma * torch.randn_like(net.sigma)).T,
    "less": lambda net, x: F.linear(x, net.weight) - F.linear(x, torch.mul(net.sigma, net.eps)),
    "two_sided": lambda net, x: F.linear(x, net.weight) + F.linear(x * net.eps[0], net.sigma) * net.eps[:, 0],
}


@pytest.mark.parametrize("key", [*ONE_WEIGHT, *(f"layers_{key}" for key in TWO_LAYERS)])
def test_the_scale_of_noise(key: str):
    made = planned(TWO_LAYERS[key.removeprefix("layers_")] if key.startswith("layers_") else ONE_WEIGHT[key])
    (layer,) = made.layers
    assert (layer.param, layer.nonlinearity, layer.std) == ("0.weight", "relu", pytest.approx(HE))
    assert "it scales the noise" in next(each.note for each in made.others if each.name == "0.sigma")


def test_a_weight_that_is_drawn():
    """torch.normal(mu, sigma) stands around mu."""
    made = planned(lambda net, x: F.linear(x, torch.normal(net.weight, net.sigma.abs())))
    assert {layer.param: layer.std for layer in made.layers} == {"0.weight": pytest.approx(HE)}


TWO_WEIGHTS: dict[str, Callable[[Noisy, Tensor], Tensor]] = {
    "another_input": lambda net, x: F.linear(x, net.weight) + F.linear(x.flip(0), net.sigma * net.eps),
    "scaled_input": lambda net, x: F.linear(x, net.weight) + F.linear(x * net.eps[0], net.sigma),
    "both_noisy": lambda net, x: F.linear(x, net.weight * net.eps) + F.linear(x, net.sigma * net.eps),
    "after_a_relu": lambda net, x: F.linear(x, net.sigma * net.eps) + F.relu(F.linear(x, net.weight)),
}


@pytest.mark.parametrize("key", TWO_WEIGHTS)
def test_a_layer_of_its_own_is_no_noise(key: str):
    assert {layer.param for layer in planned(TWO_WEIGHTS[key]).layers} == {"0.weight", "0.sigma"}
