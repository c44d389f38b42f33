"""Activations put together from elementary operations: named where they have a name, else their gain is computed."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import integrate, special
from torch import Tensor, nn

from autoinit.resolving import Reason, Resolution, resolve
from autoinit.tracing import trace
from tests.shared.small_nets import Between

WIDTH = 6

Function = Callable[[Tensor], Tensor]
Name = tuple[str, dict[str, float]]

tiers = pytest.mark.parametrize("tier", ["symbolic", "recorded"])


def inputs() -> Tensor:
    return torch.linspace(-1, 1, 4 * WIDTH).view(4, WIDTH)


def layers(model: nn.Module, tier: Any) -> dict[str, Resolution]:
    found = resolve(trace(model, None if tier == "symbolic" else inputs(), tier=tier))
    return {each.name: each for each in found}


def resolved(function: Function, tier: Any) -> Resolution:
    return layers(Between(WIDTH, function), tier)["before"]


def second_moment(phi: Callable[[float], float], *kinks: float) -> float:
    """E[phi(z)^2], z ~ N(0, 1), by scipy, on [-12, 12] (the density beyond is under 1e-31)."""
    edges = [-12.0, *sorted(kinks), 12.0]
    parts = (
        integrate.quad(lambda z: phi(z) ** 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi), low, high, limit=200)[0]
        for low, high in itertools.pairwise(edges)
    )
    return sum(parts)


# Functions with a name.

GELU_TANH = math.sqrt(2 / math.pi)


def swish_in_place(x: Tensor) -> Tensor:
    return x.mul_(torch.sigmoid(x))


def leaky_in_two_halves(x: Tensor) -> Tensor:
    positive = (x + x.abs()) / 2
    negative = (x - x.abs()) / 2
    return positive + 0.1 * negative


def squared(x: Tensor) -> Tensor:
    r = torch.relu(x)
    return r * r


NAMED: dict[str, tuple[Function, Name]] = {
    "swish": (lambda x: x * torch.sigmoid(x), ("silu", {})),
    "swish_reversed": (lambda x: x.sigmoid() * x, ("silu", {})),
    "swish_mul": (lambda x: torch.mul(x, F.sigmoid(x)), ("silu", {})),
    "swish_by_exp": (lambda x: x / (1 + torch.exp(-x)), ("silu", {})),
    "swish_by_reciprocal": (lambda x: x * (1 + (-x).exp()).reciprocal(), ("silu", {})),
    "swish_by_one_over": (lambda x: x * (1 / (1 + torch.exp(-x))), ("silu", {})),
    "swish_by_pow": (lambda x: x * (1 + torch.exp(-x)) ** -1, ("silu", {})),
    "swish_by_tanh": (lambda x: 0.5 * x * (1 + torch.tanh(0.5 * x)), ("silu", {})),
    "swish_beta_one": (lambda x: x * torch.sigmoid(1.0 * x), ("silu", {})),
    "swish_in_place": (swish_in_place, ("silu", {})),
    "quick_gelu": (lambda x: x * torch.sigmoid(1.702 * x), ("quick_gelu", {})),
    "gelu_erf": (lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))), ("gelu", {})),
    "gelu_erf_halved_last": (lambda x: x * (1 + torch.erf(x * 0.7071067811865476)) * 0.5, ("gelu", {})),
    "gelu_erf_divided": (lambda x: x * (torch.erf(x / 2**0.5) + 1) / 2, ("gelu", {})),
    "gelu_erfc": (lambda x: x * 0.5 * torch.erfc(-x / math.sqrt(2)), ("gelu", {})),
    "gelu_ndtr": (lambda x: x * torch.special.ndtr(x), ("gelu", {})),
    "gelu_tanh": (lambda x: 0.5 * x * (1 + torch.tanh(GELU_TANH * (x + 0.044715 * torch.pow(x, 3)))), ("gelu", {})),
    "gelu_tanh_star": (lambda x: 0.5 * x * (1 + torch.tanh(GELU_TANH * (x + 0.044715 * x**3))), ("gelu", {})),
    "gelu_tanh_products": (
        lambda x: 0.5 * x * (1 + (x * 0.7978845608 * (1 + 0.044715 * x * x)).tanh()),
        ("gelu", {}),
    ),
    "mish": (lambda x: x * torch.tanh(F.softplus(x)), ("mish", {})),
    "mish_by_log": (lambda x: x * torch.tanh(torch.log(1 + torch.exp(x))), ("mish", {})),
    "mish_by_log1p": (lambda x: x * torch.tanh(torch.log1p(x.exp())), ("mish", {})),
    "hardswish_by_relu6": (lambda x: x * F.relu6(x + 3) / 6, ("hardswish", {})),
    "hardswish_by_clamp": (lambda x: x * torch.clamp(x + 3, 0, 6) * (1 / 6), ("hardswish", {})),
    "hardswish_by_hardsigmoid": (lambda x: x * F.hardsigmoid(x), ("hardswish", {})),
    "squared_relu": (lambda x: F.relu(x) ** 2, ("squared_relu", {})),
    "squared_relu_square": (lambda x: F.relu(x).square(), ("squared_relu", {})),
    "squared_relu_pow": (lambda x: torch.pow(x.relu(), 2), ("squared_relu", {})),
    "squared_relu_product": (squared, ("squared_relu", {})),
    "squared_relu_by_x": (lambda x: x * F.relu(x), ("squared_relu", {})),
    "leaky_where": (lambda x: torch.where(x > 0, x, 0.1 * x), ("leaky_relu", {"negative_slope": 0.1})),
    "leaky_where_method": (lambda x: x.where(x >= 0, x * 0.1), ("leaky_relu", {"negative_slope": 0.1})),
    "leaky_where_swapped": (lambda x: torch.where(x < 0, 0.1 * x, x), ("leaky_relu", {"negative_slope": 0.1})),
    "leaky_maximum": (lambda x: torch.maximum(x, 0.1 * x), ("leaky_relu", {"negative_slope": 0.1})),
    "leaky_max": (lambda x: torch.max(x, x * 0.1), ("leaky_relu", {"negative_slope": 0.1})),
    "leaky_relus": (lambda x: F.relu(x) - 0.1 * F.relu(-x), ("leaky_relu", {"negative_slope": 0.1})),
    "leaky_clamps": (lambda x: x.clamp(min=0) + 0.1 * x.clamp(max=0), ("leaky_relu", {"negative_slope": 0.1})),
    "leaky_halves": (leaky_in_two_halves, ("leaky_relu", {"negative_slope": 0.1})),
    "leaky_abs": (lambda x: 0.6 * x + 0.4 * x.abs(), ("leaky_relu", {"negative_slope": 0.2})),
    "relu_abs": (lambda x: 0.5 * (x + torch.abs(x)), ("relu", {})),
    "relu_mask": (lambda x: x * (x > 0), ("relu", {})),
    "relu_mask_float": (lambda x: x * (x > 0).float(), ("relu", {})),
    "relu_mask_to": (lambda x: x * x.gt(0).to(x.dtype), ("relu", {})),
    "relu_masked_fill": (lambda x: x.masked_fill(x < 0, 0.0), ("relu", {})),
    "relu_where_zeros": (lambda x: torch.where(x > 0, x, torch.zeros_like(x)), ("relu", {})),
    "relu_where_scalar": (lambda x: torch.where(x > 0, x, 0.0), ("relu", {})),
    "relu_maximum": (lambda x: torch.maximum(x, torch.tensor(0.0)), ("relu", {})),
    "relu_maximum_zeros": (lambda x: torch.maximum(x, torch.zeros_like(x)), ("relu", {})),
    "relu_clamp": (lambda x: x.clamp(min=0), ("relu", {})),
    "relu_clamp_position": (lambda x: torch.clamp(x, 0), ("relu", {})),
    "relu_clamp_in_place": (lambda x: x.clamp_(min=0.0), ("relu", {})),
    "relu_clamp_min": (lambda x: x.clamp_min(0), ("relu", {})),
    "relu_clip": (lambda x: torch.clip(x, min=0.0), ("relu", {})),
    "relu6_clamp": (lambda x: x.clamp(0, 6), ("relu6", {})),
    "relu6_keywords": (lambda x: torch.clamp(x, max=6.0, min=0.0), ("relu6", {})),
    "relu6_minimum": (lambda x: torch.minimum(F.relu(x), torch.tensor(6.0)), ("relu6", {})),
    "relu6_two_clamps": (lambda x: x.clamp(min=0).clamp(max=6), ("relu6", {})),
    "hardtanh_clamp": (lambda x: x.clamp(-1, 1), ("hardtanh", {"min_val": -1.0, "max_val": 1.0})),
    "hardtanh_clamp_2": (lambda x: x.clamp(-2, 3), ("hardtanh", {"min_val": -2.0, "max_val": 3.0})),
    "hardtanh_clamp_0_2": (lambda x: x.clamp(0, 2), ("hardtanh", {"min_val": 0.0, "max_val": 2.0})),
    "elu_where": (lambda x: torch.where(x > 0, x, torch.exp(x) - 1), ("elu", {"alpha": 1.0})),
    "elu_expm1": (lambda x: torch.where(x > 0, x, 0.5 * torch.expm1(x)), ("elu", {"alpha": 0.5})),
    "softplus_log": (lambda x: torch.log(1 + torch.exp(x)), ("softplus", {"beta": 1.0, "threshold": 20.0})),
    "softsign": (lambda x: x / (1 + x.abs()), ("softsign", {})),
    "tanh_by_exp": (lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()), ("tanh", {})),
    "sigmoid_by_exp": (lambda x: 1 / (1 + torch.exp(-x)), ("sigmoid", {})),
    "softshrink": (lambda x: x.sign() * F.relu(x.abs() - 0.5), ("softshrink", {"lambd": 0.5})),
    "selu": (
        lambda x: 1.0507009873554805 * torch.where(x > 0, x, 1.6732632423543772 * (x.exp() - 1)),
        ("selu", {}),
    ),
}


@tiers
@pytest.mark.parametrize("key", NAMED)
def test_a_function_with_a_name(key: str, tier: str):
    function, (name, params) = NAMED[key]
    found = resolved(function, tier)
    assert (found.nonlinearity, found.reason) == (name, Reason.ACTIVATION)
    assert dict(found.params) == pytest.approx(params, rel=1e-5)
    assert found.alternatives == ()


# Functions without one: the gain is 1 / sqrt(E[phi^2]), here by scipy's quadrature.


def sigmoid(z: float) -> float:
    return float(special.expit(z))


UNNAMED: dict[str, tuple[Function, Callable[[float], float], tuple[float, ...]]] = {
    "swish_beta": (lambda x: x * torch.sigmoid(1.5 * x), lambda z: z * sigmoid(1.5 * z), ()),
    "sin": (torch.sin, math.sin, ()),
    "cosine_and_line": (lambda x: x + x.cos(), lambda z: z + math.cos(z), ()),
    "snake": (lambda x: x + x.sin() ** 2, lambda z: z + math.sin(z) ** 2, ()),
    "gaussian": (lambda x: torch.exp(-(x**2)), lambda z: math.exp(-(z**2)), ()),
    "cube": (lambda x: x**3, lambda z: z**3, ()),
    "cube_by_products": (lambda x: x * x * x, lambda z: z**3, ()),
    "square": (torch.square, lambda z: z**2, ()),
    "absolute": (torch.abs, abs, (0.0,)),
    "arctan": (torch.atan, math.atan, ()),
    "inverse_root": (lambda x: x / torch.sqrt(1 + x**2), lambda z: z / math.sqrt(1 + z * z), ()),
    "inverse_root_rsqrt": (lambda x: x * torch.rsqrt(1 + x * x), lambda z: z / math.sqrt(1 + z * z), ()),
    "stepped": (lambda x: torch.where(x > 1, x, 0.3 * x.sin()), lambda z: z if z > 1 else 0.3 * math.sin(z), (1.0,)),
    "signed_root": (lambda x: x.sign() * x.abs().sqrt(), lambda z: math.copysign(math.sqrt(abs(z)), z), (0.0,)),
    "log_of_abs": (lambda x: torch.log1p(x.abs()) * x.sign(), lambda z: math.copysign(math.log1p(abs(z)), z), (0.0,)),
    "scaled_tanh_inside": (lambda x: x * torch.tanh(0.3 * x), lambda z: z * math.tanh(0.3 * z), ()),
    "relu_cubed": (lambda x: F.relu(x) ** 3, lambda z: max(z, 0.0) ** 3, (0.0,)),
    "root_of_squares": (lambda x: torch.sqrt(x**2 + 0.5), lambda z: math.sqrt(z * z + 0.5), ()),
    "telu": (lambda x: x * torch.tanh(torch.exp(x)), lambda z: z * math.tanh(math.exp(z)), ()),
}


@tiers
@pytest.mark.parametrize("key", UNNAMED)
def test_a_function_without_a_name(key: str, tier: str):
    function, phi, kinks = UNNAMED[key]
    found = resolved(function, tier)
    assert found.reason is Reason.ACTIVATION
    assert found.ending.gain == pytest.approx(1 / math.sqrt(second_moment(phi, *kinks)), rel=1e-6)


class Swish(nn.Module):
    """x sigmoid(beta x) with a learnable beta."""

    def __init__(self, beta: float, shape: tuple[int, ...] = (), buffer: bool = False) -> None:
        super().__init__()
        value = torch.full(shape, beta)
        if buffer:
            self.register_buffer("beta", value)
        else:
            self.beta = nn.Parameter(value)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.beta * x)


@tiers
@pytest.mark.parametrize("buffer", [False, True], ids=["parameter", "buffer"])
@pytest.mark.parametrize("shape", [(), (1,), (WIDTH,)], ids=["scalar", "one", "channels"])
def test_learnable_beta(shape: tuple[int, ...], buffer: bool, tier: str):
    assert resolved(Swish(1.0, shape, buffer), tier).nonlinearity == "silu"
    found = resolved(Swish(2.5, shape, buffer), tier)
    assert found.reason is Reason.ACTIVATION
    moment = second_moment(lambda z: z * sigmoid(2.5 * z))
    assert found.ending.gain == pytest.approx(1 / math.sqrt(moment), rel=1e-6)


# What is done to the output of an activation by constants does not change what it is.

SCALED: dict[str, tuple[Function, Name]] = {
    "relu_times": (lambda x: F.relu(x) * 1.7, ("relu", {})),
    "times_relu": (lambda x: 1.7 * F.relu(x), ("relu", {})),
    "relu_divided": (lambda x: F.relu(x) / 0.588, ("relu", {})),
    "relu_shifted": (lambda x: F.relu(x) - 0.4, ("relu", {})),
    "relu_in_place": (lambda x: F.relu(x).mul_(1.7), ("relu", {})),
    "silu_times": (lambda x: F.silu(x) / 0.6, ("silu", {})),
    "lecun_tanh": (lambda x: 1.7159 * torch.tanh(2 / 3 * x), ("tanh", {})),
    "gelu_times": (lambda x: F.gelu(x) * 1.7015, ("gelu", {})),
    "scaled_before": (lambda x: F.relu(2 * x), ("relu", {})),
    "swish_times": (lambda x: (x * x.sigmoid()) * 1.6765, ("silu", {})),
}


@tiers
@pytest.mark.parametrize("key", SCALED)
def test_constants_around_an_activation(key: str, tier: str):
    function, (name, params) = SCALED[key]
    found = resolved(function, tier)
    assert (found.nonlinearity, dict(found.params), found.reason) == (name, params, Reason.ACTIVATION)


@tiers
def test_a_scale_after_a_function_without_a_name(tier: str):
    """As after one with a name."""
    moment = second_moment(lambda z: z * sigmoid(2.5 * z))
    found = resolved(lambda x: x * torch.sigmoid(2.5 * x) * 1.5, tier)
    assert found.ending.gain == pytest.approx(1 / math.sqrt(moment), rel=1e-6)


IDENTITIES: dict[str, Function] = {
    "clamp": lambda x: x.clamp(-1e4, 1e4),
    "clamp_min": lambda x: x.clamp(min=-65504.0),
    "clamp_finfo": lambda x: x.clamp(torch.finfo(torch.float32).min, torch.finfo(torch.float32).max),
    "nan_to_num": torch.nan_to_num,
    "pow_1": lambda x: x**1,
    "difference": lambda x: F.relu(x) - F.relu(-x),
    "twice": lambda x: x + x,
    "affine": lambda x: 2 * x - 1,
    "minus_minus": lambda x: torch.neg(-x),
    "average": lambda x: 0.5 * x + 0.5 * x,
}


@tiers
@pytest.mark.parametrize("key", IDENTITIES)
def test_what_changes_nothing_is_passed(key: str, tier: str):
    found = resolved(IDENTITIES[key], tier)
    assert (found.nonlinearity, found.reason, found.ending.gain) == ("linear", Reason.WEIGHT, 1.0)


GAINLESS: dict[str, Function] = {
    "log": torch.log,
    "sqrt": lambda x: x.sqrt(),
    "reciprocal": lambda x: 1 / x,
    "tan": torch.tan,
    "rsqrt": torch.rsqrt,
    "exp_of_square": lambda x: torch.exp(x * x),
}


@tiers
@pytest.mark.parametrize("key", GAINLESS)
def test_no_finite_gain_is_unresolved(key: str, tier: str):
    found = resolved(GAINLESS[key], tier)
    assert found.reason is Reason.UNRESOLVED
    assert "finite" in found.ending.note or "cannot be computed" in found.ending.note


# Where the function comes from.


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gate = torch.sigmoid(x)
        return gradient * gate * (1 + x * (1 - gate))


@pytest.mark.parametrize("with_input", [False, True], ids=["no_input", "input"])
def test_an_autograd_function(with_input: bool):
    model = Between(WIDTH, Straight.apply)
    found = {each.name: each for each in resolve(trace(model, inputs() if with_input else None))}
    assert (found["before"].nonlinearity, found["before"].reason) == ("silu", Reason.ACTIVATION)


class Named(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return getattr(F, self.name)(x)


TABLE = {"gelu": F.gelu, "tanh": torch.tanh, "swish": lambda x: x * x.sigmoid()}


class LookedUp(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return TABLE[self.name](x)


class Wrapped(nn.Module):
    """An activation inside two modules of the user's own."""

    def __init__(self, inner: Function) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Subclassed(nn.ReLU):
    """A torch activation's child that does something else."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) ** 2


class Renamed(nn.LeakyReLU):
    """A torch activation's child that does the same."""


