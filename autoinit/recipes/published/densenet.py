"""DenseNet's recipe."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.published._common import he, torch_default, usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, normal


@register_recipe("densenet", source="Huang et al. 2017; torchvision's densenet.py")
def densenet(facts: Facts) -> Start | None:
    """Convolutions sqrt(2 / fan_in); other weights torch's default, but with biases of 0; norms at identity."""
    if not facts.is_weight:
        return usual(facts)
    return normal(he(facts)) if facts.is_conv else torch_default(facts)
