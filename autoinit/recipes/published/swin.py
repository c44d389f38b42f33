"""Swin's recipe."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.published._common import torch_default, usual
from autoinit.recipes.published.bert import cut_at_two
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, normal


@register_recipe(
    "swin",
    source="Liu et al. 2021; timm's swin_transformer.py",
    variants=lambda facts: () if facts.is_conv else cut_at_two(facts),
)
def swin(facts: Facts) -> Start | None:
    """An image transformer of windows.

    - weights, head and relative bias tables N(0, 0.02^2), biases 0
    - patches torch's default, their bias too
    - positions N(0, 0.02^2); norms at identity
    """
    if facts.is_conv:
        return torch_default(facts)
    return normal(0.02) if facts.kind in ("weight", "bias_table", "position") else usual(facts)