SOURCES: dict[str, tuple[Function, Name]] = {
    "function": (F.gelu, ("gelu", {})),
    "partial": (functools.partial(F.leaky_relu, negative_slope=0.2), ("leaky_relu", {"negative_slope": 0.2})),
    "by_name": (Named("mish"), ("mish", {})),
    "looked_up": (LookedUp("swish"), ("silu", {})),
    "wrapped": (Wrapped(Wrapped(nn.ELU(0.5))), ("elu", {"alpha": 0.5})),
    "sequential": (nn.Sequential(nn.Identity(), nn.Dropout(), nn.SiLU(inplace=True)), ("silu", {})),
    "subclassed": (Subclassed(), ("squared_relu", {})),
    "renamed": (Renamed(0.2), ("leaky_relu", {"negative_slope": 0.2})),
    "scripted_function": (torch.jit.script_if_tracing(lambda x: x * x.sigmoid()), ("silu", {})),
}


@tiers
@pytest.mark.parametrize("key", SOURCES)
def test_where_the_function_comes_from(key: str, tier: str):
    function, (name, params) = SOURCES[key]
    found = resolved(function, tier)
    assert (found.nonlinearity, found.reason) == (name, Reason.ACTIVATION)
    assert dict(found.params) == pytest.approx(params)


