"""The recipe of MLP-Mixers."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.published._common import glorot, usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import ZERO, Start, normal, truncated


@register_recipe("mixer", source="Tolstikhin et al. 2021; timm's mlp_mixer.py (_init_weights)")
def mixer(facts: Facts) -> Start | None:
    """Xavier's uniform weights; patches fan_in^-1/2 cut at two sigma, and that after the cut; head 0.

    Biases of MLPs N(0, 1e-6^2), others 0; norms at identity.
    """
    if facts.kind == "bias" and facts.branch:
        return normal(1e-6)
    if not facts.is_weight:
        return usual(facts)
    if facts.is_head:
        return ZERO
    return truncated(facts.fan_in**-0.5, corrected=True) if facts.is_conv else glorot(facts)
