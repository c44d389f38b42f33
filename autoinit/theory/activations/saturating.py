"""Functions that level off, on both sides or on one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from autoinit.theory.activations._activation import Activation, Fact, Spelling
from autoinit.theory.activations._curve import REACH, Curve


def _fit_hardtanh(phi: Curve) -> Mapping[str, float] | None:
    inside = -REACH < phi.low < phi.high < REACH
    return {"min_val": phi.low, "max_val": phi.high} if inside else None


def _fit_sloped_hardsigmoid(phi: Curve) -> Mapping[str, float] | None:
    is_share = phi.low == 0 and phi.high == 1 and abs(phi.at(0.0) - 0.5) <= phi.tolerance
    return {"slope": (phi.at(1 / 64) - 0.5) * 64} if is_share else None


SATURATING = (
    Activation(
        "tanh",
        torch.tanh,
        facts=Fact.ODD | Fact.HOMOGENEOUS_NEAR_ZERO | Fact.BOUNDED,
        gain=lambda: 5 / 3,
        source="torch.nn.init.calculate_gain",
        scheme="xavier",
        spelling=Spelling((nn.Tanh,)),
    ),
    Activation(
        "sigmoid",
        torch.sigmoid,
        facts=Fact.BOUNDED | Fact.SHARE,
        gain=lambda: 1.0,
        source="Glorot & Bengio 2010: a head or gate, whose input is best left at unit variance",
        scheme="xavier",
        spelling=Spelling((nn.Sigmoid,), names=("expit",)),
    ),
    Activation(
        "logsigmoid",
        F.logsigmoid,
        spelling=Spelling((nn.LogSigmoid,), names=("log_sigmoid", "log_sigmoid_forward")),
    ),
    Activation(
        "softsign",
        F.softsign,
        facts=Fact.ODD | Fact.HOMOGENEOUS_NEAR_ZERO | Fact.BOUNDED,
        spelling=Spelling((nn.Softsign,)),
    ),
    Activation(
        "hardtanh",
        F.hardtanh,
        facts=Fact.BOUNDED | Fact.CLIPPING,
        spelling=Spelling((nn.Hardtanh,), arguments="inplace=False"),
        defaults={"min_val": -1.0, "max_val": 1.0},
        condition=("min_val <= max_val", lambda min_val, max_val: min_val <= max_val),
        fit=_fit_hardtanh,
    ),
    Activation(
        "relu6",
        F.relu6,
        facts=Fact.HOMOGENEOUS_NEAR_ZERO | Fact.BOUNDED,
        spelling=Spelling((nn.ReLU6,), arguments="inplace=False"),
    ),
    Activation(
        "hardsigmoid",
        F.hardsigmoid,
        facts=Fact.BOUNDED | Fact.SHARE,
        gain=lambda: 1.0,
        source="as of sigmoid, whose piecewise linear form it is",
        scheme="xavier",
        spelling=Spelling((nn.Hardsigmoid,), arguments="inplace=False"),
    ),
    Activation(
        "sloped_hardsigmoid",
        lambda x, slope: (slope * x + 0.5).clamp(0, 1),  # Keras has slope 0.2, others 1/2
        facts=Fact.BOUNDED | Fact.SHARE,
        gain=lambda **_: 1.0,
        source="as of hardsigmoid",
        scheme="xavier",
        defaults={"slope": 0.2},
        condition=("slope > 0", lambda slope: slope > 0),
        fit=_fit_sloped_hardsigmoid,
        variant_of="hardsigmoid",
    ),
)
