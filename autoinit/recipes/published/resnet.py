"""The recipe of residual networks."""

from __future__ import annotations

import math

from autoinit.facts import Facts
from autoinit.recipes.published._common import he, torch_default, usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import ZERO, Start, normal


def _heads(facts: Facts) -> tuple[float, ...]:
    """A head of 0.01 (Goyal et al. 2017, 5.1), LeCun's or He's; a stride that counts in the fan_out of convolutions."""
    if facts.is_conv:
        return () if facts.layout.transposed else (math.sqrt(2 / facts.fan_out),)
    return (0.01, he(facts, gain=1.0), he(facts))


@register_recipe(
    "resnet", source="He et al. 2015, eq. 14; torchvision's and timm's resnet.py", example="resnet", variants=_heads
)
def resnet(facts: Facts, zero_init: bool = False) -> Start | None:
    """Convolutions sqrt(2 / fan_out), groups counted, the stride not; other weights torch's default.

    Biases of convolutions 0, of other weights torch's default; norms at identity.

    Argument: `zero_init`: the gain of the norm that ends a residual branch is 0, timm's default (Goyal et al. 2017,
    5.1).
    """
    if facts.kind == "norm_gain" and facts.ends_branch and zero_init:
        return ZERO
    if facts.is_conv:
        return normal(he(facts, "fan_out")) if facts.is_weight else ZERO
    return torch_default(facts) if facts.kind in ("weight", "bias") else usual(facts)
