"""ReZero's recipe."""

from __future__ import annotations

import math

from autoinit.facts import Facts
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import ZERO, Start


@register_recipe("rezero", source="Bachlechner et al. 2020, eq. 1; majumderb/rezero, rezero/transformer/rztx.py")
def rezero(facts: Facts) -> Start | None:
    """The number that scales a residual branch starts at 0, also where several branches share it.

    All else is kept: start it as you like.
    """
    return ZERO if facts.kind == "layer_scale" and math.prod(facts.shape) == 1 else None
