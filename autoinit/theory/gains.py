"""Gains, schemes and standard deviations.

A gain makes the second moment after a nonlinearity phi equal the one before it: with unit-variance Gaussian
pre-activations z, and weights of variance gain^2 / fan_in after phi, gain^2 E[phi(z)^2] = 1 (He et al. 2015, eq. 10,
generalised).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Literal

from autoinit.errors import ArgumentError
from autoinit.theory.activations import ACTIVATIONS
from autoinit.theory.fans import MODES, Fans, Mode
from autoinit.theory.pointwise import Function
from autoinit.theory.quadrature import second_moment

Scheme = Literal["he", "xavier"]

_UNIT = ("linear", "identity", "sigmoid", "softmax", "log_softmax")
"""No nonlinearity, or a head or gate, whose input is best left at unit variance (Glorot & Bengio 2010)."""
_XAVIER = frozenset({"linear", "identity", "affine", "tanh", "sigmoid", "softmax", "log_softmax"})


def _leaky(slope: float) -> float:
    """sqrt(2 / (1 + a^2)): E[phi^2] = (1 + a^2) / 2 (He et al. 2015, eq. 15)."""
    return math.sqrt(2) / math.hypot(1, slope)


def _random_leaky(lower: float, upper: float) -> float:
    """sqrt(2 / (1 + E[a^2])), a uniform in [l, u]: E[a^2] is mean^2 + variance, ((l + u) / 2)^2 + (u - l)^2 / 12."""
    return math.sqrt(2) / math.hypot(1, (lower + upper) / 2, (upper - lower) / math.sqrt(12))


_CLOSED: Mapping[str, Callable[..., float]] = {
    "relu": lambda: math.sqrt(2),  # He et al. 2015, eq. 10
    "leaky_relu": lambda negative_slope: _leaky(negative_slope),
    "prelu": lambda weight: _leaky(weight),
    "rrelu": _random_leaky,
    "tanh": lambda: 5 / 3,  # torch.nn.init.calculate_gain
    "selu": lambda: 1.0,  # Klambauer et al. 2017: unit second moment is its fixed point
}


def gain(nonlinearity: str, params: Mapping[str, float] | None = None, function: Function | None = None) -> float:
    """The factor by which a layer that feeds this nonlinearity multiplies 1 / sqrt(fan).

    A constant for linear, sigmoid, softmax, log_softmax, tanh and selu; the closed form for the rectifiers; for
    everything else 1 / sqrt(E[phi(z)^2]), z ~ N(0, 1), by quadrature. Named functions are computed once.

        >>> round(gain("leaky_relu", {"negative_slope": 0.2}), 4)
        1.3868
        >>> round(gain("gelu"), 4)
        1.5335
        >>> round(gain("custom", function=lambda x: x.relu() ** 2), 4)
        0.8165

    Args:
        nonlinearity: torch.nn.functional's name, or any name when `function` is given.
        params: its parameters, by torch.nn.functional's names; those omitted have their defaults.
        function: phi itself, parameters included. It decides, unless the name has a constant or closed form.

    Raises:
        ArgumentError: the name is unknown and no function is given, a parameter is unknown or out of range, or
            the function has no finite, positive second moment.
    """
    if function is not None and nonlinearity not in _CLOSED and nonlinearity not in _UNIT:
        return 1 / math.sqrt(second_moment(function, nonlinearity))
    if nonlinearity in _UNIT:
        if params:
            raise ArgumentError(f"{nonlinearity} has no parameter {', '.join(map(repr, params))}; expected none")
        return 1.0
    if nonlinearity not in ACTIVATIONS:
        raise ArgumentError(_unknown(nonlinearity))
    return _named_gain(nonlinearity, tuple(ACTIVATIONS[nonlinearity].complete(params).items()))


@lru_cache(maxsize=4096)
def _named_gain(name: str, params: tuple[tuple[str, float], ...]) -> float:
    if name in _CLOSED:
        return _CLOSED[name](**dict(params))
    return 1 / math.sqrt(second_moment(ACTIVATIONS[name].bind(dict(params)), name))


def _unknown(name: str) -> str:
    known = sorted({*ACTIVATIONS, *_UNIT})
    close = difflib.get_close_matches(name, known)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}."
    return (
        f"no gain is known for the nonlinearity {name!r}; {hint} For any other pass the function itself: "
        f"gain({name!r}, function=lambda x: ...)"
    )


def scheme(nonlinearity: str) -> Scheme:
    """Whose scheme the nonlinearity calls for.

    `xavier` for linear, tanh, sigmoid, softmax and log_softmax; `he` for the rectifiers and for everything whose gain
    is a second moment, custom functions included.
    """
    return "xavier" if nonlinearity in _XAVIER else "he"


def std(gain: float, fans: Fans, mode: Mode) -> float:
    """The gain over sqrt(fan): the standard deviation of every element of the weight.

    fan is fan_in, fan_out or their mean, as `MODES` has it.

    Raises:
        ArgumentError: the mode is unknown, the fan is 0, or the gain is not a positive finite number.
    """
    if mode not in MODES:
        raise ArgumentError(f"mode is {mode!r}; expected {', '.join(MODES)}")
    if not 0 < gain < math.inf:
        raise ArgumentError(f"gain is {gain!r}; expected a positive finite number")
    fan = fans.by_mode[mode]
    if not 0 < fan < math.inf:
        raise ArgumentError(f"{mode} is {fan!r} for {fans}; expected a positive finite number")
    return gain / math.sqrt(fan)
