"""One uniform distribution for all weights."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes import starts
from autoinit.recipes.published._common import usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start


@register_recipe("uniform", source="torch.nn.init.uniform_", example="uniform(0.05)")
def uniform(facts: Facts, bound: float) -> Start | None:
    """Every weight U(-bound, bound); biases 0, norms at identity.

    Argument: `bound`.
    """
    return starts.uniform(bound) if facts.is_weight else usual(facts)
