"""nanochat's recipe."""

from __future__ import annotations

import math

from autoinit.facts import Facts
from autoinit.recipes.published._common import usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import ZERO, Start, normal, uniform


@register_recipe("nanochat", source="karpathy/nanochat, nanochat/gpt.py (init_weights)")
def nanochat(facts: Facts) -> Start | None:
    """A transformer whose branches start at nothing.

    - weights uniform of std d^-1/2; the first of an MLP 0.4 of that
    - branch ends 0
    - embedding N(0, 0.8^2), head N(0, 0.001^2)
    - norms at identity, where they have gains
    """
    if facts.kind == "embedding":
        return normal(0.8)
    if not facts.is_weight:
        return usual(facts)
    if facts.ends_branch:
        return ZERO
    if not facts.branch:
        return normal(0.001)
    return uniform((1.0 if facts.branch_attends else 0.4) * math.sqrt(3 / facts.fan_in))
