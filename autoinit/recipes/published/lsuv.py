"""Layer-sequential unit variance, by its bounds."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start


def _near_unit_variance(facts: Facts) -> tuple[float, float] | None:
    """Scales depend on the data: 1 / sqrt(fan_in q), q the second moment of the layer's input.

    After an activation of a unit Gaussian q is 1 (linear), 0.5 (relu), 0.36 (silu); pooling moves it on: max-pooling
    up to 4, averaging down to 0.16 (relu's mean, squared). So all from 0.5 to 2.5 times 1 / sqrt(fan_in) will do.
    """
    unit = facts.fan_in**-0.5
    return (0.5 * unit, 2.5 * unit) if facts.is_weight else None


@register_recipe(
    "lsuv",
    source="Mishkin & Matas 2016, algorithm 1",
    within=_near_unit_variance,
    writes='its scales follow from data: use method="data", which does what it does',
)
def lsuv(_: Facts) -> Start | None:
    """Orthogonal weights that are scaled on a batch until each layer's output has variance 1: for `check` alone.

    Any std from 0.5 to 2.5 times fan_in^-1/2 is right.
    """
    return None
