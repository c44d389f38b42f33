"""Rectifiers: one slope on each side of a point, and their smooth relatives."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from autoinit.theory.activations._activation import Activation, Fact, Spelling
from autoinit.theory.activations._curve import REACH, Curve, bisect

_HOMOGENEOUS = Fact.HOMOGENEOUS | Fact.HOMOGENEOUS_NEAR_ZERO


def _leaky_gain(slope: float) -> float:
    """sqrt(2 / (1 + a^2)): E[phi^2] = (1 + a^2) / 2 (He et al. 2015, eq. 15)."""
    return math.sqrt(2) / math.hypot(1, slope)


def _random_leaky_gain(lower: float, upper: float) -> float:
    """sqrt(2 / (1 + E[a^2])), a uniform in [l, u]: E[a^2] is mean^2 + variance, ((l + u) / 2)^2 + (u - l)^2 / 12."""
    return math.sqrt(2) / math.hypot(1, (lower + upper) / 2, (upper - lower) / math.sqrt(12))


def _mean_leaky(x: torch.Tensor, lower: float, upper: float, training: bool = False) -> torch.Tensor:  # noqa: ARG001
    return F.leaky_relu(x, (lower + upper) / 2)


def _fit_celu(phi: Curve) -> Mapping[str, float] | None:
    """By the value at -REACH: alpha * (exp(-REACH / alpha) - 1) falls with alpha from 0 to -REACH."""
    if not 0 < -phi.low < REACH:
        return None
    log = bisect(lambda log: math.exp(log) * math.expm1(-REACH * math.exp(-log)) <= phi.low, -12.0, 12.0)
    return {"alpha": math.exp(log)}


def _fit_softplus(phi: Curve) -> Mapping[str, float] | None:
    """By the value at 0, log(2) / beta."""
    at_zero = phi.at(0.0)
    return {"beta": math.log(2) / at_zero, "threshold": 20.0} if 0 < at_zero < math.inf else None


def _fit_threshold(phi: Curve) -> Mapping[str, float] | None:
    if (edge := phi.identity_from) is None:
        return None
    # A clamp from below is continuous: its value is known better than its edge.
    clamped = abs(edge - phi.low) <= 10 * phi.tolerance
    return {"threshold": phi.low if clamped else edge, "value": phi.low}


RECTIFIERS = (
    Activation(
        "relu",
        torch.relu,
        facts=_HOMOGENEOUS,
        gain=lambda: math.sqrt(2),
        source="He et al. 2015, eq. 10",
        spelling=Spelling((nn.ReLU,), arguments="inplace=False"),
    ),
    Activation(
        "leaky_relu",
        F.leaky_relu,
        facts=_HOMOGENEOUS,
        gain=lambda negative_slope: _leaky_gain(negative_slope),
        source="He et al. 2015, eq. 15",
        spelling=Spelling((nn.LeakyReLU,), arguments="inplace=False"),
        defaults={"negative_slope": 0.01},
        fit=lambda phi: {"negative_slope": -phi.at(-1.0)},
    ),
    Activation(  # one weight, by default nn.PReLU's
        "prelu",
        lambda x, weight: F.leaky_relu(x, weight),
        facts=_HOMOGENEOUS,
        gain=lambda weight: _leaky_gain(weight),
        source="He et al. 2015, eq. 15",
        spelling=Spelling((nn.PReLU,), names=("_prelu_kernel",)),
        defaults={"weight": 0.25},
    ),
    Activation(  # in evaluation mode, with the mean slope; its gain is that of training
        "rrelu",
        _mean_leaky,
        facts=_HOMOGENEOUS,
        gain=_random_leaky_gain,
        source="He et al. 2015, eq. 15, averaged over the slope",
        spelling=Spelling((nn.RReLU,), names=("rrelu_with_noise",), arguments="training=False, inplace=False"),
        defaults={"lower": 1 / 8, "upper": 1 / 3},
        condition=("lower <= upper", lambda lower, upper: lower <= upper),
    ),
    Activation(
        "elu",
        F.elu,
        facts=Fact.HOMOGENEOUS_NEAR_ZERO,
        spelling=Spelling((nn.ELU,), arguments="inplace=False"),
        defaults={"alpha": 1.0},
        fit=lambda phi: {"alpha": phi.at(-1.0) / math.expm1(-1)},
    ),
    Activation(
        "celu",
        F.celu,
        facts=Fact.HOMOGENEOUS_NEAR_ZERO,
        spelling=Spelling((nn.CELU,), arguments="inplace=False"),
        defaults={"alpha": 1.0},
        condition=("alpha > 0", lambda alpha: alpha > 0),
        fit=_fit_celu,
    ),
    Activation(
        "selu",
        torch.selu,
        facts=Fact.HOMOGENEOUS_NEAR_ZERO,
        gain=lambda: 1.0,
        source="Klambauer et al. 2017: unit second moment is its fixed point",
        spelling=Spelling((nn.SELU,), arguments="inplace=False"),
    ),
    Activation(
        "softplus",
        F.softplus,
        spelling=Spelling((nn.Softplus,)),
        defaults={"beta": 1.0, "threshold": 20.0},
        condition=("beta > 0", lambda beta, **_: beta > 0),
        fit=_fit_softplus,
    ),
    Activation(
        "threshold",
        F.threshold,
        spelling=Spelling((nn.Threshold,), arguments="inplace=False"),
        required=("threshold", "value"),
        fit=_fit_threshold,
        told_by_values=True,  # at 0 it is a relu
    ),
    Activation("squared_relu", lambda x: torch.relu(x).square()),
)
