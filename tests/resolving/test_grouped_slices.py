"""Slices of grouped convolutions: only the groups that their rows lie in count."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import autoinit, check, plan
from tests.shared.written_nets import Many, Net

CHANNELS = 12
THIRD = 1 / 3
"""A depthwise 3x3 convolution: an output sums 9 products and an input reaches 9, sqrt(2 / (9 + 9))."""

HALVES: dict[str, Callable[[Tensor], Any]] = {
    "chunk": lambda y: y.chunk(2, 1),
    "split": lambda y: torch.split(y, CHANNELS // 2, dim=1),
    "slices": lambda y: (y[:, : CHANNELS // 2], y[:, CHANNELS // 2 :]),
    "unbind": lambda y: y.unflatten(1, (2, CHANNELS // 2)).unbind(1),
    "interleaved": lambda y: (y[:, ::2], y[:, 1::2]),
}


@pytest.mark.parametrize("way", ["recorded", "guessed", "exported"])
@pytest.mark.parametrize("key", HALVES)
def test_a_depthwise_convolution_cut_in_two(key: str, way: str):
    """NAFNet's SimpleGate: a * b of two halves of a depthwise convolution."""

    def forward(net: Any, x: Tensor) -> Tensor:
        a, b = HALVES[key](net.depthwise(net.widen(x)))
        return net.last(a * b)

    model = Net(
        forward,
        widen=nn.Conv2d(4, CHANNELS, 1),
        depthwise=nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS),
        last=nn.Conv2d(CHANNELS // 2, 4, 1),
    )
    x = torch.zeros(1, 4, 8, 8)
    given = torch.export.export(model, (x,)) if way == "exported" else model
    made = plan(given, x if way == "recorded" else None)["depthwise"]
    assert [(part.fan_in, part.fan_out) for part in made.slices] == [(9, 9), (9, 9)]
    assert made.std == pytest.approx(THIRD)


def test_a_depthwise_convolution_cut_in_three():
    """Restormer: q, k and v are thirds of a depthwise convolution of a 1x1 one."""

    def forward(net: Any, x: Tensor) -> Tensor:
        q, k, v = net.depthwise(net.qkv(x)).chunk(3, 1)
        q, k, v = (each.flatten(2) for each in (q, k, v))
        shares = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(1, 2)).softmax(-1)
        return net.out((shares @ v).unflatten(2, x.shape[2:]))

    model = Net(
        forward,
        qkv=nn.Conv2d(4, CHANNELS, 1, bias=False),
        depthwise=nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS, bias=False),
        out=nn.Conv2d(4, 4, 1, bias=False),
    )
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    made = plan(model, x)
    assert [part.std for part in made["depthwise"].slices] == [pytest.approx(THIRD)] * 3
    assert made["depthwise"].std == pytest.approx(THIRD)
    autoinit(model, x, seed=0, verbose=False)
    assert check(model, x).ok


def test_a_part_of_a_group_and_whole_groups():
    """Two groups of 8 -> 8 of 1x1 (fan_in 4), cut 2 : 6. The first part has 2 rows of one group: fan_out 2. The other
    has the first group's other 2 and the second's 4, 3 on average: fan_out 3."""
    model = Net(
        lambda net, x: torch.cat([part.sigmoid() for part in net.conv(x).split([2, 6], 1)], 1),
        conv=nn.Conv2d(8, 8, 1, groups=2),
    )
    parts = plan(model, (1, 8, 4, 4))["conv"].slices
    assert [(part.fan_in, part.fan_out) for part in parts] == [(4, 2), (4, 3)]
    assert [part.std for part in parts] == pytest.approx([math.sqrt(2 / 6), math.sqrt(2 / 7)])


@pytest.mark.parametrize("way", ["module", "functional"])
def test_a_grouped_transposed_convolution(way: str):
    """4 groups of 2 -> 3, kernel 2, stride 2: an output sums 2 * 4 / 4 products; an input reaches 3 * 4 of its group,
    all of which lie in one half."""
    conv = nn.ConvTranspose2d(8, 12, 2, stride=2, groups=4)

    def forward(net: Any, x: Tensor) -> Tensor:
        y = net.conv(x) if way == "module" else F.conv_transpose2d(x, net.conv.weight, stride=2, groups=4)
        a, b = y.chunk(2, 1)
        return torch.tanh(a).sum() + torch.sigmoid(b).sum()

    parts = plan(Many(forward, conv=conv), torch.zeros(1, 8, 4, 4))["conv"].slices
    assert [(part.rows, part.nonlinearity) for part in parts] == [(((0, 6),), "tanh"), (((6, 12),), "sigmoid")]
    assert [(part.fan_in, part.fan_out) for part in parts] == [(2, 12), (2, 12)]
