"""The scalar nonlinearities of torch.nn.functional, as functions of one variable: one definition each."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch.nn import functional as F

from autoinit.errors import ArgumentError
from autoinit.theory.pointwise import Function


@dataclass(frozen=True)
class Activation:
    """A nonlinearity.

    name: torch.nn.functional's. function: takes a tensor and the parameters by name.
    defaults: the parameters and what they are when a call omits them.
    required: parameters without a default.
    condition: what its parameters must satisfy beyond being finite, in words, and the test of it.
    """

    name: str
    function: Callable[..., torch.Tensor]
    defaults: Mapping[str, float] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    condition: tuple[str, Callable[..., bool]] | None = None

    def complete(self, params: Mapping[str, float] | None = None) -> dict[str, float]:
        """All parameters: those given and the defaults of the others.

        Raises:
            ArgumentError: a parameter is unknown, missing, not finite or out of its range.
        """
        given = dict(params or {})
        known = (*self.required, *self.defaults)
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ArgumentError(
                f"{self.name} has no parameter {', '.join(map(repr, unknown))}; expected {', '.join(known) or 'none'}"
            )
        missing = [key for key in self.required if key not in given]
        if missing:
            raise ArgumentError(f"{self.name} needs the parameters {', '.join(missing)}: they have no default")
        merged = {**self.defaults, **given}
        shown = ", ".join(f"{key}={merged[key]}" for key in known)
        try:
            full = {key: float(merged[key]) for key in known}
        except (TypeError, ValueError):
            raise ArgumentError(f"{self.name} has parameters {shown}; expected numbers") from None
        if not all(map(math.isfinite, full.values())):
            raise ArgumentError(f"{self.name} has parameters {shown}; expected finite numbers")
        if self.condition and not self.condition[1](**full):
            raise ArgumentError(f"{self.name} has parameters {shown}; expected {self.condition[0]}")
        return full

    def bind(self, params: Mapping[str, float] | None = None) -> Function:
        """The function of one variable that these parameters make; errors as in `complete`."""
        return functools.partial(self.function, **self.complete(params))


def _rrelu(x: torch.Tensor, lower: float, upper: float) -> torch.Tensor:
    return F.leaky_relu(x, (lower + upper) / 2)


_ALL = (
    Activation("linear", lambda x: x),
    Activation("affine", lambda x, scale, shift: scale * x + shift, {"scale": 1.0, "shift": 0.0}),
    Activation("relu", torch.relu),
    Activation("leaky_relu", F.leaky_relu, {"negative_slope": 0.01}),
    Activation("prelu", lambda x, weight: F.leaky_relu(x, weight), {"weight": 0.25}),
    Activation(
        "rrelu",
        _rrelu,
        {"lower": 1 / 8, "upper": 1 / 3},
        condition=("lower <= upper", lambda lower, upper: lower <= upper),
    ),
    Activation("elu", F.elu, {"alpha": 1.0}),
    Activation("celu", F.celu, {"alpha": 1.0}, condition=("alpha > 0", lambda alpha: alpha > 0)),
    Activation("selu", torch.selu),
    Activation("gelu", F.gelu),
    Activation("gelu_tanh", functools.partial(F.gelu, approximate="tanh")),
    Activation("quick_gelu", lambda x: x * torch.sigmoid(1.702 * x)),
    Activation("silu", F.silu),
    Activation("mish", F.mish),
    Activation(
        "softplus",
        F.softplus,
        {"beta": 1.0, "threshold": 20.0},
        condition=("beta > 0", lambda beta, **_: beta > 0),
    ),
    Activation("softsign", F.softsign),
    Activation("tanh", torch.tanh),
    Activation("sigmoid", torch.sigmoid),
    Activation("logsigmoid", F.logsigmoid),
    Activation(
        "hardtanh",
        F.hardtanh,
        {"min_val": -1.0, "max_val": 1.0},
        condition=("min_val <= max_val", lambda min_val, max_val: min_val <= max_val),
    ),
    Activation("relu6", F.relu6),
    Activation("hardswish", F.hardswish),
    Activation("hardsigmoid", F.hardsigmoid),
    Activation("hardshrink", F.hardshrink, {"lambd": 0.5}, condition=("lambd >= 0", lambda lambd: lambd >= 0)),
    Activation("softshrink", F.softshrink, {"lambd": 0.5}, condition=("lambd >= 0", lambda lambd: lambd >= 0)),
    Activation("tanhshrink", F.tanhshrink),
    Activation("threshold", F.threshold, required=("threshold", "value")),
    Activation("squared_relu", lambda x: torch.relu(x).square()),
)

ACTIVATIONS: Mapping[str, Activation] = MappingProxyType({each.name: each for each in _ALL})
"""Every activation by name. `rrelu` is its evaluation mode, with the mean slope; `gelu_tanh` is
`F.gelu(approximate="tanh")`; `prelu` has one weight, by default `nn.PReLU`'s."""
