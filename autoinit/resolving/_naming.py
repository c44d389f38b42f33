"""From an operation, or a function put together from several, to a nonlinearity with a name and a gain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from autoinit.errors import ArgumentError
from autoinit.resolving.resolution import Ending, Reason
from autoinit.theory.activations import ACTIVATIONS
from autoinit.theory.gains import gain
from autoinit.theory.identify import identify
from autoinit.tracing.dataflow import Op

SOFTMAX = frozenset({"softmax", "log_softmax", "gumbel_softmax", "logsumexp"})
_PASSING = frozenset({"linear", "affine"})

_TORCH_NAMES = {"gelu_tanh": "gelu"}  # one function to torch, with approximate="tanh"

KNOWN = frozenset(ACTIVATIONS) - {"linear", "affine"}

Phi = Callable[[torch.Tensor], torch.Tensor]


def ending_of(op: Op, phi: Phi) -> Ending | None:
    """The ending at one nonlinearity; None if, with these constants, it is the identity (a clamp out of reach)."""
    path = (op.name,)
    name, params = op.op, _parameters(op)
    if op.op == "gelu" and op.constants.get("approximate") == "tanh":
        name, params = "gelu_tanh", {}
    if name in ACTIVATIONS and name != "threshold":  # threshold at 0 is a relu
        note = str(op.constants.get("assumed", ""))
        return Ending(_TORCH_NAMES.get(name, name), Reason.ACTIVATION, gain(name, params), params, path, note=note)
    ending = ending_of_function(phi, path, name)
    if ending is None or ending.nonlinearity != name or ending.params:
        return ending
    constants = {key: float(value) for key, value in op.constants.items() if _is_number(value)}
    return replace(ending, params=constants)


def ending_of_function(phi: Phi, path: tuple[str, ...], name: str = "custom") -> Ending | None:
    """The ending at a function of one variable; None if it passes its argument on (affine)."""
    try:
        known = identify(phi)
        if known is not None and known.name in _PASSING:
            return None
        if known is not None:
            params = dict(known.params)
            return Ending(
                _TORCH_NAMES.get(known.name, known.name), Reason.ACTIVATION, gain(known.name, params), params, path
            )
        return Ending(name, Reason.ACTIVATION, gain(name, None, phi), {}, path)
    except ArgumentError as error:
        return unresolved(str(error), path)


def unresolved(note: str, path: tuple[str, ...]) -> Ending:
    """A visible dead end."""
    return Ending("linear", Reason.UNRESOLVED, path=path, note=note)


def _parameters(op: Op) -> dict[str, float]:
    """The constants that are parameters of the activation, as floats."""
    activation = ACTIVATIONS.get(op.op)
    if activation is None:
        return {}
    known = {*activation.defaults, *activation.required}
    return {key: float(value) for key, value in op.constants.items() if key in known and _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
