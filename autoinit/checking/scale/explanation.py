"""Explanation: what a rule of scale says of a recipe that does not suit a place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autoinit.checking.scale.cases import Case, Misfit

Verdict = Callable[[Case], "int | None"]
"""How many things are wrong with a recipe at a place, if it is this rule that says so; None if it is not."""


def never(_: Case) -> None:
    """The verdict of a rule that speaks of no recipe."""


def not_otherwise(_: Misfit) -> bool:
    """The word of a rule that speaks of recipes alone."""
    return False


@dataclass(frozen=True)
class Explanation:
    """When a rule of scale is the one that explains a std, and before which others.

    Attributes:
        precedence: of several rules that explain a recipe equally well, or rows of one layer that are off alike, the
            one with the lowest speaks.
        verdict: on a recipe that does not give the planned std.
        strays: the same of rows that are meant to follow a published recipe.
        otherwise: whether it speaks of a misfit about which no verdict does.
    """

    precedence: int
    verdict: Verdict = never
    strays: Verdict = never
    otherwise: Callable[[Misfit], bool] = not_otherwise
