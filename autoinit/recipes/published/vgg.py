"""VGG's recipe."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.published._common import he, usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, normal


@register_recipe("vgg", source="torchvision's vgg.py; He et al. 2015, eq. 14, in place of Simonyan & Zisserman 2015")
def vgg(facts: Facts) -> Start | None:
    """Convolutions sqrt(2 / fan_out), groups counted, the stride not; other weights N(0, 0.01^2); biases 0."""
    if not facts.is_weight:
        return usual(facts)
    return normal(he(facts, "fan_out") if facts.is_conv else 0.01)
