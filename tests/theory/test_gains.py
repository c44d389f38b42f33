"""Oracles: closed forms, the design's table, torch.nn.init.calculate_gain, and sampled networks."""

from __future__ import annotations

import doctest
import math

import pytest
import torch

from autoinit.errors import ArgumentError
from autoinit.theory import gains
from autoinit.theory.activations import ACTIVATIONS, NONLINEARITIES, SOFTMAXES
from autoinit.theory.fans import Fans
from autoinit.theory.gains import gain, scheme, std

CONSTANTS = {"linear", "affine", "sigmoid", "hardsigmoid", "sloped_hardsigmoid", "tanh", "selu"}
"""Those whose gain is a convention, and straight lines."""


CLOSED = [
    ("linear", {}, 1.0),
    ("identity", {}, 1.0),
    ("sigmoid", {}, 1.0),
    ("hardsigmoid", {}, 1.0),
    ("sloped_hardsigmoid", {"slope": 0.2}, 1.0),
    ("softmax", {}, 1.0),
    ("log_softmax", {}, 1.0),
    ("gumbel_softmax", {}, 1.0),
    ("logsumexp", {}, 1.0),
    ("relu", {}, math.sqrt(2)),
    ("leaky_relu", {}, math.sqrt(2 / 1.0001)),
    ("leaky_relu", {"negative_slope": 0.2}, math.sqrt(2 / 1.04)),
    ("leaky_relu", {"negative_slope": 0}, math.sqrt(2)),
    ("prelu", {}, math.sqrt(2 / 1.0625)),
    ("prelu", {"weight": -0.5}, math.sqrt(2 / 1.25)),
    # E[a^2] = (l^2 + l u + u^2) / 3
    ("rrelu", {"lower": 0.1, "upper": 0.3}, math.sqrt(2 / (1 + (0.01 + 0.03 + 0.09) / 3))),
    ("rrelu", {}, math.sqrt(2 / (1 + (1 / 64 + 1 / 24 + 1 / 9) / 3))),
    ("rrelu", {"lower": 0.2, "upper": 0.2}, math.sqrt(2 / 1.04)),
    ("tanh", {}, 5 / 3),
    ("selu", {}, 1.0),
    ("squared_relu", {}, math.sqrt(2 / 3)),
    ("affine", {"scale": 3.0, "shift": 4.0}, 0.2),
]


@pytest.mark.parametrize(("name", "params", "expected"), CLOSED)
def test_closed_forms(name, params, expected):
    assert gain(name, params) == pytest.approx(expected, rel=1e-12)


def test_every_closed_form_has_a_source_and_a_case():
    closed = {name for name, each in NONLINEARITIES.items() if each.gain is not None}
    assert closed <= {name for name, _, _ in CLOSED}
    assert [name for name in NONLINEARITIES if bool(NONLINEARITIES[name].source) != (name in closed)] == []
    assert set(SOFTMAXES) <= closed, "what looks along an axis has no quadrature"


@pytest.mark.parametrize(("name", "expected"), [("gelu", 1.5335), ("silu", 1.6765), ("mish", 1.4868)])
def test_stated_gains(name, expected):
    assert gain(name) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "params", "argument"),
    [
        ("linear", {}, None),
        ("sigmoid", {}, None),
        ("tanh", {}, None),
        ("relu", {}, None),
        ("leaky_relu", {}, None),
        ("leaky_relu", {"negative_slope": 0.2}, 0.2),
    ],
)
def test_agrees_with_torch_where_torch_knows_it(name, params, argument):
    assert gain(name, params) == pytest.approx(torch.nn.init.calculate_gain(name, argument), rel=1e-12)


def test_differs_from_torch_for_selu():
    assert torch.nn.init.calculate_gain("selu") == 3 / 4
    assert gain("selu") == 1.0


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - CONSTANTS))
def test_a_gain_restores_the_second_moment_of_a_sampled_layer(name):
    params = {"threshold": -0.5, "value": 0.25} if name == "threshold" else {}
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(400_000, generator=generator, dtype=torch.float64)
    y = ACTIVATIONS[name].bind(params)(z)
    if name == "rrelu":  # the gain is that of training, each slope drawn on its own
        y = torch.where(z > 0, z, z * torch.empty_like(z).uniform_(1 / 8, 1 / 3, generator=generator))
    squares = gain(name, params) ** 2 * y.square()
    error = squares.std().item() / math.sqrt(z.numel())
    assert squares.mean().item() == pytest.approx(1.0, abs=4.5 * error)


def test_the_docstring_examples_hold():
    results = doctest.testmod(gains)
    assert (results.failed, results.attempted) == (0, 3)


