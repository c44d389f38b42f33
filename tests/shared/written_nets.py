"""What the tests of hard cases share: models written in one place, and what each of their layers is to become.

Every expectation is derived by hand: a layer's fans from the sum that it computes, its gain from a closed form or from
scipy's quadrature.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from scipy import integrate, special
from torch import Tensor, nn

from autoinit import LayerPlan, Plan, plan

Runs = tuple[tuple[int, int], ...]


class Net(nn.Module):
    """Modules, parameters and buffers under their names, and a given forward of one input, `forward(net, x)`."""

    def __init__(self, forward: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)
        self.given = forward

    def forward(self, x: Any) -> Any:
        return self.given(self, x)


class Many(Net):
    """A forward of several inputs, `forward(net, *inputs)`."""

    def forward(self, *inputs: Any) -> Any:
        return self.given(self, *inputs)


@dataclass(frozen=True)
class Layer:
    """What a layer, or some of its output rows, is to become; std None where it does not get one."""

    nonlinearity: str
    reason: str
    std: float | None
    params: Mapping[str, float] = field(default_factory=dict)
    normalised: bool = False
    status: str = "planned"
    slices: tuple[tuple[Runs, Layer], ...] = ()


def normed(layer: Layer) -> Layer:
    """The same, with a norm on the way."""
    return replace(layer, normalised=True)


def mixed(layer: Layer) -> Layer:
    """The same, where it is one of several things that the weight feeds."""
    return replace(layer, reason="mixed")


def he(nonlinearity: str, moment: float, fan_in: float, **params: float) -> Layer:
    """std = 1 / sqrt(E[phi^2] fan_in)."""
    return Layer(nonlinearity, "activation", 1 / math.sqrt(moment * fan_in), params)


def relu(fan_in: float) -> Layer:
    """E[relu^2] = 1/2."""
    return he("relu", 0.5, fan_in)


def xavier(fan_in: float, fan_out: float, gain: float = 1.0) -> float:
    return gain * math.sqrt(2 / (fan_in + fan_out))


def linear(reason: str, fan_in: float, fan_out: float) -> Layer:
    return Layer("linear", reason, xavier(fan_in, fan_out))


def sigmoid(fan_in: float, fan_out: float) -> Layer:
    return Layer("sigmoid", "activation", xavier(fan_in, fan_out))


def tanh(fan_in: float, fan_out: float) -> Layer:
    """torch.nn.init.calculate_gain("tanh") is 5/3."""
    return Layer("tanh", "activation", xavier(fan_in, fan_out, 5 / 3))


def softmax(fan_in: float, fan_out: float) -> Layer:
    return Layer("softmax", "softmax", xavier(fan_in, fan_out))


def known(letter: str, what: str) -> pytest.MarkDecorator:
    """A fault that is known; the mark goes with the fault."""
    return pytest.mark.xfail(strict=True, reason=f"{letter}: {what}")


UNRESOLVED = Layer("linear", "unresolved", None, status="unresolved")


def parted(whole: Layer, *parts: tuple[int, Layer]) -> Layer:
    """A layer whose output rows part into consecutive runs; the whole's std is the root mean square of theirs."""
    slices: list[tuple[Runs, Layer]] = []
    start, total = 0, 0.0
    for count, layer in parts:
        assert layer.std is not None
        slices.append((((start, start + count),), layer))
        start, total = start + count, total + count * layer.std**2
    return replace(whole, std=math.sqrt(total / start), slices=tuple(slices))


def second_moment(phi: Callable[[float], float], *kinks: float) -> float:
    """E[phi(z)^2], z ~ N(0, 1), by scipy, on [-12, 12] (the density beyond is under 1e-31)."""
    edges = [-12.0, *sorted(kinks), 12.0]
    return sum(
        integrate.quad(lambda z: phi(z) ** 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi), low, high, limit=200)[0]
        for low, high in itertools.pairwise(edges)
    )


def logistic(z: float) -> float:
    return float(special.expit(z))


GELU_MOMENT = second_moment(lambda z: z * float(special.ndtr(z)))
SILU_MOMENT = second_moment(lambda z: z * logistic(z))
SOFTPLUS_MOMENT = second_moment(lambda z: float(math.log1p(math.exp(z))))


def gelu(fan_in: float) -> Layer:
    return he("gelu", GELU_MOMENT, fan_in)


def silu(fan_in: float) -> Layer:
    return he("silu", SILU_MOMENT, fan_in)


def softplus(fan_in: float) -> Layer:
    return he("softplus", SOFTPLUS_MOMENT, fan_in, beta=1.0, threshold=20.0)


def numbers(*shape: int) -> Tensor:
    """Values between -1 and 1, no two alike."""
    return torch.linspace(-1, 1, math.prod(shape)).view(shape)


def assert_planned(model: nn.Module, inputs: Any, expected: Mapping[str, Layer], **options: Any) -> Plan:
    """Plan the model, compare every layer with what is expected of it, and return the plan."""
    made = plan(model, inputs, **options)
    assert sorted(made) == sorted(expected), sorted(made)
    for name, layer in expected.items():
        _assert_layer(name, made[name], layer)
    return made


def _assert_layer(name: str, found: LayerPlan, layer: Layer) -> None:
    seen = (found.nonlinearity, found.reason, found.normalised, found.status)
    assert seen == (layer.nonlinearity, layer.reason, layer.normalised, layer.status), f"{name}: {seen}"
    assert dict(found.params) == pytest.approx(dict(layer.params), rel=1e-5), name
    if layer.std is not None:
        assert found.std == pytest.approx(layer.std, rel=1e-6), f"{name}: {found.std}, not {layer.std}"
    assert [part.rows for part in found.slices] == [rows for rows, _ in layer.slices], name
    for part, (rows, row) in zip(found.slices, layer.slices, strict=True):
        assert (part.nonlinearity, part.reason, part.normalised) == (row.nonlinearity, row.reason, row.normalised), rows
        assert part.std == pytest.approx(row.std, rel=1e-6), f"{name} {rows}: {part.std}, not {row.std}"
