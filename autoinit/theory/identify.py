"""Naming a function of one variable by comparing it with the known activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from autoinit.theory.activations import ACTIVATIONS
from autoinit.theory.pointwise import Function, Points, evaluate, name_of, require_elementwise

_TOLERANCE = 1e-5
_REACH = 8.0
_NEAR_ZERO = np.logspace(-6, -1, 26)
_GRID: Points = np.unique(
    np.concatenate([np.linspace(-_REACH, _REACH, 2000), np.pi / 3 * _NEAR_ZERO, -np.pi / 3 * _NEAR_ZERO])
)
"""No round numbers but the ends, so that the value *at* a jump, which is a convention, is not compared."""

Candidate = tuple[str, Mapping[str, float]]


@dataclass(frozen=True)
class Identified:
    """A known activation that a function agrees with.

    name, params: as `torch.nn.functional` calls them; `linear` for the identity, `affine` (scale, shift) for other
        straight lines, constants included.
    max_error: the largest difference seen on [-8, 8].
    """

    name: str
    params: Mapping[str, float] = field(default_factory=dict)
    max_error: float = 0.0


def identify(phi: Function) -> Identified | None:
    """Names phi, if it agrees with a known activation to 1e-5 on [-8, 8] (of its size, where that is under 1).

    Parameters are fitted: slopes, alphas, bounds, betas, thresholds. Where two names fit, the plainer one is given: a
    leaky ReLU of slope 0 is `relu`, one of slope 1 `linear`, a clamp to [0, 6] `relu6`, to [0, inf) `relu`.

    Args:
        phi: an elementwise function of a one-dimensional float64 CPU tensor. It may work in place.

    Returns:
        The name, or None when no known activation fits or phi is not finite on [-8, 8].

    Raises:
        ArgumentError: phi is not elementwise or returns the wrong shape.
    """
    name = name_of(phi)
    require_elementwise(phi, name)
    y = evaluate(phi, _GRID, name)
    if not np.isfinite(y).all():
        return None

    def at(x: float) -> float:
        return float(evaluate(phi, np.array([x]), name)[0])

    tolerance = _TOLERANCE * min(1.0, float(np.abs(y).max()))
    for known, params in _candidates(at, y, tolerance):
        error = float(np.abs(evaluate(ACTIVATIONS[known].bind(params), _GRID, known) - y).max())
        if error <= tolerance:
            return Identified(known, params, error)
    return None


def _candidates(at: Callable[[float], float], y: Points, tolerance: float) -> Iterator[Candidate]:
    """Names with the parameters that phi must have if it bears them; plainer names first.

    at: phi at one point. y: phi on the grid.
    """
    yield "linear", {}
    noise = 1e-9 * min(1.0, float(np.abs(y).max()))
    low, high = float(y[0]), float(y[-1])
    yield "affine", {"scale": _tidy((high - low) / (2 * _REACH), noise), "shift": _tidy((high + low) / 2, noise)}
    yield from ((each.name, {}) for each in ACTIVATIONS.values() if not (each.defaults or each.required))

    at_minus_one = at(-1.0)
    yield "leaky_relu", {"negative_slope": _tidy(-at_minus_one, noise)}
    yield "elu", {"alpha": _tidy(at_minus_one / math.expm1(-1), noise)}
    if 0 < -low < _REACH:
        yield "celu", {"alpha": _tidy(_celu_alpha(low), noise)}
    if -_REACH < low < high < _REACH:
        yield "hardtanh", {"min_val": _tidy(low, noise), "max_val": _tidy(high, noise)}
    at_zero = at(0.0)
    if 0 < at_zero < math.inf:
        yield "softplus", {"beta": _tidy(math.log(2) / at_zero, noise), "threshold": 20.0}
    if high < _REACH:
        yield "softshrink", {"lambd": _tidy(_REACH - high, noise)}

    edge = _identity_from(at, y, tolerance)
    if edge is not None:
        # A clamp from below is continuous: its value is known better than its edge.
        clamped = abs(edge - low) <= 10 * tolerance
        yield "threshold", {"threshold": _tidy(low if clamped else edge, noise), "value": _tidy(low, noise)}
        if edge > 0:
            yield "hardshrink", {"lambd": _tidy(edge, noise)}


def _tidy(value: float, noise: float) -> float:
    """The shortest decimal within single precision of the value; 0 for noise."""
    if abs(value) <= noise:
        return 0.0
    rounded = (float(f"{value:.{digits}g}") for digits in range(1, 7))
    return next((short for short in rounded if abs(short - value) <= 1e-7 * abs(value)), value)


def _bisect(is_above: Callable[[float], bool], low: float, high: float) -> float:
    """Where is_above turns from false to true."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if is_above(middle) else (middle, high)
    return high


def _celu_alpha(at_end: float) -> float:
    """The alpha of a celu with this value at -8: alpha * (exp(-8 / alpha) - 1) falls with alpha from 0 to -8."""
    return math.exp(_bisect(lambda log: math.exp(log) * math.expm1(-_REACH * math.exp(-log)) <= at_end, -12.0, 12.0))


def _identity_from(at: Callable[[float], float], y: Points, tolerance: float) -> float | None:
    """The point beyond which phi is the identity; None where there is none inside the grid."""
    differs = np.flatnonzero(np.abs(y - _GRID) > tolerance)
    if not differs.size or differs[-1] == _GRID.size - 1:
        return None
    last = int(differs[-1])
    return _bisect(lambda x: abs(at(x) - x) <= tolerance, float(_GRID[last]), float(_GRID[last + 1]))
