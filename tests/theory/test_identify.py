"""Functions written by hand, as users write them, against the names that a reader would give them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from autoinit.errors import ArgumentError
from autoinit.theory.activations import ACTIVATIONS
from autoinit.theory.identify import identify

NAMED = {
    "identity": (lambda x: x, "linear", {}),
    "there and back": (lambda x: (x + 1) * 2 / 2 - 1, "linear", {}),
    "affine": (lambda x: 3 * x - 2, "affine", {"scale": 3.0, "shift": -2.0}),
    "negation": (torch.neg, "affine", {"scale": -1.0, "shift": 0.0}),
    "constant": (lambda x: torch.full_like(x, 0.7), "affine", {"scale": 0.0, "shift": 0.7}),
    "zero": (torch.zeros_like, "affine", {"scale": 0.0, "shift": 0.0}),
    "tiny scale": (lambda x: 1e-7 * x, "affine", {"scale": 1e-7, "shift": 0.0}),
    "relu by clamp": (lambda x: x.clamp(min=0), "relu", {}),
    "relu in place": (lambda x: x.relu_(), "relu", {}),
    "relu by maximum": (lambda x: torch.maximum(x, torch.zeros_like(x)), "relu", {}),
    "relu by abs": (lambda x: (x + x.abs()) / 2, "relu", {}),
    "relu by mask": (lambda x: x * (x > 0), "relu", {}),
    "leaky by where": (lambda x: torch.where(x > 0, x, 0.1 * x), "leaky_relu", {"negative_slope": 0.1}),
    "leaky by >=": (lambda x: torch.where(x >= 0, x, 0.1 * x), "leaky_relu", {"negative_slope": 0.1}),
    "leaky by maximum": (lambda x: torch.maximum(x, 0.2 * x), "leaky_relu", {"negative_slope": 0.2}),
    "leaky in float32": (lambda x: F.leaky_relu(x.float(), 0.2), "leaky_relu", {"negative_slope": 0.2}),
    "leaky of slope 0": (lambda x: F.leaky_relu(x, 0.0), "relu", {}),
    "leaky of slope 1": (lambda x: F.leaky_relu(x, 1.0), "linear", {}),
    "prelu": (lambda x: F.prelu(x, torch.tensor([0.25], dtype=x.dtype)), "leaky_relu", {"negative_slope": 0.25}),
    "rrelu, evaluating": (nn.RReLU(0.1, 0.3).eval(), "leaky_relu", {"negative_slope": 0.2}),
    "elu": (nn.ELU(), "elu", {"alpha": 1.0}),
    "elu by where": (lambda x: torch.where(x > 0, x, 0.3 * (x.exp() - 1)), "elu", {"alpha": 0.3}),
    "celu": (nn.CELU(2.0), "celu", {"alpha": 2.0}),
    "celu, small alpha": (nn.CELU(0.075), "celu", {"alpha": 0.075}),
    "celu of alpha 1": (nn.CELU(1.0), "elu", {"alpha": 1.0}),
    "selu": (nn.SELU(), "selu", {}),
    "gelu by erf": (lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))), "gelu", {}),
    "gelu by tanh": (
        lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        *("gelu_tanh", {}),
    ),
    "quick gelu": (lambda x: x * torch.sigmoid(1.702 * x), "quick_gelu", {}),
    "silu": (lambda x: x * torch.sigmoid(x), "silu", {}),
    "silu by exp": (lambda x: x / (1 + torch.exp(-x)), "silu", {}),
    "silu in float32": (lambda x: x.float() * torch.sigmoid(x.float()), "silu", {}),
    "mish": (lambda x: x * torch.tanh(F.softplus(x)), "mish", {}),
    "mish by exp": (lambda x: x * torch.tanh(torch.log1p(torch.exp(x))), "mish", {}),
    "softplus by log": (lambda x: torch.log(1 + torch.exp(x)), "softplus", {"beta": 1.0, "threshold": 20.0}),
    "softplus, beta": (lambda x: torch.log1p(torch.exp(2.5 * x)) / 2.5, "softplus", {"beta": 2.5, "threshold": 20.0}),
    "softsign": (lambda x: x / (1 + x.abs()), "softsign", {}),
    "tanh by exp": (lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()), "tanh", {}),
    "sigmoid by tanh": (lambda x: (1 + torch.tanh(x / 2)) / 2, "sigmoid", {}),
    "logsigmoid": (lambda x: torch.log(torch.sigmoid(x)), "logsigmoid", {}),
    "hardtanh": (lambda x: x.clamp(-1, 1), "hardtanh", {"min_val": -1.0, "max_val": 1.0}),
    "clamp": (lambda x: x.clamp(-0.3, 2.7), "hardtanh", {"min_val": -0.3, "max_val": 2.7}),
    "clamp above 0": (lambda x: x.clamp(0, 4), "hardtanh", {"min_val": 0.0, "max_val": 4.0}),
    "relu6 by clamp": (lambda x: x.clamp(0, 6), "relu6", {}),
    "clamp from below": (lambda x: x.clamp(min=-0.4), "threshold", {"threshold": -0.4, "value": -0.4}),
    "clamp(0, inf)": (lambda x: x.clamp(0, math.inf), "relu", {}),
    "hardswish by relu6": (lambda x: x * F.relu6(x + 3) / 6, "hardswish", {}),
    "hardsigmoid, steeper": (lambda x: (0.25 * x + 0.5).clamp(0, 1), "sloped_hardsigmoid", {"slope": 0.25}),
    "hardsigmoid by clamp": (lambda x: (x / 6 + 0.5).clamp(0, 1), "hardsigmoid", {}),
    "hardshrink": (lambda x: x * (x.abs() > 0.7), "hardshrink", {"lambd": 0.7}),
    "softshrink": (lambda x: x.sign() * (x.abs() - 0.4).relu(), "softshrink", {"lambd": 0.4}),
    "tanhshrink": (lambda x: x - torch.tanh(x), "tanhshrink", {}),
    "threshold": (lambda x: torch.where(x > 0.3, x, -2.0), "threshold", {"threshold": 0.3, "value": -2.0}),
    "threshold by >=": (lambda x: torch.where(x >= 1, x, 0.0), "threshold", {"threshold": 1.0, "value": 0.0}),
    "squared relu": (lambda x: x.relu() ** 2, "squared_relu", {}),
}


@pytest.mark.parametrize("case", NAMED)
def test_names_a_known_function(case):
    phi, name, params = NAMED[case]
    found = identify(phi)
    assert found is not None
    assert (found.name, dict(found.params)) == (name, pytest.approx(params, rel=1e-6, abs=1e-9))
    assert found.max_error <= 1e-5


def test_every_activation_is_named_in_some_case():
    # A leaky ReLU whose slope was learned or drawn is, as a function, a leaky ReLU.
    assert {name for _, name, _ in NAMED.values()} == set(ACTIVATIONS) - {"prelu", "rrelu"}


def test_parameters_of_every_activation_are_fitted():
    """By a case with values that are not the defaults. A slope that is learned or drawn is a leaky ReLU's."""
    fitted = {name for _, name, params in NAMED.values() if params and params != dict(ACTIVATIONS[name].defaults)}
    assert fitted == {name for name, each in ACTIVATIONS.items() if each.parameters} - {"prelu", "rrelu"}
    assert fitted == {name for name, each in ACTIVATIONS.items() if each.fit is not None}


