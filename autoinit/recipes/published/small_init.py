"""Small initialisation, with branch ends after Wang."""

from __future__ import annotations

import math

from autoinit.facts import Facts
from autoinit.recipes.published._common import usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, normal


@register_recipe("small_init", source="Nguyen & Salazar 2019, section 2.2; EleutherAI/gpt-neox, init_functions.py")
def small_init(facts: Facts) -> Start | None:
    """Weights N(0, 2 / (5 d)), branch ends N(0, (2 / (L sqrt d))^2) for L blocks, d the model's width.

    Biases 0, norms at identity; embeddings are kept.
    """
    if not facts.is_weight or not (facts.width or facts.fan_in):
        return usual(facts)
    width = facts.width or facts.fan_in
    ends = facts.ends_branch and facts.branches > 1
    return normal(2 / (facts.blocks * math.sqrt(width)) if ends else math.sqrt(2 / (5 * width)))
