"""Oracles: closed forms, scipy's adaptive quadrature told where the kinks are, and seeded Monte Carlo."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import truncnorm

from autoinit.errors import ArgumentError
from autoinit.theory.activations import ACTIVATIONS
from autoinit.theory.quadrature import _clenshaw_curtis, second_moment, slope_moment
from autoinit.theory.truncation import std_after

ROOT_2PI = math.sqrt(2 * math.pi)


def density(z: float) -> float:
    return math.exp(-z * z / 2) / ROOT_2PI


def cdf(z: float) -> float:
    return (1 + math.erf(z / math.sqrt(2))) / 2


def partial_moment(a: float, b: float) -> float:
    """The integral of z^2 n(z) over [a, b]: by parts, [Phi(z) - z n(z)]."""
    edges = [cdf(z) - (z * density(z) if math.isfinite(z) else 0.0) for z in (a, b)]
    return edges[1] - edges[0]


def by_scipy(phi, *kinks: float) -> float:
    edges = [-12.0, *kinks, 12.0]
    parts = [
        quad(lambda z: phi(z) ** 2 * density(z), a, b, epsabs=1e-14, epsrel=1e-13, limit=200)[0]
        for a, b in itertools.pairwise(edges)
    ]
    return sum(parts)


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def softplus(z: float, beta: float = 1.0) -> float:
    return math.log1p(math.exp(beta * z)) / beta


def elu(z: float, alpha: float = 1.0) -> float:
    return z if z > 0 else alpha * math.expm1(z)


def hardtanh_moment(low: float, high: float) -> float:
    """Values at the ends times their probability, and z^2 between."""
    return low * low * cdf(low) + partial_moment(low, high) + high * high * (1 - cdf(high))


def hardsigmoid(z: float) -> float:
    return min(max(z + 3, 0.0), 6.0) / 6


def gelu_tanh(z: float) -> float:
    return z / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def softshrink_moment(c: float) -> float:
    """2 E[(z - c)^2; z > c] = 2 ((1 + c^2) (1 - Phi(c)) - c n(c))."""
    return 2 * ((1 + c * c) * (1 - cdf(c)) - c * density(c))


LAMBDA, ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017, eq. 14

# E[(z Phi)^2] by Stein's identity twice, E[z^2 g] = E[g] + E[g''] with g = Phi^2: E[Phi^2] = 1/3,
# E[n^2] = 1 / (2 pi sqrt 3), E[z n Phi] = 1 / (4 pi sqrt 3).
GELU = 1 / 3 + 1 / (2 * math.pi * math.sqrt(3))

ORACLES: dict[str, list[tuple[dict[str, float], float]]] = {
    "linear": [({}, 1.0)],
    "affine": [({"scale": 3.0, "shift": -2.0}, 13.0)],
    "relu": [({}, 0.5)],
    "leaky_relu": [({}, (1 + 0.01**2) / 2), ({"negative_slope": 0.2}, 0.52), ({"negative_slope": -1.0}, 1.0)],
    "prelu": [({}, (1 + 0.25**2) / 2)],
    "rrelu": [({"lower": 0.1, "upper": 0.3}, (1 + 0.2**2) / 2)],
    "elu": [({}, by_scipy(elu, 0.0)), ({"alpha": 0.3}, by_scipy(functools.partial(elu, alpha=0.3), 0.0))],
    "celu": [({"alpha": 2.0}, by_scipy(lambda z: z if z > 0 else 2 * math.expm1(z / 2), 0.0))],
    "selu": [({}, 1.0), ({}, by_scipy(lambda z: LAMBDA * elu(z, ALPHA), 0.0))],
    "gelu": [({}, GELU)],
    "gelu_tanh": [({}, by_scipy(gelu_tanh))],
    "quick_gelu": [({}, by_scipy(lambda z: z * sigmoid(1.702 * z)))],
    "silu": [({}, by_scipy(lambda z: z * sigmoid(z)))],
    "mish": [({}, by_scipy(lambda z: z * math.tanh(softplus(z))))],
    "softplus": [({}, by_scipy(softplus)), ({"beta": 3.0}, by_scipy(functools.partial(softplus, beta=3.0)))],
    "softsign": [({}, by_scipy(lambda z: z / (1 + abs(z)), 0.0))],
    "tanh": [({}, by_scipy(math.tanh))],
    "sigmoid": [({}, by_scipy(sigmoid))],
    "logsigmoid": [({}, by_scipy(lambda z: -softplus(-z)))],
    "hardtanh": [({}, hardtanh_moment(-1, 1)), ({"min_val": -0.3, "max_val": 2.7}, hardtanh_moment(-0.3, 2.7))],
    "relu6": [({}, hardtanh_moment(0, 6))],
    "hardswish": [({}, by_scipy(lambda z: z * hardsigmoid(z), -3.0, 3.0))],
    "hardsigmoid": [({}, by_scipy(hardsigmoid, -3.0, 3.0))],
    "sloped_hardsigmoid": [
        ({"slope": slope}, by_scipy(lambda z, a=slope: min(max(a * z + 0.5, 0.0), 1.0), -0.5 / slope, 0.5 / slope))
        for slope in (0.2, 0.5)
    ],
    "hardshrink": [
        ({}, 2 * partial_moment(0.5, math.inf)),
        ({"lambd": 0.7001}, 2 * partial_moment(0.7001, math.inf)),
        ({"lambd": 0.0}, 1.0),
    ],
    "softshrink": [({}, softshrink_moment(0.5)), ({"lambd": 1.1}, softshrink_moment(1.1)), ({"lambd": 0.0}, 1.0)],
    "tanhshrink": [({}, by_scipy(lambda z: z - math.tanh(z)))],
    "threshold": [({"threshold": 0.1234, "value": 20.0}, 400 * cdf(0.1234) + partial_moment(0.1234, math.inf))],
    "squared_relu": [({}, 1.5)],
}


def test_every_activation_has_an_oracle():
    assert set(ORACLES) == set(ACTIVATIONS)


@pytest.mark.parametrize(
    ("name", "params", "expected"), [(name, *row) for name, rows in ORACLES.items() for row in rows]
)
def test_second_moment_of_every_activation(name, params, expected):
    assert second_moment(ACTIVATIONS[name].bind(params)) == pytest.approx(expected, rel=1e-10)


def test_softplus_is_the_identity_beyond_its_threshold():
    # F.softplus: x where beta * x > threshold.
    expected = by_scipy(lambda z: z if z > 0.5 else softplus(z), 0.5)
    assert second_moment(ACTIVATIONS["softplus"].bind({"threshold": 0.5})) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"threshold"}))
def test_second_moment_agrees_with_sampling(name):
    phi = ACTIVATIONS[name].bind()
    z = torch.randn(400_000, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    squares = phi(z).square()
    error = squares.std().item() / math.sqrt(z.numel())
    assert second_moment(phi) == pytest.approx(squares.mean().item(), abs=4.5 * error + 1e-12)


@pytest.mark.parametrize("kink", [-5.0, -1.0, -0.25, 0.0, 1e-9, 0.501, 0.2500001, 1 / 3, 2.9999999, 6.0])
def test_finds_a_jump_and_a_kink_wherever_they_are(kink):
    step = second_moment(lambda x: (x > kink).double())
    ramp = second_moment(lambda x: (x - kink).clamp(min=0))
    assert step == pytest.approx(1 - cdf(kink), rel=1e-9, abs=1e-13)
    expected = (1 + kink * kink) * (1 - cdf(kink)) - kink * density(kink)
    assert ramp == pytest.approx(expected, rel=1e-9, abs=1e-13)


def test_many_jumps():
    # round(4 x) / 4 takes the value k / 4 between (k - 1/2) / 4 and (k + 1/2) / 4.
    expected = sum((k / 4) ** 2 * (cdf((k + 0.5) / 4) - cdf((k - 0.5) / 4)) for k in range(-48, 49))
    assert second_moment(lambda x: (4 * x).round() / 4) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("phi", "expected"),
    [
        (torch.exp, math.exp(2)),  # E[exp(2 z)]
        (lambda x: torch.exp(x * x / 5), math.sqrt(5)),  # E[exp(t z^2)] = 1 / sqrt(1 - 2 t), t = 2/5
        (lambda x: x**10, 654729075.0),  # 19!!
        (lambda x: 1e-9 * x, 1e-18),
        (lambda x: x.abs().log1p().sin(), by_scipy(lambda z: math.sin(math.log1p(abs(z))), 0.0)),
    ],
)
def test_functions_that_are_in_no_list(phi, expected):
    assert second_moment(phi) == pytest.approx(expected, rel=1e-10)


def test_a_function_of_lower_precision_is_integrated_to_that_precision():
    assert second_moment(lambda x: torch.nn.functional.gelu(x.float())) == pytest.approx(GELU, rel=1e-7)


def test_a_function_may_work_in_place_and_on_integers():
    assert second_moment(lambda x: x.relu_()) == pytest.approx(0.5, rel=1e-12)
    assert second_moment(lambda x: x.sign().int()) == pytest.approx(1.0, rel=1e-12)


def test_works_in_any_ambient_mode_and_leaves_random_state_alone():
    before = torch.get_rng_state()
    with torch.inference_mode(), torch.device("meta"):
        assert second_moment(torch.relu) == pytest.approx(0.5, rel=1e-12)
        assert slope_moment(torch.relu) == pytest.approx(0.5, rel=1e-12)
    assert torch.equal(torch.get_rng_state(), before)


def silu_slope(z: float) -> float:
    return sigmoid(z) * (1 + z * (1 - sigmoid(z)))


@pytest.mark.parametrize(
    ("phi", "expected"),
    [
        (torch.relu, 0.5),
        (torch.tanh, by_scipy(lambda z: 1 - math.tanh(z) ** 2)),
        (torch.nn.functional.gelu, by_scipy(lambda z: cdf(z) + z * density(z))),
        (lambda x: torch.nn.functional.silu(x, inplace=True), by_scipy(silu_slope)),
        (lambda x: x.sign(), 0.0),
        (lambda x: torch.zeros_like(x), 0.0),
        (lambda x: 2 * x + 3, 4.0),
        (lambda x: x.clamp(-0.3, 2.7), cdf(2.7) - cdf(-0.3)),
    ],
)
def test_moment_of_the_slope(phi, expected):
    assert slope_moment(phi) == pytest.approx(expected, rel=1e-10, abs=1e-12)


def outgrows(x):
    return torch.exp(x * x)


@pytest.mark.parametrize(
    ("phi", "message"),
    [
        (torch.log, r"log gives .* at x = .*not finite"),
        (torch.reciprocal, r"reciprocal gives inf at x = 0"),
        (outgrows, r"E\[outgrows\(z\)\^2\] is not finite"),
        (lambda x: torch.exp(x * x / 4), r"is not finite .* grows slower"),
        (lambda x: torch.exp(x.clamp(max=0) ** 2 / 4), r"is not finite .* grows slower"),
        (lambda x: torch.exp(x.clamp(min=0) ** 2 / 4), r"is not finite .* grows slower"),
        (lambda x: 1 / (x - 0.3), r"E\[<lambda>\(z\)\^2\] cannot be computed .* not finite"),
        (lambda x: (x - 0.3).abs() ** -0.5, r"cannot be computed .* not finite"),
        (lambda x: x.sqrt(), r"<lambda> gives nan at x = -"),
        (lambda x: 0 * x, r"<lambda> has second moment 0 under N\(0, 1\)"),
        (lambda x: x.sum(), r"<lambda> returns shape \(\) for an input of shape"),
        (lambda x: x.chunk(2)[0], r"returns shape"),
        (lambda x: 1.0, r"<lambda> returns float; expected a tensor"),
        (lambda x: x + 1j, r"returns a torch.complex128 tensor"),
        (lambda x: x.softmax(0), r"not a function of one variable"),
        (lambda x: x - x.mean(), r"not a function of one variable"),
        (lambda x: x.cumsum(0), r"not a function of one variable"),
        (lambda x: x.sort().values, r"not a function of one variable"),
        (lambda x: torch.where(x < 0, x - x[x < 0].mean(), x), r"not a function of one variable: at x = -"),
        (lambda x: torch.where(x > 0, x - x[x > 0].mean(), x), r"not a function of one variable: at x = \d"),
        (lambda x: x / x.abs().max(), r"not a function of one variable"),
        (lambda x: x.roll(1), r"not a function of one variable"),
        (lambda x: torch.nn.functional.dropout(x, 0.5), r"depending on the other points or on chance"),
        (torch.nn.LogSoftmax(0), r"LogSoftmax is not a function of one variable"),
        (functools.partial(torch.softmax, dim=0), r"softmax is not a function of one variable"),
    ],
)
def test_refuses_what_has_no_moment(phi, message):
    with pytest.raises(ArgumentError, match=message):
        second_moment(phi)


def test_the_caller_can_name_the_function():
    with pytest.raises(ArgumentError, match=r"^my_act gives"):
        second_moment(torch.log, name="my_act")


def test_the_moment_of_the_slope_refuses_the_same():
    with pytest.raises(ArgumentError, match="not a function of one variable"):
        slope_moment(lambda x: x.softmax(0))
    with pytest.raises(ArgumentError, match="at x = 0"):
        slope_moment(lambda x: 1 / x)


def test_partial_moment_oracle_against_scipy():
    assert partial_moment(-0.3, 2.7) == pytest.approx(quad(lambda z: z * z * density(z), -0.3, 2.7)[0], abs=1e-12)
    assert np.isclose(partial_moment(-math.inf, math.inf), 1.0)


@pytest.mark.parametrize("order", [2, 4, 8])
def test_clenshaw_curtis_is_exact_for_polynomials_up_to_its_order(order):
    """The integral of x^n over [0, 1] is 1 / (n + 1)."""
    x = (1 - np.cos(np.pi * np.arange(order + 1) / order)) / 2
    for degree in range(order + 2):
        assert _clenshaw_curtis(order) @ x**degree == pytest.approx(1 / (degree + 1), abs=1e-14)


@pytest.mark.parametrize("cut", [0.5, 2.0, 3.0])
def test_std_of_a_truncated_normal_against_scipy(cut):
    assert std_after(cut) == pytest.approx(truncnorm(-cut, cut).std(), rel=1e-9)
