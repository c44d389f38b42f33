"""OLMo's recipe."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.published._common import usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, truncated


@register_recipe(
    "olmo", source="Groeneveld et al. 2024; allenai/OLMo, olmo/model.py (reset_parameters, InitFnType.mitchell)"
)
def olmo(facts: Facts) -> Start | None:
    """A transformer whose stds follow from the sizes of the weights and the depth of the block.

    - weights: fan_in^-1/2, cut at three sigma
    - branch ends: (2 l fan_in)^-1/2 in block l from 1, cut likewise
    - embedding, learned positions and head: d^-1/2, cut likewise
    - biases 0, norms at identity
    """
    if facts.kind in ("embedding", "position"):
        return truncated(facts.features**-0.5, cut=3)
    if not facts.is_weight:
        return usual(facts)
    scaled = facts.ends_branch and facts.branches > 1
    return truncated((facts.fan_in * (2 * facts.block if scaled else 1)) ** -0.5, cut=3)
