"""BEiT's recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence

from autoinit.facts import Facts
from autoinit.recipes.published._common import torch_default, usual
from autoinit.recipes.published._marks import attends, has_depth
from autoinit.recipes.registry import Mark, Measured, register_recipe
from autoinit.recipes.starts import ZERO, Start, constant, normal
from autoinit.theory.truncation import TRUNCATED_STD

_MOST_BLOCKS = 64
"""As many as the deepest image transformer that is published, EVA-02's largest, has."""


def _at_any_depth(facts: Facts) -> tuple[float, ...]:
    """Blocks count through all stages of a model, branches within one: so l is any that a model may have."""
    if facts.ends_branch and facts.branches > 1:
        return tuple(0.02 / math.sqrt(2 * block) for block in range(1, _MOST_BLOCKS + 1))
    default = torch_default(facts)
    patches = ((default.std,) if default else ()) + (facts.fan_in**-0.5, TRUNCATED_STD * facts.fan_in**-0.5)
    return (0.02, TRUNCATED_STD * 0.02, *(patches if facts.is_conv else ()))


def _attends_by_depth(parts: Sequence[Measured]) -> bool:
    return attends(parts) and has_depth(parts)


@register_recipe(
    "beit",
    source="Bao et al. 2022, Pre-training setup; microsoft/unilm, beit/modeling_finetune.py; timm's beit.py",
    variants=_at_any_depth,
    mark=Mark(_attends_by_depth, 6),
)
def beit(facts: Facts) -> Start | None:
    """An image transformer whose branch ends are scaled by the depth of their block.

    - weights N(0, 0.02^2), biases 0; patches torch's default, their bias too
    - branch ends 0.02 / sqrt(2 l) in block l from 1
    - head a thousandth of 0.02
    - tokens and positions N(0, 0.02^2), relative bias tables 0, layer scales 0.1
    - norms at identity
    """
    if facts.is_conv:
        return torch_default(facts)
    if facts.kind in ("bias_table", "layer_scale"):
        return ZERO if facts.kind == "bias_table" else constant(0.1)
    if facts.kind in ("token", "position"):
        return normal(0.02)
    if not facts.is_weight:
        return usual(facts)
    if facts.is_head:
        return normal(0.02 / 1000)
    return normal(0.02 / math.sqrt(2 * facts.block) if facts.ends_branch and facts.branches > 1 else 0.02)
