"""SIREN's recipe."""

from __future__ import annotations

import math

from autoinit.facts import Facts
from autoinit.recipes.published._common import torch_default, usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, uniform


@register_recipe("siren", source="Sitzmann et al. 2020, section 3.2 and supplement 1; vsitzmann/siren")
def siren(facts: Facts, omega: float = 30.0) -> Start | None:
    """A network of sines: the first weight U(-1/n, 1/n), others U(-b, b) with b = sqrt(6 / n) / omega; n is fan_in.

    Biases torch's default. Argument: `omega`, the frequency that multiplies each sine's argument.
    """
    if facts.kind == "bias":
        return torch_default(facts)
    if not facts.is_weight:
        return usual(facts)
    return uniform(1 / facts.fan_in if facts.reads_input else math.sqrt(6 / facts.fan_in) / omega)
