"""U-Net's recipe."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.published._common import he, usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, normal


@register_recipe("unet", source="Ronneberger et al. 2015, section 3")
def unet(facts: Facts) -> Start | None:
    """Every weight N(0, 2 / n), n the numbers that one neuron sums; biases 0, norms at identity."""
    return normal(he(facts)) if facts.is_weight else usual(facts)
