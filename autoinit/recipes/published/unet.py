"""U-Net's recipe."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.published._common import he, usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, normal


@register_recipe("unet", source="Ronneberger et al. 2015, section 3, after He et al. 2015")
def unet(facts: Facts) -> Start | None:
    """Every weight N(0, 2 / n), n the incoming nodes of one neuron; biases 0, norms at identity.

    So a 3x3 convolution of 64 channels has n = 576, as in the paper; an up-convolution of 2x2 and stride 2 has n = 64.
    """
    return normal(he(facts)) if facts.is_weight else usual(facts)
