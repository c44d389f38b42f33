"""Gains, schemes and standard deviations.

A gain makes the second moment after a nonlinearity phi equal the one before it: with unit-variance Gaussian
pre-activations z, and weights of variance gain^2 / fan_in after phi, gain^2 E[phi(z)^2] = 1 (He et al. 2015, eq. 10,
generalised).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from functools import lru_cache

from autoinit.errors import ArgumentError
from autoinit.errors.arguments import shown
from autoinit.theory.activations import ACTIVATIONS, NONLINEARITIES, Nonlinearity
from autoinit.theory.activations import Scheme as Scheme
from autoinit.theory.fans import MODES, Fans, Mode
from autoinit.theory.pointwise import Function
from autoinit.theory.quadrature import second_moment

_OTHER_NAMES = {"identity": "linear"}


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
    known = _known(nonlinearity)
    if function is not None and (known is None or known.gain is None):
        return 1 / math.sqrt(second_moment(function, nonlinearity))
    if known is None:
        raise ArgumentError(_unknown(nonlinearity))
    return _named_gain(known.name, tuple(known.complete(params).items()))


@lru_cache(maxsize=4096)
def _named_gain(name: str, params: tuple[tuple[str, float], ...]) -> float:
    known = NONLINEARITIES[name]
    if known.gain is not None:
        return known.gain(**dict(params))
    return 1 / math.sqrt(second_moment(ACTIVATIONS[name].bind(dict(params)), name))


def _known(name: str) -> Nonlinearity | None:
    return NONLINEARITIES.get(_OTHER_NAMES.get(name, name))


def _unknown(name: str) -> str:
    known = sorted({*NONLINEARITIES, *_OTHER_NAMES})
    close = difflib.get_close_matches(name, known)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}."
    return (
        f"no gain is known for the nonlinearity {shown(name)}; {hint} For any other pass the function itself: "
        f"gain({shown(name)}, function=lambda x: ...)"
    )


def scheme(nonlinearity: str) -> Scheme:
    """Whose scheme the nonlinearity calls for.

    `xavier` for linear, tanh, sigmoid, softmax and log_softmax; `he` for the rectifiers and for everything whose gain
    is a second moment, custom functions included.
    """
    known = _known(nonlinearity)
    return "he" if known is None else known.scheme


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