@pytest.mark.parametrize("method", [Tensor.relu, Tensor.relu_], ids=["plain", "in_place"])
def test_a_method_as_a_function(method: Function):
    """torch's own methods refuse proxies, so this is found by running."""
    assert resolved(method, None).nonlinearity == "relu"


def test_a_mask_written_over():
    """`y[x < 0] = 0`, which only running can follow, is a relu, and certainly not the identity."""

    def function(x: Tensor) -> Tensor:
        y = x.clone()
        y[x < 0] = 0
        return y

    found = resolved(function, None)
    assert (found.nonlinearity, found.reason) == ("relu", Reason.ACTIVATION)


# Composite activations among other things.


@tiers
def test_a_norm_before_a_composite(tier: str):
    model = Between(WIDTH, nn.Sequential(nn.LayerNorm(WIDTH), Swish(1.0)))
    found = layers(model, tier)["before"]
    assert (found.nonlinearity, found.normalised) == ("silu", True)


class Forked(nn.Module):
    """One tensor, two functions, each with a layer of its own."""

    def __init__(self, first: Function, second: Function) -> None:
        super().__init__()
        self.before = nn.Linear(WIDTH, WIDTH)
        self.first, self.second = first, second
        self.left, self.right = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.before(x)
        return self.left(self.first(x)), self.right(self.second(x))


