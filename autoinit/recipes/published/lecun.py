"""LeCun's initialiser."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.published._common import he, usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, normal


@register_recipe("lecun", source="LeCun et al. 1998, Efficient BackProp, section 4.6")
def lecun(facts: Facts) -> Start | None:
    """Every weight N(0, 1 / fan_in); biases 0, norms at identity."""
    return normal(he(facts, gain=1.0)) if facts.is_weight else usual(facts)
