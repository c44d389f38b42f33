"""nnU-Net's recipe."""

from __future__ import annotations

import math

from autoinit.facts import Facts
from autoinit.recipes.published._common import he
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import ZERO, Start, normal


def _by_shape(facts: Facts) -> tuple[float, ...]:
    """Torch reads the fan_in of a transposed convolution from the other axis."""
    by_shape = facts.weight_shape[1] * facts.size("k") if len(facts.weight_shape) > 1 else facts.fan_in
    return (math.sqrt(2 / (1 + 0.01**2) / by_shape),)


@register_recipe(
    "nnunet", source="Isensee et al. 2021; MIC-DKFZ/dynamic-network-architectures, InitWeights_He", variants=_by_shape
)
def nnunet(facts: Facts) -> Start | None:
    """Convolutions, transposed ones too, sqrt(2 / (1 + 0.01^2) / fan_in); biases 0. Other parameters are kept."""
    if facts.kind == "bias" and facts.is_conv:
        return ZERO
    return normal(he(facts, gain=math.sqrt(2 / (1 + 0.01**2)))) if facts.is_weight and facts.is_conv else None
