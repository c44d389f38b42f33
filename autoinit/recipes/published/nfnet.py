"""The recipe of networks without norms."""

from __future__ import annotations

import math
from collections.abc import Sequence

from autoinit.facts import Facts
from autoinit.recipes.published._common import usual
from autoinit.recipes.registry import Mark, Measured, register_recipe
from autoinit.recipes.starts import ZERO, Start, normal


def _standardises(parts: Sequence[Measured]) -> bool:
    """At least half of the weights are standardised: their mean is taken off, which no spectral norm does."""
    return 2 * sum(part.facts.standardised and part.centred for part in parts) >= len(parts)


@register_recipe(
    "nfnet",
    source="Brock et al. 2021; deepmind-research, nfnets/nfnet.py; timm's nfnet.py",
    within=lambda facts: (0.0, math.inf) if facts.standardised else None,
    mark=Mark(_standardises, 11),
)
def nfnet(facts: Facts) -> Start | None:
    """Weights N(0, 1 / fan_in), of any scale where they are standardised; head N(0, 0.01^2).

    The number that scales a branch 0; gains of standardised weights 1, biases 0.
    """
    if facts.kind == "layer_scale" and facts.shape in ((), (1,)):
        return ZERO
    if not facts.is_weight:
        return usual(facts)
    return normal(0.01 if facts.is_head else facts.fan_in**-0.5)
