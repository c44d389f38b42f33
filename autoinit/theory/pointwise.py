"""Calling a function of one variable that somebody else wrote, on many points at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from autoinit.errors import ArgumentError, AutoinitError, words_of

Function: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
Points: TypeAlias = npt.NDArray[np.float64]

_PROBES: Points = np.linspace(-3.1, 2.9, 61)
_SOME = slice(50, 5, -3)
"""Some of these, with another mean and another maximum, in the other order."""


def name_of(phi: Callable[..., Any]) -> str:
    """The name to call `phi` by in a message."""
    if isinstance(phi, functools.partial):
        return name_of(phi.func)
    return str(getattr(phi, "__name__", type(phi).__name__))


def call(phi: Function, x: torch.Tensor, name: str) -> torch.Tensor:
    """`phi(x)`, which must be a real CPU tensor of x's shape.

    Raises:
        ArgumentError: it is anything else, or the function fails.
    """
    try:
        y = phi(x)
    except AutoinitError:
        raise
    except Exception as error:
        raise ArgumentError(f"{name} fails: {type(error).__name__}: {words_of(error)}") from error
    if not isinstance(y, torch.Tensor):
        raise ArgumentError(f"{name} returns {type(y).__name__}; expected a tensor with one value for each element")
    if y.shape != x.shape:
        raise ArgumentError(
            f"{name} returns shape {tuple(y.shape)} for an input of shape {tuple(x.shape)}; "
            "expected one value for each element"
        )
    if y.is_complex() or y.device.type != "cpu":
        raise ArgumentError(f"{name} returns a {y.dtype} tensor on {y.device}; expected real numbers on the CPU")
    return y


def evaluate(phi: Function, x: Points, name: str) -> Points:
    """`phi` at the points x (one dimension), which `phi` is free to overwrite, without gradients."""
    with torch.no_grad():
        y = call(phi, torch.from_numpy(x.copy()), name)
        return y.detach().to(torch.float64).numpy()


def require_elementwise(phi: Function, name: str) -> None:
    """Refuses a function whose value at a point depends on the other points, on their order or on chance.

    Raises:
        ArgumentError: naming the function and a point where two calls disagree.
    """
    among_all = evaluate(phi, _PROBES, name)[_SOME]
    among_some = evaluate(phi, _PROBES[_SOME], name)
    same = np.isclose(among_some, among_all, rtol=1e-5, atol=1e-12, equal_nan=True)
    if not same.all():
        worst = int(np.argmin(same))
        raise ArgumentError(
            f"{name} is not a function of one variable: at x = {_PROBES[_SOME][worst]:.3g} it gives "
            f"{among_all[worst]:.6g} or {among_some[worst]:.6g}, depending on the other points or on chance; "
            "expected a deterministic elementwise function"
        )
