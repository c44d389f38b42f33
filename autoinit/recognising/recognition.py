"""Recognition: which recipes fit a weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoinit.recognising.recipes import Recipe

if TYPE_CHECKING:
    from autoinit.plans import LayerPlan
    from autoinit.recognising.portrait import Portrait, Rows

NAMED = 3
"""How many recipes are told by name."""


@dataclass(frozen=True)
class Recognition:
    """What produced some rows of a weight, as far as their values can tell.

    family: the most likely distribution. std: the root mean square of the elements. recipes: all that fit, most
    plausible first; empty when nothing does.
    """

    family: str
    std: float
    recipes: tuple[Recipe, ...]

    def __str__(self) -> str:
        if not self.recipes:
            return (
                f"unknown ({self.family}, std {self.std:.3g})"
                if self.family != "unknown"
                else (f"unknown (std {self.std:.3g})")
            )
        told = [recipe.name for recipe in self.recipes[:NAMED]]
        more = len(self.recipes) - len(told)
        return " or ".join([*told, f"{more} more"] if more else told)


def recognise(portrait: Portrait, layer: LayerPlan, rows: Rows = ()) -> Recognition:
    """Names the recipes that fit a weight, or some rows of it.

    Args:
        portrait: of the weight.
        layer: its plan: operation, axes, fans and gain.
        rows: half-open runs of its output features; the whole without them.
    """
    raise NotImplementedError
