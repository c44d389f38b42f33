"""Units in pairs: the scale at which a nonlinearity's odd part is nearly linear, by hand and by Hermite quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from autoinit.theory.mirrored import SMALLEST, ZETA, tangent

LINEAR_ODD_PARTS = {
    "relu": (torch.relu, 1.0),  # max(z, 0) - max(-z, 0) = z
    "gelu": (F.gelu, 1.0),  # z P(z) + z P(-z) = z
    "silu": (F.silu, 1.0),  # z s(z) + z s(-z) = z
    "softplus": (F.softplus, 1.0),  # log(1 + e^z) - log(1 + e^-z) = z
    "leaky_relu": (lambda z: F.leaky_relu(z, 0.2), 1 / 1.2),  # z + 0.2 z
}


@pytest.mark.parametrize("name", LINEAR_ODD_PARTS)
def test_an_odd_part_that_is_linear_is_used_at_full_scale(name: str) -> None:
    """psi(z) = (1 + s) z has slope ratio 1 <= ZETA^(1 / L) for every L, so a = 1, and c = 1 / (1 + s)."""
    function, c = LINEAR_ODD_PARTS[name]
    found = tangent(function, name, depth=59)
    assert found is not None
    assert found.paired
    assert found.a == 1.0
    assert found.c == pytest.approx(c, rel=1e-6)


@pytest.mark.parametrize(("name", "function", "a"), [("tanh", torch.tanh, 0.298), ("selu", torch.selu, 0.315)])
def test_the_design_s_scales_at_depth_59(name: str, function, a: float) -> None:
    """0.298 and 0.315 are the design's figures."""
    found = tangent(function, name, depth=59)
    assert found is not None
    assert found.a == pytest.approx(a, abs=5e-4)
    assert found.paired is (name == "selu")


@pytest.mark.parametrize("depth", [3, 20, 200])
def test_tanh_grows_by_zeta_over_its_depth(depth: int) -> None:
    """By Gauss-Hermite quadrature with psi' = a (1 - tanh(a z)^2): the ratio's depth-th power is ZETA, c restores 1."""
    found = tangent(torch.tanh, "tanh", depth)
    assert found is not None
    points, weights = np.polynomial.hermite_e.hermegauss(200)
    weights = weights / weights.sum()
    values = np.tanh(found.a * points)
    slope = float(weights @ (found.a * (1 - values**2)) ** 2)
    moment = float(weights @ values**2)
    assert (slope / moment) ** depth == pytest.approx(ZETA, rel=1e-3)
    assert found.c == pytest.approx(1 / math.sqrt(moment), rel=1e-6)


def test_a_deeper_network_drives_its_units_less() -> None:
    """(slope / moment - 1) falls with a, so that a longer row calls for a smaller a."""
    scales = [found.a for depth in (5, 50, 500) if (found := tangent(torch.sin, "sin", depth)) is not None]
    assert len(scales) == 3
    assert scales[0] > scales[1] > scales[2] > SMALLEST


@pytest.mark.parametrize(
    ("name", "function"),
    [("abs", torch.abs), ("cos", torch.cos), ("square", torch.square), ("squared relu", lambda z: torch.relu(z) ** 2)],
)
def test_what_has_no_nearly_linear_odd_part(name: str, function) -> None:
    """Even functions have none; relu(z)^2 has z |z|, whose ratio E[4 z^2] / E[z^4] = 4 / 3 holds at every scale."""
    assert tangent(function, name, depth=30) is None
