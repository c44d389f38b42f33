"""The recipe of policy gradients."""

from __future__ import annotations

import math

from autoinit.facts import Facts
from autoinit.recipes.published._common import usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, orthogonal


@register_recipe("rl", source="Huang et al. 2022, The 37 implementation details of PPO, detail 2; openai/baselines")
def rl(facts: Facts, policy: float = 0.01, value: float = 1.0) -> Start | None:
    """Orthogonal weights with gain sqrt(2), a policy's head with 0.01, a value's with 1; biases 0.

    A head of one output is a value's. Arguments: `policy`, `value`: the gains of heads.
    """
    if not facts.is_weight:
        return usual(facts)
    gain = math.sqrt(2) if not facts.is_head else value if facts.features == 1 else policy
    return orthogonal(facts.features, facts.size("i") * facts.size("k"), gain)