@pytest.mark.parametrize("params", [{"negative_slope": slope} for slope in (-1.0, 1e-4, 0.2537812, 0.999, 3.0)])
def test_fits_slopes(params):
    found = identify(ACTIVATIONS["leaky_relu"].bind(params))
    assert found is not None
    assert (found.name, dict(found.params)) == ("leaky_relu", pytest.approx(params, rel=1e-6))


@pytest.mark.parametrize("slope", [0.1, 0.25, 0.3125, 0.01234, 0.98765, 0.123456])
def test_slopes_of_up_to_six_digits_are_told_as_they_were_written(slope):
    """Single precision keeps a little more than seven digits: what it gives back for 0.123456 is not that number."""
    found = identify(lambda x: F.leaky_relu(x.float(), slope))
    assert found is not None
    assert dict(found.params) == {"negative_slope": slope}


def test_slopes_of_more_digits_are_not_rounded():
    slope = 0.12345678901
    found = identify(ACTIVATIONS["leaky_relu"].bind({"negative_slope": slope}))
    assert found is not None
    assert found.params["negative_slope"] == pytest.approx(slope, rel=1e-12)


@pytest.mark.parametrize(
    "phi",
    [
        torch.sin,
        torch.square,
        torch.exp,
        torch.log,
        torch.reciprocal,
        lambda x: 1 / (x + 1),  # infinite at -1, where slopes are read
        torch.sign,
        lambda x: x * torch.sigmoid(1.5 * x),
        lambda x: 2 * x.relu(),
        lambda x: x.relu() + 1e-3,
        lambda x: 1e-6 * torch.tanh(x),
        lambda x: x.clamp(max=3),
        lambda x: (x - 0.5).relu(),
        lambda x: torch.where(x.abs() < 0.01, 0.0, x + 1.0),
        lambda x: F.gelu(x) + 2e-5 * torch.cos(x),
    ],
)
def test_names_nothing_else(phi):
    assert identify(phi) is None


def test_tells_the_two_gelus_apart():
    exact, approximate = identify(F.gelu), identify(lambda x: F.gelu(x, approximate="tanh"))
    assert exact is not None
    assert approximate is not None
    assert (exact.name, approximate.name) == ("gelu", "gelu_tanh")


@pytest.mark.parametrize(
    ("phi", "message"),
    [
        (lambda x: x - x.mean(), "not a function of one variable"),
        (lambda x: x.softmax(0), "not a function of one variable"),
        (lambda x: x[:-1], "returns shape"),
    ],
)
def test_refuses_what_is_not_elementwise(phi, message):
    with pytest.raises(ArgumentError, match=message):
        identify(phi)
