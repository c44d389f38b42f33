"""DCGAN's recipe."""

from __future__ import annotations

from collections.abc import Sequence

from autoinit.facts import Facts
from autoinit.recipes.published._common import usual
from autoinit.recipes.registry import Mark, Measured, register_recipe
from autoinit.recipes.starts import Start, normal


def _paints(parts: Sequence[Measured]) -> bool:
    """Convolutions alone, transposed ones among them."""
    transposed = any(part.facts.layout.transposed for part in parts)
    return transposed and all(part.facts.is_conv for part in parts)


@register_recipe(
    "dcgan",
    source="Radford et al. 2016, section 4; pytorch/examples, dcgan/main.py, for norms",
    mark=Mark(_paints, 9),
)
def dcgan(facts: Facts) -> Start | None:
    """Every weight N(0, 0.02^2); gains of norms N(1, 0.02^2), shifts and biases 0."""
    if facts.kind == "norm_gain":
        return normal(0.02, facts.neutral)
    return normal(0.02) if facts.is_weight else usual(facts)
