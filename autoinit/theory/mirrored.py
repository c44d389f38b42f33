"""Units in pairs, whose difference does not see the nonlinearity: how far it may be driven, and what comes out.

Two units with pre-activations z and -z, read with opposite signs, act as one unit with the activation

    psi(z) = phi(a z) - phi(-a z),

twice the odd part of phi at the scale a. For ReLU, GELU and SiLU psi(z) = a z: a network of such pairs starts as a
linear map (Balduzzi et al. 2017, "The shattered gradients problem"; Burkholz & Dubatovka 2019, "Initialization of
ReLUs for dynamical isometry"). A function that is odd itself needs no partner: there psi(z) = phi(a z).

c = E[psi(z)^2]^(-1/2), z ~ N(0, 1), makes up for what psi does to the second moment. E[(c psi'(z))^2] is then by how
much a small difference between two inputs grows in second moment; it is 1 for a linear psi. `tangent` chooses a such
that over L nonlinearities in a row it grows by zeta at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from autoinit.errors import ArgumentError
from autoinit.theory.pointwise import Function, Points, evaluate
from autoinit.theory.quadrature import second_moment, slope_moment

ZETA = 1.5
"""By how much the second moment of a small difference may grow from the first layer to the last."""
SMALLEST = 1e-3
"""Scales of the pre-activation below this are not looked for: single precision would see little of them."""
_BISECTIONS = 24
_ODD = 1e-6


@dataclass(frozen=True)
class Tangent:
    """How a nonlinearity is used by a mirrored layer.

    Attributes:
        paired: whether its units come in pairs; a function that is odd itself stands alone.
        a: standard deviation of the pre-activation.
        c: the factor by which what comes out is multiplied, so that its second moment is 1 again.
    """

    paired: bool
    a: float
    c: float


def is_odd(phi: Function, name: str) -> bool:
    """Whether phi(-z) = -phi(z) on [-4, 4]."""
    points: Points = np.linspace(0.01, 4.0, 400)
    there, back = evaluate(phi, points, name), evaluate(phi, -points, name)
    return bool(np.abs(there + back).max() <= _ODD * max(1.0, float(np.abs(there).max())))


def tangent(phi: Function, name: str, depth: int, most: float = 1.0) -> Tangent | None:
    """The largest scale up to `most` at which `depth` such nonlinearities in a row stay nearly linear together.

    E[psi'^2] / E[psi^2] <= ZETA^(1 / depth), by bisection.

    Args:
        phi: the nonlinearity, an elementwise function of a one-dimensional float64 tensor.
        name: what to call it in messages.
        depth: how many nonlinearities lie in a row.
        most: the largest scale that may be.

    Returns:
        None where phi has no odd part, or none that is nearly linear at any scale looked for.
    """
    paired = not is_odd(phi, name)

    def psi(a: float) -> Function:
        return (lambda z: phi(a * z) - phi(-a * z)) if paired else (lambda z: phi(a * z))

    def gentle(a: float) -> bool:
        slope: float = slope_moment(psi(a), name) / second_moment(psi(a), name)
        return slope <= float(ZETA ** (1 / depth)) * (1 + 1e-9)

    try:
        scale = _largest(gentle, most)
        return None if scale is None else Tangent(paired, scale, 1 / math.sqrt(second_moment(psi(scale), name)))
    except ArgumentError:  # no second moment: psi is 0 everywhere, phi has no odd part
        return None


def _largest(gentle: Callable[[float], bool], most: float) -> float | None:
    """The largest scale from `SMALLEST` to `most` that is gentle, by bisection; None where not even the smallest is."""
    if gentle(most):
        return most
    low, high = min(SMALLEST, most), most
    if not gentle(low):
        return None
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if gentle(middle) else (low, middle)
    return low