def gain(phi: Callable[[float], float]) -> float:
    return 1 / math.sqrt(second_moment(phi))


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


@tiers
def test_a_composite_computed_twice(tier: str):
    found = layers(Forked(swish, swish), tier)["before"]
    assert (found.nonlinearity, found.reason) == ("silu", Reason.ACTIVATION)


@tiers
@pytest.mark.parametrize(
    ("first", "second", "gains"),
    [
        (lambda x: x**2, lambda x: x**4, (1 / math.sqrt(3), 1 / math.sqrt(105))),
        (lambda x: x**4, lambda x: x**2, (1 / math.sqrt(105), 1 / math.sqrt(3))),
        (torch.sin, torch.cos, (gain(math.sin), gain(math.cos))),
        (torch.relu, F.silu, (math.sqrt(2), gain(lambda z: z * sigmoid(z)))),
        (lambda x: F.leaky_relu(x, 0.1), lambda x: F.leaky_relu(x, 0.5), (math.sqrt(2 / 1.01), math.sqrt(2 / 1.25))),
        (swish, F.relu, (gain(lambda z: z * sigmoid(z)), math.sqrt(2))),
        (
            swish,
            lambda x: x * torch.tanh(0.3 * x),
            (gain(lambda z: z * sigmoid(z)), gain(lambda z: z * math.tanh(0.3 * z))),
        ),
        (
            lambda x: x * torch.sigmoid(2 * x),
            lambda x: x * torch.tanh(x),
            (gain(lambda z: z * sigmoid(2 * z)), gain(lambda z: z * math.tanh(z))),
        ),
    ],
    ids=["powers", "powers_swapped", "sin_cos", "relu_silu", "slopes", "swish_relu", "two_composites", "two_customs"],
)  # fmt: skip
def test_two_functions_of_one_tensor(first: Function, second: Function, gains: tuple[float, float], tier: str):
    """Two different nonlinearities: the smaller gain, reason mixed, and both are listed."""
    found = layers(Forked(first, second), tier)["before"]
    assert found.reason is Reason.MIXED
    assert found.ending.gain == pytest.approx(min(gains), rel=1e-6)
    assert sorted(each.gain for each in found.alternatives) == pytest.approx(sorted(gains), rel=1e-6)


