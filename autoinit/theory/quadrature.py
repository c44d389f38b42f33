"""Moments of a function of one standard normal variable, and of its slope.

The integral over [-24, 24] (the density beyond is under 1e-125) is cut into panels. Each is integrated by the
Clenshaw-Curtis rule on 17 points, and again on every second of them (Clenshaw & Curtis, Numerische Mathematik 2,
1960). Where the two disagree the panel is halved, so that the panels close in on every kink and jump of the function,
wherever they are; both rules use the panel's ends, so that a jump next to one is seen. A smooth function costs some
thousand evaluations, a jump forty times a few dozen more.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from autoinit.errors import ArgumentError
from autoinit.theory.pointwise import Function, Points, call, evaluate, name_of, require_elementwise

_REACH = 24.0
_PANEL = 0.25
_ORDER = 16
_DEPTH = 44
_MOST_PANELS = 16384
_PANEL_TOLERANCE = 1e-13
_TOLERANCE = 1e-7
_TAIL = 1e-14


def second_moment(phi: Function, name: str | None = None) -> float:
    """E[phi(z)^2] for z ~ N(0, 1).

    Accurate to about 1e-11 of its value for functions that are smooth but for kinks and jumps, wherever these are.

    Args:
        phi: an elementwise function of a one-dimensional float64 CPU tensor. It may work in place.
        name: what to call it in messages; by default its own name.

    Raises:
        ArgumentError: phi is not elementwise, returns the wrong shape or nonfinite values, is 0 everywhere, or grows
            so fast, at infinity or at a pole, that the moment is not finite.
    """
    name = name or name_of(phi)
    require_elementwise(phi, name)

    def integrand(x: Points) -> Points:
        scaled = _finite(phi, x, name) * np.exp(-x * x / 4)
        return np.asarray(scaled * scaled)

    moment = _integrate(integrand, f"E[{name}(z)^2]")
    if not 0 < moment < math.inf:
        raise ArgumentError(
            f"{name} has second moment {moment:g} under N(0, 1), so no gain can restore it; "
            "expected a function that is not 0 everywhere and fits the range of floating-point numbers"
        )
    return moment


def slope_moment(phi: Function, name: str | None = None) -> float:
    """E[phi'(z)^2] for z ~ N(0, 1): the factor by which phi scales a gradient's second moment.

    phi' is what autograd says, as in a backward pass: a jump has no slope. Arguments and errors as for
    `second_moment`, but it may be 0.
    """
    name = name or name_of(phi)
    require_elementwise(phi, name)

    def derivative(x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            leaf = x.clone().requires_grad_()
            y = call(phi, leaf.clone(), name)
            if not y.requires_grad:
                return torch.zeros_like(x)
            (slope,) = torch.autograd.grad(y.sum(), leaf, allow_unused=True, materialize_grads=True)
            return slope

    def integrand(x: Points) -> Points:
        scaled = _finite(derivative, x, f"the derivative of {name}") * np.exp(-x * x / 4)
        return np.asarray(scaled * scaled)

    return _integrate(integrand, f"E[{name}'(z)^2]")


def _finite(phi: Function, x: Points, name: str) -> Points:
    y = evaluate(phi, x, name)
    finite = np.isfinite(y)
    if not finite.all():
        worst = int(np.argmin(np.where(finite, np.inf, np.abs(x))))
        raise ArgumentError(
            f"{name} gives {y[worst]} at x = {x[worst]:.6g}, so its moments under N(0, 1) are not finite; "
            f"expected a function that is finite on [-{_REACH:g}, {_REACH:g}]"
        )
    return y


def _clenshaw_curtis(order: int) -> Points:
    """Weights, of sum 1, for the points (1 - cos(pi k / order)) / 2, k = 0..order; order is even."""
    k = np.arange(order + 1)[:, None]
    j = np.arange(1, order // 2 + 1)[None, :]
    factor = np.where(j == order // 2, 1.0, 2.0) / (4.0 * j * j - 1)
    weights = (1 - (factor * np.cos(2 * np.pi * j * k / order)).sum(axis=1)) / order
    weights[[0, -1]] /= 2
    return np.asarray(weights)


_NODES = (1 - np.cos(np.pi * np.arange(_ORDER + 1) / _ORDER)) / 2
_FINE = _clenshaw_curtis(_ORDER)
_COARSE = _clenshaw_curtis(_ORDER // 2)


def _integrate(integrand: Callable[[Points], Points], what: str) -> float:
    """The integral of integrand / sqrt(2 pi) over the line, by adaptive halving of panels."""
    left = np.arange(-_REACH, _REACH, _PANEL)
    width = _PANEL
    total = error = size = 0.0
    for depth in range(_DEPTH + 1):
        x = left[:, None] + width * _NODES
        with np.errstate(over="ignore"):
            values = integrand(x.ravel()).reshape(x.shape)
        sizes = width * (np.abs(values) @ _FINE)
        scale = size + float(sizes.sum())
        if depth == 0:
            _require_light_tails(values, scale, what)
        fine = width * (values @ _FINE)
        defect = np.abs(fine - width * (values[:, ::2] @ _COARSE))
        done = defect <= _PANEL_TOLERANCE * scale
        if depth == _DEPTH or 2 * np.count_nonzero(~done) > _MOST_PANELS:
            done[:] = True
        total += float(fine[done].sum())
        error += float(defect[done].sum())
        size += float(sizes[done].sum())
        if done.all():
            break
        left = np.concatenate([left[~done], left[~done] + width / 2])
        width /= 2
    if not error <= _TOLERANCE * size:
        raise ArgumentError(
            f"{what} cannot be computed for z ~ N(0, 1): it is not finite, or the function varies too fast "
            f"(value {total:.3g}, error {error:.1g}); expected a function that is smooth but for kinks and jumps"
        )
    return total / math.sqrt(2 * math.pi)


def _require_light_tails(values: Points, scale: float, what: str) -> None:
    edge = float(np.abs(values[[0, -1]]).max())
    if not (math.isfinite(scale) and edge <= _TAIL * scale):
        raise ArgumentError(
            f"{what} is not finite for z ~ N(0, 1): the function outgrows the density "
            f"(their product is still {edge:.3g} at |z| = {_REACH:g}); expected one that grows slower than exp(z^2/4)"
        )
