"""Activations that are autograd.Functions: what forward computes counts, in every tier alike.

silu has the second moment 0.35576 (scipy), so that a layer of fan_in n before it has std 1 / sqrt(0.35576 n).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import resolve, trace
from autoinit.resolving import Resolution
from tests.shared.written_nets import Net, numbers

SIDE = 12
BATCH = (numbers(2, 3, SIDE, SIDE),)
TIERS: dict[str, Callable[[nn.Module], Any]] = {
    "symbolic": lambda model: trace(model, tier="symbolic"),
    "recorded": lambda model: trace(model, BATCH),
    "exported": lambda model: trace(torch.export.export(model, BATCH)),
    "guessed": lambda model: trace(model, tier="recorded"),
}


class Swish(torch.autograd.Function):
    """As in efficientnet_pytorch: saves its input alone."""

    @staticmethod
    def forward(ctx: Any, i: Tensor) -> Tensor:
        ctx.save_for_backward(i)
        return i * torch.sigmoid(i)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (i,) = ctx.saved_tensors
        gate = torch.sigmoid(i)
        return grads[0] * (gate * (1 + i * (1 - gate)))


class Mish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.mul(torch.tanh(F.softplus(x)))

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class Leaky(torch.autograd.Function):
    """The newer form, with the context apart; and a slope that is an argument."""

    @staticmethod
    def forward(x: Tensor, slope: float) -> Tensor:
        return torch.where(x > 0, x, slope * x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Any:
        return grads[0], None


class Clamped(torch.autograd.Function):
    """Written over in place."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x.clone().clamp_(min=0)

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class Reversed(torch.autograd.Function):
    """The identity, whose gradient is turned round (Ganin & Lempitsky 2015)."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        return -grads[0]


FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], str, dict[str, float]]] = {
    "swish": (Swish.apply, "silu", {}),
    "mish": (Mish.apply, "mish", {}),
    "leaky": (lambda x: Leaky.apply(x, 0.1), "leaky_relu", {"negative_slope": 0.1}),
    "clamped": (Clamped.apply, "relu", {}),
    "reversed": (lambda x: torch.tanh(Reversed.apply(x)), "tanh", {}),
}


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("key", FUNCTIONS)
def test_an_autograd_function(key: str, tier: str):
    function, name, params = FUNCTIONS[key]
    model = Net(lambda net, x: function(net.conv(x)), conv=nn.Conv2d(3, 8, 3))
    (found,) = resolve(TIERS[tier](model))
    assert (found.nonlinearity, found.params) == (name, pytest.approx(params))


class MemoryEfficientSwish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Swish.apply(x)


class SameConv(nn.Conv2d):
    """Pads by a module of its own, then calls the function."""

    def __init__(self, inputs: int, outputs: int, kernel: int, **others: Any) -> None:
        super().__init__(inputs, outputs, kernel, **others)
        self.static_padding = nn.ZeroPad2d(1) if kernel == 3 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        padded = self.static_padding(x)
        return F.conv2d(padded, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def drop_connect(x: Tensor, rate: float, training: bool) -> Tensor:
    if not training:
        return x
    keep = 1 - rate + torch.rand([x.shape[0], 1, 1, 1], dtype=x.dtype, device=x.device)
    return x / (1 - rate) * torch.floor(keep)


class Block(nn.Module):
    """efficientnet_pytorch's MBConvBlock."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self._expand_conv, self._bn0 = SameConv(width, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self._depthwise_conv = SameConv(inner, inner, 3, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner)
        self._se_reduce, self._se_expand = SameConv(inner, 4, 1), SameConv(4, inner, 1)
        self._project_conv, self._bn2 = SameConv(inner, width, 1, bias=False), nn.BatchNorm2d(width)
        self._swish = MemoryEfficientSwish()

    def forward(self, inputs: Tensor, rate: float) -> Tensor:
        x = self._swish(self._bn0(self._expand_conv(inputs)))
        x = self._swish(self._bn1(self._depthwise_conv(x)))
        squeezed = self._se_expand(self._swish(self._se_reduce(F.adaptive_avg_pool2d(x, 1))))
        x = self._bn2(self._project_conv(torch.sigmoid(squeezed) * x))
        return (drop_connect(x, rate, self.training) if rate else x) + inputs


class EfficientNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8)
        self._blocks = nn.ModuleList(Block(8, 32) for _ in range(2))
        self._swish, self._dropout, self._fc = MemoryEfficientSwish(), nn.Dropout(0.2), nn.Linear(8, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        x = self._swish(self._bn0(self._conv_stem(inputs)))
        for number, block in enumerate(self._blocks):
            x = block(x, rate=0.2 * number)
        return self._fc(self._dropout(F.adaptive_avg_pool2d(self._swish(x), 1).flatten(1)))


BLOCK = {
    "_expand_conv": ("silu", "activation", True),
    "_depthwise_conv": ("silu", "activation", True),
    "_se_reduce": ("silu", "activation", False),
    "_se_expand": ("sigmoid", "activation", False),
    "_project_conv": ("linear", "add", True),
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("tier", TIERS)
def test_efficientnet(tier: str, training: bool):
    def told(found: Resolution) -> tuple[str, str, bool]:
        return found.nonlinearity, str(found.reason), found.normalised

    expected = {f"_blocks.{number}.{name}": each for number in (0, 1) for name, each in BLOCK.items()}
    expected |= {"_conv_stem": ("silu", "activation", True), "_fc": ("linear", "output", False)}
    found = resolve(TIERS[tier](EfficientNet().train(training)))
    assert {each.name: told(each) for each in found} == expected


def test_the_gain_of_swish():
    (found,) = resolve(trace(Net(lambda net, x: Swish.apply(net.conv(x)), conv=nn.Conv2d(3, 8, 3)), BATCH))
    assert found.ending.gain == pytest.approx(1 / math.sqrt(0.35576), rel=1e-3)
