"""Orthogonal matrices."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes import starts
from autoinit.recipes.published._common import usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start


@register_recipe("orthogonal", source="Saxe et al. 2014, section 3", example="orthogonal(1.4142)")
def orthogonal(facts: Facts, gain: float = 1.0) -> Start | None:
    """Every weight part of a random orthogonal matrix, times `gain`; biases 0, norms at identity.

    Argument: `gain`.
    """
    if not facts.is_weight:
        return usual(facts)
    return starts.orthogonal(facts.features, facts.size("i") * facts.size("k"), gain)
