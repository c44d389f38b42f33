"""The nonlinearities: all that is known of each, in one entry of one table.

To add an activation, add one `Activation` to the family that it belongs to: `rectifiers`, `self_gated`, `saturating` or
`shrinking`. Its calls are then known to the tracer, its hand-written forms to `identify`, its gain to `gain` and to
plans, its facts to the checks, and its modules to safe loading.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from autoinit.theory.activations._activation import Activation, Fact, Nonlinearity, Scheme, Spelling
from autoinit.theory.activations._curve import REACH, Curve
from autoinit.theory.activations.lines import LINES
from autoinit.theory.activations.rectifiers import RECTIFIERS
from autoinit.theory.activations.saturating import SATURATING
from autoinit.theory.activations.self_gated import SELF_GATED
from autoinit.theory.activations.shrinking import SHRINKING
from autoinit.theory.activations.softmaxes import SOFTMAXES as _SOFTMAXES

__all__ = [
    "ACTIVATIONS",
    "NONLINEARITIES",
    "REACH",
    "SOFTMAXES",
    "Activation",
    "Curve",
    "Fact",
    "Nonlinearity",
    "Scheme",
    "Spelling",
    "activation_called",
]

ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {each.name: each for each in (*LINES, *RECTIFIERS, *SELF_GATED, *SATURATING, *SHRINKING)}
)
"""Nonlinearities of each element by itself, by name; of two that may be one function, the plainer one first."""
SOFTMAXES: Mapping[str, Nonlinearity] = MappingProxyType({each.name: each for each in _SOFTMAXES})
"""Nonlinearities that look along an axis, by name."""
NONLINEARITIES: Mapping[str, Nonlinearity] = MappingProxyType({**ACTIVATIONS, **SOFTMAXES})


def activation_called(name: str, constants: Mapping[str, Any]) -> Activation | None:
    """The activation that a call is: of a canonical name, with these constant arguments."""
    variants = (each for each in ACTIVATIONS.values() if each.variant_of == name and each.constants)
    for each in variants:
        if all(constants.get(key) == value for key, value in each.constants.items()):
            return each
    return ACTIVATIONS.get(name)
