"""Weights that a signal changes on the way: StyleGAN2's modulated convolutions, grouped by the batch.

A weight (16, 8, 3, 3) sums 8 * 9 = 72 products in an output, and an input reaches 16 * 9 = 144, whatever the batch.
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
from tests.shared.written_nets import Many, numbers

IN, OUT, CODE, SIZE = 8, 16, 12, 6
FAN_IN, FAN_OUT = 72, 144
HE = math.sqrt(2 / FAN_IN)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def batch(count: int = 2) -> tuple[Tensor, Tensor]:
    return numbers(count, IN, SIZE, SIZE), numbers(count, CODE)


def grouped(x: Tensor, weight: Tensor) -> Tensor:
    """Each sample's convolution with its own weight, as one convolution of as many groups."""
    count = x.shape[0]
    y = F.conv2d(x.reshape(1, -1, SIZE, SIZE), weight.reshape(count * OUT, IN, 3, 3), padding=1, groups=count)
    return y.reshape(count, OUT, SIZE, SIZE)


def modulated(net: Any, style: Tensor) -> Tensor:
    return net.weight * style.view(-1, 1, IN, 1, 1)


def by_root(weight: Tensor) -> Tensor:
    return weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4], keepdim=True) + 1e-8)


def by_normalize(weight: Tensor) -> Tensor:
    return F.normalize(weight.flatten(2), dim=-1).view_as(weight)


def by_norm(weight: Tensor) -> Tensor:
    return weight / weight.flatten(2).norm(dim=-1).view(-1, OUT, 1, 1, 1)


DEMODULATED: dict[str, Callable[[Tensor], Tensor]] = {"root": by_root, "normalize": by_normalize, "norm": by_norm}
MODULATED: dict[str, tuple[Callable[[Any, Tensor], Tensor], float]] = {
    "plain": (modulated, 1.0),
    "equalised": (lambda net, style: modulated(net, style) / math.sqrt(FAN_IN), 1 / math.sqrt(FAN_IN)),
    "around_one": (lambda net, style: modulated(net, 1 + style), 1.0),  # whatever it is, the signal stands at 1
    "in_place": (lambda net, style: net.weight.repeat(2, 1, 1, 1, 1).mul_(style.view(-1, 1, IN, 1, 1)), 1.0),
}


def model(change: Callable[[Any, Tensor], Tensor], shape: tuple[int, ...] = (1, OUT, IN, 3, 3)) -> Many:
    return Many(
        lambda net, x, code: F.relu(grouped(x, change(net, net.style(code)))),
        style=nn.Linear(CODE, IN),
        weight=parameter(*shape),
    )


@pytest.mark.parametrize("tier", ["recorded", "exported"])
@pytest.mark.parametrize("key", MODULATED)
def test_a_modulated_convolution(key: str, tier: str):
    """relu(conv(x, factor * w * style)): sqrt(2 / 72) / factor; the style feeds a weight."""
    change, factor = MODULATED[key]
    net = model(change)
    made = plan(net, batch()) if tier == "recorded" else plan(torch.export.export(net, batch()))
    layer = made["weight"]
    assert (layer.op.startswith("conv"), layer.nonlinearity, layer.status) == (True, "relu", "planned")
    assert (layer.fan_in, layer.fan_out) == (FAN_IN, FAN_OUT)
    assert layer.std == pytest.approx(HE / factor, rel=1e-4)
    assert "scaled by a signal" in layer.note
    assert (made["style"].nonlinearity, made["style"].reason) == ("linear", "weight")


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("key", DEMODULATED)
def test_a_demodulated_convolution(key: str, count: int):
    """The scale is normalised away, as by weight standardisation, whatever the batch."""
    layer = plan(model(lambda net, style: DEMODULATED[key](modulated(net, style))), batch(count))["weight"]
    assert (layer.nonlinearity, layer.fan_in, layer.fan_out) == ("relu", FAN_IN, FAN_OUT)
    assert layer.std == pytest.approx(HE)
    assert "scaled by a signal, which normalises its scale away" in layer.note


def test_a_weight_without_an_axis_for_samples():
    layer = plan(model(lambda net, style: net.weight[None] * style.view(-1, 1, IN, 1, 1), (OUT, IN, 3, 3)), batch())
    assert (layer["weight"].axes, layer["weight"].fan_in, layer["weight"].fan_out) == ("oikk", FAN_IN, FAN_OUT)


def test_an_upsampling_convolution():
    """Transposed, stride 2, kernel 3: an output sums 8 * 9 / 4 = 18 products, an input reaches 16 * 9 outputs."""

    def forward(net: Any, x: Tensor, code: Tensor) -> Tensor:
        count, weight = x.shape[0], modulated(net, net.style(code)).transpose(1, 2)
        weight = weight.reshape(count * IN, OUT, 3, 3)
        y = F.conv_transpose2d(x.reshape(1, -1, SIZE, SIZE), weight, stride=2, groups=count)
        return F.relu(y.view(count, OUT, *y.shape[2:]))

    layer = plan(Many(forward, style=nn.Linear(CODE, IN), weight=parameter(1, OUT, IN, 3, 3)), batch())["weight"]
    assert (layer.fan_in, layer.fan_out, layer.std) == (18, FAN_OUT, pytest.approx(math.sqrt(2 / 18)))


@pytest.mark.parametrize("demodulate", [True, False], ids=["demodulated", "modulated"])
def test_stylegan2_s_layer(demodulate: bool):
    """With its equalised learning rate, bias and leaky_relu(0.2) sqrt(2); it is right once written."""

    def change(net: Any, style: Tensor) -> Tensor:
        weight = modulated(net, style) / math.sqrt(FAN_IN)
        return by_root(weight) if demodulate else weight

    net = Many(
        lambda net, x, code: net.to_rgb(
            F.leaky_relu(grouped(x, change(net, net.style(code))) + net.bias, 0.2) * math.sqrt(2)
        ),
        style=nn.Linear(CODE, IN),
        weight=parameter(1, OUT, IN, 3, 3),
        bias=nn.Parameter(torch.zeros(OUT, 1, 1)),
        to_rgb=nn.Conv2d(OUT, 3, 1),
    )
    layer = plan(net, batch())["weight"]
    std = math.sqrt(1 / 1.04)
    assert layer.std == pytest.approx(std / math.sqrt(FAN_IN) if demodulate else std, rel=1e-4)
    autoinit(net, batch(), seed=0, verbose=False)
    assert check(net, batch()).ok


def test_a_weight_that_another_network_makes_is_no_parameter_s():
    """A hypernetwork's output alone: there is no parameter to list beside its layer."""
    net = Many(
        lambda net, x, code: F.relu(F.conv2d(x, net.make(code)[0].view(OUT, IN, 3, 3))),
        make=nn.Linear(CODE, OUT * IN * 9),
    )
    assert set(plan(net, batch())) == {"make"}


def test_a_weight_that_another_network_adds_to():
    """W + hyper(code): W is a weight, whose scale the sum keeps."""
    net = Many(
        lambda net, x, code: F.relu(F.conv2d(x, net.weight + net.make(code)[0].view(OUT, IN, 3, 3))),
        make=nn.Linear(CODE, OUT * IN * 9),
        weight=parameter(OUT, IN, 3, 3),
    )
    made = plan(net, batch())
    assert (made["weight"].nonlinearity, made["weight"].std) == ("relu", pytest.approx(HE, rel=1e-4))
