"""CLIP's recipe."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.published._common import usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, normal


@register_recipe("clip", source="Radford et al. 2021; openai/CLIP, clip/model.py (initialize_parameters)")
def clip(facts: Facts) -> Start | None:
    """A text transformer.

    - queries, keys and values d^-1/2, the first weight of an MLP (2 d)^-1/2
    - branch ends d^-1/2 (2 L)^-1/2, for L blocks
    - embedding N(0, 0.02^2), positions N(0, 0.01^2)
    - the projection to the common space d^-1/2
    - biases 0, norms at identity
    """
    if facts.kind in ("embedding", "position"):
        return normal(0.02 if facts.kind == "embedding" else 0.01)
    if not facts.is_weight:
        return usual(facts)
    if facts.ends_branch and facts.branches > 1:
        return normal((facts.width * facts.branches) ** -0.5)
    inside_mlp = facts.branch and not facts.branch_attends
    return normal((facts.fan_in * (2 if inside_mlp else 1)) ** -0.5)