def test_a_custom_function_needs_no_known_name():
    assert gain("custom", function=lambda x: x.relu() ** 2) == pytest.approx(math.sqrt(2 / 3), rel=1e-10)
    assert gain("my_act", {"beta": 2.0}, lambda x: 2 * x) == pytest.approx(0.5, rel=1e-12)


def test_a_function_decides_unless_the_name_has_a_constant():
    assert gain("gelu", function=lambda x: 2 * x) == pytest.approx(0.5, rel=1e-12)
    assert gain("tanh", function=torch.tanh) == 5 / 3
    assert gain("softmax", function=lambda x: x.softmax(0)) == 1.0


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("rleu", {}, r"no gain .* 'rleu'; did you mean .*relu.*gain\('rleu', function="),
        ("zzz", {}, r"'zzz'; known are .*silu"),
        ("relu", {"a": 1.0}, r"relu has no parameter 'a'; expected none"),
        ("softmax", {"dim": 1.0}, r"softmax has no parameter 'dim'; expected none"),
        ("leaky_relu", {"a": 0.2}, r"leaky_relu has no parameter 'a'; expected negative_slope"),
        ("leaky_relu", {"negative_slope": math.nan}, r"negative_slope=nan; expected finite numbers"),
        ("leaky_relu", {"negative_slope": math.inf}, r"negative_slope=inf; expected finite numbers"),
        ("leaky_relu", {"negative_slope": "x"}, r"negative_slope=x; expected numbers"),
        ("rrelu", {"lower": 0.5, "upper": 0.1}, r"lower=0.5, upper=0.1; expected lower <= upper"),
        ("hardtanh", {"min_val": 1.0, "max_val": -1.0}, r"expected min_val <= max_val"),
        ("softplus", {"beta": 0.0}, r"beta=0.0, threshold=20.0; expected beta > 0"),
        ("celu", {"alpha": 0.0}, r"expected alpha > 0"),
        ("sloped_hardsigmoid", {"slope": 0.0}, r"expected slope > 0"),
        ("hardshrink", {"lambd": -1.0}, r"expected lambd >= 0"),
        ("softshrink", {"lambd": -1.0}, r"expected lambd >= 0"),
        ("threshold", {"value": 1.0}, r"threshold needs the parameters threshold: they have no default"),
        ("hardtanh", {"min_val": 0.0, "max_val": 0.0}, r"hardtanh has second moment 0"),
    ],
)
def test_refuses_what_it_cannot_mean(name, params, message):
    with pytest.raises(ArgumentError, match=message):
        gain(name, params)


def test_refuses_a_function_without_a_moment_by_its_nonlinearity():
    with pytest.raises(ArgumentError, match=r"^inverse gives inf at x = 0"):
        gain("inverse", function=lambda x: 1 / x)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, "xavier") for name in ("linear", "identity", "tanh", "sigmoid", "hardsigmoid", "softmax")),
        ("log_softmax", "xavier"),
        *((name, "he") for name in ("relu", "leaky_relu", "prelu", "rrelu", "selu", "gelu", "elu", "custom")),
    ],
)
def test_scheme(name, expected):
    assert scheme(name) == expected


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("fan_in", 2 / math.sqrt(100)), ("fan_out", 2 / math.sqrt(44)), ("fan_avg", 2 * math.sqrt(2 / 144))],
)
def test_std(mode, expected):
    assert std(2.0, Fans(100.0, 44.0), mode) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(("mode", "fill"), [("fan_in", "kaiming_normal_"), ("fan_avg", "xavier_normal_")])
def test_std_is_what_torch_init_draws_for_a_linear(mode, fill):
    generator = torch.Generator().manual_seed(0)
    weight = torch.empty(500, 300)
    if fill == "kaiming_normal_":
        torch.nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
        expected = std(gain("relu"), Fans(300.0, 500.0), mode)
    else:
        torch.nn.init.xavier_normal_(weight, generator=generator)
        expected = std(gain("linear"), Fans(300.0, 500.0), mode)
    assert weight.std().item() == pytest.approx(expected, rel=4.5 / math.sqrt(2 * weight.numel()))


@pytest.mark.parametrize(
    ("value", "fans", "mode", "message"),
    [
        (1.0, Fans(1.0, 1.0), "fan_max", r"mode is 'fan_max'; expected fan_in, fan_out, fan_avg"),
        (0.0, Fans(1.0, 1.0), "fan_in", r"gain is 0.0; expected a positive finite number"),
        (math.nan, Fans(1.0, 1.0), "fan_in", r"gain is nan"),
        (math.inf, Fans(1.0, 1.0), "fan_in", r"gain is inf"),
        (1.0, Fans(0.0, 5.0), "fan_in", r"fan_in is 0.0 for Fans"),
    ],
)
def test_std_refuses(value, fans, mode, message):
    with pytest.raises(ArgumentError, match=message):
        std(value, fans, mode)
