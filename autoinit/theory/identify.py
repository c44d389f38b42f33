"""Naming a function of one variable by comparing it with the known activations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from autoinit.theory.activations import ACTIVATIONS, Activation, Curve, Fact
from autoinit.theory.pointwise import Function, name_of, require_elementwise


@dataclass(frozen=True)
class Identified:
    """A known activation that a function agrees with.

    Attributes:
        name, params: as `torch.nn.functional` calls them; `linear` for the identity, `affine` (scale, shift) for other
            straight lines, constants included.
        max_error: the largest difference seen on [-8, 8].
    """

    name: str
    params: Mapping[str, float]
    max_error: float


def identify(phi: Function, name: str = "") -> Identified | None:
    """Names phi, if it agrees with a known activation to 1e-5 on [-8, 8] (of its size, where that is under 1).

    Parameters are fitted: slopes, alphas, bounds, betas, thresholds. Where two names fit, the plainer one is given: a
    leaky ReLU of slope 0 is `relu`, one of slope 1 `linear`, a clamp to [0, 6] `relu6`, to [0, inf) `relu`.

    Args:
        phi: an elementwise function of a one-dimensional float64 CPU tensor. It may work in place.
        name: what errors call it; its own by default.

    Returns:
        The name, or None when no known activation fits or phi is not finite on [-8, 8].

    Raises:
        ArgumentError: phi is not elementwise or returns the wrong shape.
    """
    name = name or name_of(phi)
    require_elementwise(phi, name)
    curve = Curve.of(phi, name)
    if not np.isfinite(curve.values).all():
        return None
    for known, params in _candidates(curve):
        error = curve.difference(known.bind(params), known.name)
        if error <= curve.tolerance:
            return Identified(known.name, params, error)
    return None


def _candidates(curve: Curve) -> Iterator[tuple[Activation, Mapping[str, float]]]:
    """Activations with the parameters that the function must have if it is theirs; plainer ones first."""
    for each in sorted(ACTIVATIONS.values(), key=_intricacy):
        if not each.parameters:
            yield each, {}
        elif each.fit is not None and (fitted := each.fit(curve)) is not None:
            params = {name: _tidy(value, curve.noise) for name, value in fitted.items()}
            if all(map(math.isfinite, params.values())) and each.allows(params):
                yield each, params


def _intricacy(activation: Activation) -> tuple[bool, bool]:
    """Straight lines before curves, those without parameters before those that have some."""
    return Fact.STRAIGHT not in activation.facts, bool(activation.parameters)


def _tidy(value: float, noise: float) -> float:
    """The shortest decimal within single precision of the value; 0 for noise."""
    if abs(value) <= noise:
        return 0.0
    rounded = (float(f"{value:.{digits}g}") for digits in range(1, 7))
    return next((short for short in rounded if abs(short - value) <= 1e-7 * abs(value)), value)
