"""The maximal update parametrisation at another width."""

from __future__ import annotations

import math

from autoinit.facts import Facts
from autoinit.recipes.published._common import usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, normal


def _head_before_a_multiplier(facts: Facts, std: float, multiplier: float) -> tuple[float, ...]:
    """A head may keep its std where its output is divided by the multiplier; branches may end by depth."""
    if facts.is_head:
        return (std,)
    return (std / math.sqrt(multiplier * 2 * facts.blocks),) if facts.ends_branch and facts.branches > 1 else ()


@register_recipe(
    "mup",
    source="Yang et al. 2022 (Tensor Programs V), table 8",
    example="mup(0.02, 4)",
    variants=_head_before_a_multiplier,
)
def mup(facts: Facts, std: float, multiplier: float) -> Start | None:
    """A std at the base width, for a model `multiplier` times as wide.

    - hidden weights: std / sqrt(multiplier)
    - convolutions of the input: std
    - heads: std / multiplier, or std where their output is divided by the multiplier
    - biases 0, norms at identity; embeddings, which no width changes, are kept

    Arguments: `std`, `multiplier`. The learning rates that belong to it are `autoinit scaling`'s.
    """
    if not facts.is_weight:
        return usual(facts)
    if facts.is_head:
        return normal(std / multiplier)
    first = facts.is_conv and not facts.branch
    return normal(std if first else std / math.sqrt(multiplier))
