"""Mamba's recipe."""

from __future__ import annotations

import math

from autoinit.facts import Facts
from autoinit.recipes.published._common import torch_default, usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import ZERO, Start, constant, normal, uniform


@register_recipe("mamba", source="Gu & Dao 2023; state-spaces/mamba, models/mixer_seq_simple.py (_init_weights)")
def mamba(facts: Facts) -> Start | None:
    """A stack of selective state spaces.

    - weights and convolutions torch's default, the convolutions' biases too
    - the weight that ends a block: torch's default over sqrt(L), for L blocks of one branch
    - the weight before softplus, which gives the step sizes: U(-r^-1/2, r^-1/2), r its fan_in, as torch's default is
    - embedding N(0, 0.02^2), the tied head too; norms at identity

    - the skip past the state space (D): 1

    The state matrix and its step's bias are patterns of their constructor, and are kept.
    """
    if facts.kind == "layer_scale":
        return constant(1.0)
    if facts.kind == "embedding" or (facts.is_weight and facts.tied):
        return normal(0.02)
    if facts.kind == "bias" and (not facts.is_conv or facts.nonlinearity == "softplus"):
        return ZERO if facts.nonlinearity != "softplus" else None
    if facts.kind not in ("weight", "bias"):
        return usual(facts)
    default = torch_default(facts)
    if facts.is_weight and facts.ends_branch and default is not None:
        return uniform(math.sqrt(3 / facts.branches) * default.std)
    return default
