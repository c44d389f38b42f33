"""He's initialiser."""

from __future__ import annotations

import math
from typing import Literal

from autoinit.facts import Facts
from autoinit.recipes.published._common import he, usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, normal, uniform
from autoinit.theory.gains import gain


def _strided(
    facts: Facts,
    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_in",
    nonlinearity: str = "relu",
    slope: float = 0.01,
) -> tuple[float, ...]:
    return (he(facts, mode, _gain(nonlinearity, slope), strided=True),) if facts.is_weight else ()


def _gain(nonlinearity: str, slope: float) -> float:
    return gain(nonlinearity, {"negative_slope": slope} if nonlinearity == "leaky_relu" else None)


@register_recipe("kaiming", source="He et al. 2015, eq. 10 and 14", example="kaiming(fan_out, relu)", variants=_strided)
def kaiming(
    facts: Facts,
    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_in",
    nonlinearity: str = "relu",
    slope: float = 0.01,
    distribution: Literal["normal", "uniform"] = "normal",
) -> Start | None:
    """Every weight gain / sqrt(fan); biases 0, norms at identity.

    Arguments: `mode`, `nonlinearity` (any that `autoinit.gain` knows), `slope` (of leaky_relu), `distribution`. The
    fans are true ones; fan_out counts groups, not the stride.
    """
    if not facts.is_weight:
        return usual(facts)
    std = he(facts, mode, _gain(nonlinearity, slope))
    return normal(std) if distribution == "normal" else uniform(math.sqrt(3) * std)
