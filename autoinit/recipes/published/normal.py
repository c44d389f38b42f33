"""One normal distribution for all weights."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes import starts
from autoinit.recipes.published._common import usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start


@register_recipe("normal", source="torch.nn.init.normal_", example="normal(0.02)")
def normal(facts: Facts, std: float) -> Start | None:
    """Every weight N(0, std^2); biases 0, norms at identity. Embeddings and positions are kept.

    Argument: `std`.
    """
    return starts.normal(std) if facts.is_weight else usual(facts)
