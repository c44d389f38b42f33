"""What is known of a nonlinearity: its formula, its facts, its gain, and how torch calls it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import Flag, auto
from typing import Any, Literal

import torch
from torch import nn

from autoinit.errors import ArgumentError
from autoinit.theory.activations._curve import Curve
from autoinit.theory.pointwise import Function

Scheme = Literal["he", "xavier"]


class Fact(Flag):
    """What holds of a function phi, whatever its parameters are."""

    NONE = 0
    STRAIGHT = auto()
    """phi(x) = scale * x + shift: no nonlinearity."""
    ODD = auto()
    """phi(-x) = -phi(x)."""
    HOMOGENEOUS = auto()
    """phi(c x) = c phi(x) for c > 0: a scale goes through unchanged."""
    HOMOGENEOUS_NEAR_ZERO = auto()
    """phi(0) = 0, and the slopes on the two sides of 0 are not both 0: a small signal goes through with its scale."""
    BOUNDED = auto()
    """phi stays between two numbers."""
    CLIPPING = auto()
    """phi(x) = x between bounds that its parameters set, and the bound beyond."""
    PERIODIC = auto()
    """phi(x + 2 pi) = phi(x): a large argument does not level off."""
    SHARE = auto()
    """phi stays in [0, 1]: a gate, which lets through this share of what it multiplies."""


@dataclass(frozen=True)
class Spelling:
    """The calls that are a nonlinearity.

    Attributes:
        modules: module classes.
        functions: functions and custom operators.
        names: its names in torch, torch.nn.functional and torch.Tensor, beside its own.
        arguments: of its function, beside the input and the parameters, with their defaults (`inplace=False`).
        input: what its function calls the input.
        attributes: module attributes that bear another name than the argument.
    """

    modules: tuple[type[nn.Module], ...] = ()
    _: KW_ONLY
    functions: tuple[Callable[..., Any], ...] = ()
    names: tuple[str, ...] = ()
    arguments: str = ""
    input: str = "input"
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Nonlinearity:
    """A function of a tensor that ends the walk from a weight.

    Attributes:
        name: torch.nn.functional's.
        function: takes a tensor and the parameters by name.
        facts: what holds of it.
        gain: its gain as a function of its parameters; None: 1 / sqrt(E[phi(z)^2]), by quadrature.
        source: of that gain.
        scheme: `xavier` takes the average of the fans, `he` fan_in.
        spelling: how it is called; None: only ever written by hand, or a variant.
        acts: how it treats elements, a value of `ops.Acts`.
        defaults: the parameters and what they are when a call omits them.
        required: parameters without a default.
        condition: what its parameters must satisfy beyond being finite, in words, and the test of it.
    """

    name: str
    function: Callable[..., torch.Tensor]
    _: KW_ONLY
    facts: Fact = Fact.NONE
    gain: Callable[..., float] | None = None
    source: str = ""
    scheme: Scheme = "he"
    spelling: Spelling | None = None
    acts: str = "elementwise"
    defaults: Mapping[str, float] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    condition: tuple[str, Callable[..., bool]] | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters, as the function takes them."""
        return (*self.required, *self.defaults)

    @property
    def signature(self) -> str:
        """The arguments of its function, with their defaults."""
        assert self.spelling is not None
        with_defaults = (f"{name}={value!r}" for name, value in self.defaults.items())
        parts = (self.spelling.input, *self.required, *with_defaults, self.spelling.arguments)
        return ", ".join(filter(None, parts))

    def complete(self, params: Mapping[str, float] | None = None) -> dict[str, float]:
        """All parameters: those given and the defaults of the others.

        Raises:
            ArgumentError: a parameter is unknown, missing, not finite or out of its range.
        """
        given = dict(params or {})
        known = self.parameters
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
        if self.condition and not self.allows(full):
            raise ArgumentError(f"{self.name} has parameters {shown}; expected {self.condition[0]}")
        return full

    def allows(self, params: Mapping[str, float]) -> bool:
        """Whether these values of all parameters satisfy its condition."""
        return self.condition is None or self.condition[1](**params)


@dataclass(frozen=True)
class Activation(Nonlinearity):
    """A nonlinearity of each element by itself.

    Attributes:
        fit: the parameters that a function must have if it is this one, None if it cannot be; needed for an activation
            with parameters to be found when it is written by hand.
        variant_of: the activation whose call it is where the call has these `constants` (none: it is only ever written
            by hand), and whose name reports give it.
        told_by_values: whether its parameters may make it another one, so that a call is named by its values.
    """

    _: KW_ONLY
    fit: Callable[[Curve], Mapping[str, float] | None] | None = None
    variant_of: str = ""
    constants: Mapping[str, Any] = field(default_factory=dict)
    told_by_values: bool = False

    @property
    def reported(self) -> str:
        """The name that reports give it."""
        return self.variant_of or self.name

    def bind(self, params: Mapping[str, float] | None = None) -> Function:
        """The function of one variable that these parameters make; errors as in `complete`."""
        return functools.partial(self.function, **self.complete(params))
