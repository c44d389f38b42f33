"""The spectral condition's recipe."""

from __future__ import annotations

import math

from autoinit.facts import Facts
from autoinit.recipes.published._common import unstrided_fan_out, usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, normal


@register_recipe("spectral", source="Yang, Simon & Bernstein 2023, arXiv:2310.17813, section 4 (parametrisation 1)")
def spectral(facts: Facts) -> Start | None:
    """Weights fan_in^-1/2 min(1, sqrt(fan_out / fan_in)): matrices whose spectral norm is about sqrt(out / in).

    Embedding N(0, 1); biases 0, norms at identity.
    """
    if facts.kind == "embedding" or (facts.is_weight and facts.tied):
        return normal(1.0)
    if not facts.is_weight:
        return usual(facts)
    return normal(min(1.0, math.sqrt(unstrided_fan_out(facts) / facts.fan_in)) / math.sqrt(facts.fan_in))
