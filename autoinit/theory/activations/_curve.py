"""A function of one variable as it is seen on a grid: what parameters of activations are fitted to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from autoinit.theory.pointwise import Function, Points, evaluate

REACH = 8.0
"""The grid goes from -REACH to REACH."""
_NEAR_ZERO = np.logspace(-6, -1, 26)
GRID: Points = np.unique(
    np.concatenate([np.linspace(-REACH, REACH, 2000), np.pi / 3 * _NEAR_ZERO, -np.pi / 3 * _NEAR_ZERO])
)
"""No round numbers but the ends, so that the value *at* a jump, which is a convention, is not compared."""
_TOLERANCE = 1e-5
_NOISE = 1e-9


@dataclass(frozen=True, eq=False)
class Curve:
    """A function phi and its values on the grid.

    Attributes:
        function: phi.
        name: what to call it in messages.
        values: phi on `GRID`.
    """

    function: Function
    name: str
    values: Points

    @classmethod
    def of(cls, function: Function, name: str) -> Curve:
        """The function evaluated on the grid."""
        return cls(function, name, evaluate(function, GRID, name))

    def at(self, x: float) -> float:
        """phi(x)."""
        return float(evaluate(self.function, np.array([x]), self.name)[0])

    @cached_property
    def low(self) -> float:
        """phi(-REACH)."""
        return float(self.values[0])

    @cached_property
    def high(self) -> float:
        """phi(REACH)."""
        return float(self.values[-1])

    @cached_property
    def tolerance(self) -> float:
        """By how much the values of equal functions may differ."""
        return _TOLERANCE * self._size

    @cached_property
    def noise(self) -> float:
        """What is as good as zero."""
        return _NOISE * self._size

    @cached_property
    def _size(self) -> float:
        return min(1.0, float(np.abs(self.values).max()))

    def difference(self, other: Function, name: str) -> float:
        """The largest difference to another function on the grid."""
        return float(np.abs(evaluate(other, GRID, name) - self.values).max())

    @cached_property
    def identity_from(self) -> float | None:
        """The point beyond which phi is the identity; None where there is none inside the grid."""
        differs = np.flatnonzero(np.abs(self.values - GRID) > self.tolerance)
        if not differs.size or differs[-1] == GRID.size - 1:
            return None
        last = int(differs[-1])
        return bisect(lambda x: abs(self.at(x) - x) <= self.tolerance, float(GRID[last]), float(GRID[last + 1]))


def bisect(is_above: Callable[[float], bool], low: float, high: float) -> float:
    """Where is_above turns from false to true."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if is_above(middle) else (middle, high)
    return high
