"""Fixup's recipe."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.published._common import he, usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import ZERO, Start, constant, normal


@register_recipe("fixup", source="Zhang et al. 2019 (Fixup initialization), section 3; hongyi-zhang/Fixup")
def fixup(facts: Facts) -> Start | None:
    """A residual network without norms, of L branches with m weights each.

    - weights inside branches: He's std times L^(-1 / (2 m - 2)); those that end them 0, and heads 0
    - other weights He's, fan_out counted without stride
    - biases 0, the numbers that scale branches 1
    """
    if facts.kind == "layer_scale":
        return constant(1.0)
    if not facts.is_weight:
        return usual(facts)
    if facts.is_head or (facts.ends_branch and facts.branch_weights > 1):
        return ZERO
    inside = facts.branch and facts.branch_weights > 1
    factor = facts.branches ** (-1 / (2 * facts.branch_weights - 2)) if inside else 1.0
    return normal(factor * he(facts, "fan_out" if facts.is_conv else "fan_in"))