class PreActivated(nn.Module):
    """A residual block whose activation is written out: `x` goes into the composite and past it."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.stem = nn.Linear(WIDTH, WIDTH)
        self.function = function
        self.branch = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.branch(self.function(x)))


@tiers
@pytest.mark.parametrize("function", [swish, F.silu], ids=["written_out", "named"])
def test_a_composite_beside_a_skip(function: Function, tier: str):
    """The stem feeds silu and an addition: a nonlinearity wins over linear."""
    found = layers(PreActivated(function), tier)
    assert (found["stem"].nonlinearity, found["stem"].reason) == ("silu", Reason.MIXED)
    assert {(each.nonlinearity, each.reason) for each in found["stem"].alternatives} == {
        ("silu", Reason.ACTIVATION),
        ("linear", Reason.ADD),
    }
    assert (found["branch"].nonlinearity, found["branch"].reason) == ("linear", Reason.ADD)
    assert (found["head"].nonlinearity, found["head"].reason) == ("linear", Reason.OUTPUT)


@tiers
def test_the_gate_of_another_tensor_is_no_composite(tier: str):
    """`a * sigmoid(b)`: both layers are read apart."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value, self.gate = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            return self.value(x) * torch.sigmoid(self.gate(x))

    found = layers(Gated(), tier)
    assert (found["value"].nonlinearity, found["value"].reason) == ("linear", Reason.GATE)
    assert (found["gate"].nonlinearity, found["gate"].reason, found["gate"].ending.gain) == (
        "sigmoid",
        Reason.ACTIVATION,
        1.0,
    )


def test_monte_carlo_agrees_with_the_quadrature_here():
    """The oracle itself, on 400,000 draws: standard error of E[phi^2] under 0.002."""
    z = np.random.default_rng(0).standard_normal(400_000)
    assert second_moment(lambda value: value * sigmoid(2.5 * value)) == pytest.approx(
        float(np.mean((z * special.expit(2.5 * z)) ** 2)), abs=0.008
    )
