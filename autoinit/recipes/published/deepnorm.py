"""DeepNorm's recipe."""

from __future__ import annotations

from typing import Literal

from autoinit.facts import Facts
from autoinit.recipes.published._common import he, usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, normal


@register_recipe("deepnorm", source="Wang et al. 2022, figure 2", example="deepnorm(layers=12)")
def deepnorm(facts: Facts, layers: int, stack: Literal["decoder", "encoder", "both"] = "decoder") -> Start | None:
    """A post-norm transformer that is deep.

    Xavier's normal distribution with gain (8 N)^-1/4 for values, outputs and MLPs (for the decoder of an
    encoder-decoder (12 N)^-1/4), with gain 1 for queries and keys. Biases 0, norms at identity.

    The forward must multiply its shortcuts by (2 N)^1/4 (3 N of an encoder-decoder's decoder): the recipe is of no use
    without.

    Arguments: `layers`, the N of the stack; `stack`, one alone or (`both`) the decoder of an encoder-decoder.
    """
    if not facts.is_weight:
        return usual(facts)
    if not facts.branch or facts.attention in ("query", "key"):
        return normal(he(facts, "fan_avg", 1.0)) if facts.branch else None
    return normal(he(facts, "fan_avg", ((12 if stack == "both" else 8) * layers) ** -0.25))
