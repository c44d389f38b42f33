"""LLaMA's recipe, as two public libraries have it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from autoinit.facts import Facts
from autoinit.recipes.published._common import usual
from autoinit.recipes.published._marks import has_depth, sees
from autoinit.recipes.registry import Mark, Measured, register_recipe
from autoinit.recipes.starts import Start, normal, truncated


def _by_depth(facts: Facts) -> tuple[float, ...]:
    """Depth by the number of blocks, or by that of the block itself, counted from 1; torchtitan's head."""
    if facts.is_head:
        return (0.02, facts.fan_in**-0.5)
    if facts.ends_branch and facts.branches > 1:
        return tuple(0.02 / math.sqrt(2 * block) for block in range(1, facts.blocks + 1))
    return (0.02,)


def _is_gated(parts: Sequence[Measured]) -> bool:
    """A gated language model: image transformers, gated or not, embed patches by a convolution."""
    return has_depth(parts) and any(part.facts.reason == "gate" for part in parts) and not sees(parts)


@register_recipe(
    "llama",
    source="transformers, modeling_llama.py; torchtitan, models/llama3 (depth_init); Megatron-LM",
    example="llama(depth='layer')",
    variants=_by_depth,
    mark=Mark(_is_gated, 1, declared="llama(depth=layer)"),
)
def llama(facts: Facts, depth: Literal["none", "layer", "model"] = "none", std: float = 0.02) -> Start | None:
    """A gated transformer with RMS norms.

    Without depth, as in transformers: weights, embedding and head N(0, 0.02^2).

    With depth, as in torchtitan:

    - weights N(0, 0.02^2)
    - the branch ends, and the half of the gated product that feeds no nonlinearity (w3): 0.02 / sqrt(2 l) in block l
      from 1 (`layer`), or 0.02 / sqrt(2 L) for all L blocks (`model`)
    - embedding N(0, 1)
    - head d^-1/2, cut at three sigma

    Norms at identity. Arguments: `depth`, `std`.
    """
    if facts.kind == "embedding":
        return normal(std if depth == "none" else 1.0)
    if not facts.is_weight:
        return usual(facts)
    if depth == "none":
        return normal(std)
    if facts.is_head:
        return truncated(facts.fan_in**-0.5, cut=3)
    scaled = facts.branch and (facts.ends_branch or facts.reason == "gate")
    return normal(std / math.sqrt(2 * (facts.block if depth == "layer" else facts.blocks)) if scaled else std)
