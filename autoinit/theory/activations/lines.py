"""Functions that are no nonlinearity."""

from __future__ import annotations

from collections.abc import Mapping

from autoinit.theory.activations._activation import Activation, Fact
from autoinit.theory.activations._curve import REACH, Curve


def _through_the_ends(phi: Curve) -> Mapping[str, float]:
    return {"scale": (phi.high - phi.low) / (2 * REACH), "shift": (phi.high + phi.low) / 2}


LINES = (
    Activation(
        "linear",
        lambda x: x,
        facts=Fact.STRAIGHT | Fact.ODD | Fact.HOMOGENEOUS | Fact.HOMOGENEOUS_NEAR_ZERO,
        gain=lambda: 1.0,
        source="Glorot & Bengio 2010",
        scheme="xavier",
    ),
    Activation(
        "affine",
        lambda x, scale, shift: scale * x + shift,
        facts=Fact.STRAIGHT,
        scheme="xavier",
        defaults={"scale": 1.0, "shift": 0.0},
        fit=_through_the_ends,
    ),
)
