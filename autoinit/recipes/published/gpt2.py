"""GPT-2's recipe."""

from __future__ import annotations

import math

from autoinit.facts import Facts
from autoinit.recipes.published._common import usual
from autoinit.recipes.published._marks import has_depth
from autoinit.recipes.registry import Mark, register_recipe
from autoinit.recipes.starts import Start, normal


@register_recipe(
    "gpt2",
    source="Radford et al. 2019, section 2.3; karpathy/nanoGPT, model.py; transformers from 5.23",
    mark=Mark(has_depth, 2),
)
def gpt2(facts: Facts, std: float = 0.02) -> Start | None:
    """A transformer whose branch ends are scaled by depth.

    - weights, embeddings, positions and heads: N(0, 0.02^2)
    - the last weight of each branch: 0.02 / sqrt(N), for N branches: 2 L in L blocks of attention and MLP
    - biases 0, norms at identity

    Argument: `std`, in place of 0.02.
    """
    if facts.kind in ("weight", "embedding", "position"):
        scaled = facts.ends_branch and facts.branches > 1
        return normal(std / math.sqrt(facts.branches) if scaled else std)
    return usual(facts)
