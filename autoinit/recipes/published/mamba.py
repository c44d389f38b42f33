"""Mamba's recipe."""

from __future__ import annotations

import math

from autoinit.facts import Facts
from autoinit.recipes.published._common import torch_default, usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import ZERO, Start, constant, log_counts, normal, step_bias, uniform


@register_recipe("mamba", source="Gu & Dao 2023; state-spaces/mamba, models/mixer_seq_simple.py (_init_weights)")
def mamba(facts: Facts) -> Start | None:
    """A stack of selective state spaces.

    - weights and convolutions torch's default, the convolutions' biases too
    - the weight that ends a block: torch's default over sqrt(L), for L blocks of one branch
    - the weight before softplus, which gives the step sizes: U(-r^-1/2, r^-1/2), r its fan_in, as torch's default is
    - embedding N(0, 0.02^2), the tied head too; norms at identity
    - the skip past the state space (D): 1
    - the state matrix (A_log): log 1, log 2, ... for the states of each channel
    - the bias of the step sizes: what softplus makes log-uniform of, between 0.001 and 0.1
    """
    if facts.kind == "layer_scale":
        return constant(1.0)
    if facts.kind == "decay":
        return log_counts(facts.shape[-1]) if len(facts.shape) > 1 else None
    if facts.kind == "bias" and facts.nonlinearity == "softplus":
        return step_bias()
    if facts.kind == "embedding" or (facts.is_weight and facts.tied):
        return normal(0.02)
    if facts.kind == "bias" and not facts.is_conv:
        return ZERO
    if facts.kind not in ("weight", "bias"):
        return usual(facts)
    default = torch_default(facts)
    if facts.is_weight and facts.ends_branch and default is not None:
        return uniform(math.sqrt(3 / facts.branches) * default.std)
    return default
