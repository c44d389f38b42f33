"""The recipe of pyramid transformers."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.published._common import he, usual
from autoinit.recipes.published._marks import sees
from autoinit.recipes.published.bert import cut_at_two
from autoinit.recipes.registry import Mark, register_recipe
from autoinit.recipes.starts import Start, normal


@register_recipe(
    "pvt",
    source="Wang et al. 2022 (PVT v2), whai362/PVT, pvt_v2.py (_init_weights); Chu et al. 2021 (Twins)",
    variants=lambda facts: () if facts.is_conv else cut_at_two(facts),
    mark=Mark(sees, 5),
)
def pvt(facts: Facts) -> Start | None:
    """Weights and tables N(0, 0.02^2); convolutions sqrt(2 / fan_out), groups counted, the stride not.

    Biases 0, norms at identity.
    """
    if facts.is_weight and facts.is_conv:
        return normal(he(facts, "fan_out"))
    return normal(0.02) if facts.kind in ("weight", "position", "token") else usual(facts)
