"""How far each layer may drive its nonlinearity: see `mirrored` and `theory.mirrored`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from autoinit.methods._pairing import MirrorableLayer
from autoinit.resolving import Ending, Reason
from autoinit.theory.mirrored import Tangent, tangent


def tangent_of(layer: MirrorableLayer, again: Sequence[Ending], depth: int, most: float) -> Tangent | None:
    """How a layer uses its nonlinearity, driven by `most` at most; None where no odd part of it is nearly linear.

    again: further nonlinearities, one behind the other.
    """
    ending = layer.ending
    gated = bool(layer.gate or layer.part)
    if again:
        return None if gated else _known_in_a_row(tuple(map(_keyed, (ending, *again))), depth, most)
    if gated and ending.reason is Reason.GATE:
        return Tangent(paired=True, a=most, c=1 / most)
    if ending.function is None:
        return None
    if ending.nonlinearity == "custom":
        found = tangent(ending.function, "custom", depth, most)
    else:
        found = _known(_keyed(ending), depth, most)
    return replace(found, paired=True) if gated and found is not None else found


@dataclass(frozen=True)
class _Keyed:
    """A function that is told apart by its name and parameters."""

    key: tuple[str, tuple[tuple[str, float], ...]]
    function: Any

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and other.key == self.key


def _keyed(ending: Ending) -> _Keyed:
    return _Keyed((ending.nonlinearity, tuple(sorted(ending.params.items()))), ending.function)


def _known_in_a_row(functions: Sequence[_Keyed], depth: int, most: float) -> Tangent | None:
    """The tangent of nonlinearities one behind the other; None where one of them is not known."""
    if any(each.function is None for each in functions):
        return None
    name = ", then ".join(each.key[0] for each in functions)
    return tangent(lambda x: functools.reduce(lambda y, each: each.function(y), functions, x), name, depth, most)


@cache
def _known(function: _Keyed, depth: int, most: float) -> Tangent | None:
    return tangent(function.function, function.key[0], depth, most)
