"""LoRA's recipe."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import ZERO, Start, uniform


@register_recipe("lora", source="Hu et al. 2022, section 4.1; microsoft/LoRA, loralib/layers.py (reset_parameters)")
def lora(facts: Facts) -> Start | None:
    """Low-rank additions W x + B A x: A as torch starts a linear layer, U(-fan_in^-1/2, fan_in^-1/2), B at 0.

    The additions are found by the graph: A narrows what W reads too, and B gives what is added to W's output. All else
    is kept.
    """
    if facts.low_rank == "up":
        return ZERO
    return uniform(facts.fan_in**-0.5) if facts.low_rank == "down" and facts.is_weight else None
