"""StyleGAN2's recipe."""

from __future__ import annotations

import math

from autoinit.facts import Facts
from autoinit.recipes.published._common import usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import ZERO, Start, constant, normal


@register_recipe(
    "stylegan2",
    source="Karras et al. 2018, section 4.1; Karras et al. 2020, appendix B; NVlabs/stylegan2-ada-pytorch, networks.py",
)
def stylegan2(facts: Facts) -> Start | None:
    """Equalised learning rates: layers multiply their weights by 1 / sqrt(fan_in) as they run.

    - weights N(0, 1), over the layer's learning-rate multiplier: 100 in a mapping network of c = 0.01, whose layers
      multiply by c / sqrt(fan_in). On which side the number stands, of the weight, its input or its style, does not
      matter
    - demodulated weights N(0, 1)
    - weights that nothing multiplies N(0, 1 / fan_in), which is the same function
    - biases of styles 1, all others 0; strengths of noise 0
    - the constant that a generator starts from N(0, 1)
    """
    if facts.kind == "learned_input":
        return normal(1.0)
    if facts.kind == "bias":
        return constant(1.0) if facts.is_style or facts.reason in ("gate", "mixed") else ZERO
    if facts.is_weight:
        scale = facts.runtime_gain * math.sqrt(facts.size("i") * facts.size("k"))
        return normal(1 / scale if scale else 1.0)
    if facts.kind == "position" or math.prod(facts.shape) == 1:
        return ZERO
    return usual(facts)
