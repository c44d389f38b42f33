"""From an operation, or a function put together from several, to a nonlinearity with a name and a gain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from autoinit.errors import ArgumentError
from autoinit.resolving.resolution import Ending, Reason
from autoinit.theory.activations import ACTIVATIONS, Fact, activation_called
from autoinit.theory.gains import gain
from autoinit.theory.identify import identify
from autoinit.tracing.dataflow import Op

NAMED = frozenset(name for name, each in ACTIVATIONS.items() if Fact.STRAIGHT not in each.facts)
"""Activations that end a walk."""

Phi = Callable[[torch.Tensor], torch.Tensor]


def ending_of(op: Op, phi: Phi) -> Ending | None:
    """The ending at one nonlinearity; None if, with these constants, it is the identity (a clamp out of reach)."""
    path = (op.name,)
    activation, note = activation_called(op.op, op.constants), str(op.constants.get("assumed", ""))
    if activation is not None and not activation.told_by_values:
        params = {key: value for key, value in _numbers(op).items() if key in activation.parameters}
        try:
            factor = gain(activation.name, params)
        except ArgumentError as error:
            return unresolved(str(error), path)
        return Ending(activation.reported, Reason.ACTIVATION, factor, params=params, path=path, note=note, function=phi)
    ending = ending_of_function(phi, path, op.op)
    if ending is None or ending.nonlinearity != op.op or ending.params:
        return ending
    return replace(ending, params=_numbers(op), note=ending.note or note)


def ending_of_function(phi: Phi, path: tuple[str, ...], name: str = "custom") -> Ending | None:
    """The ending at a function of one variable; None if it passes its argument on (affine)."""
    try:
        known = identify(phi, name)
        if known is not None and known.name not in NAMED:
            return None
        if known is not None:
            activation, factor = ACTIVATIONS[known.name], gain(known.name, known.params)
            params = {} if activation.variant_of else dict(known.params)
            return Ending(activation.reported, Reason.ACTIVATION, factor, params=params, path=path, function=phi)
        return Ending(name, Reason.ACTIVATION, gain(name, None, phi), path=path, function=phi)
    except ArgumentError as error:
        return unresolved(str(error), path)


def unresolved(note: str, path: tuple[str, ...]) -> Ending:
    """A visible dead end."""
    return Ending("linear", Reason.UNRESOLVED, path=path, note=note)


def _numbers(op: Op) -> dict[str, float]:
    """The constants that are numbers, as floats."""
    return {
        key: float(value)
        for key, value in op.constants.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
