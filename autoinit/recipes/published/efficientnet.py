"""The recipes of EfficientNets and MobileNets."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.published._common import he, usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, normal, uniform


@register_recipe("efficientnet", source="Tan & Le 2019; google's tpu repository; timm's _efficientnet_builder.py")
def efficientnet(facts: Facts) -> Start | None:
    """Convolutions sqrt(2 / fan_out), groups counted, the stride not; heads U(-1/sqrt(n), 1/sqrt(n)) for n outputs.

    Biases 0, norms at identity. (torchvision's own leaves the groups out, so that its depthwise weights are 5 to 50
    times too small.)
    """
    if not facts.is_weight:
        return usual(facts)
    return normal(he(facts, "fan_out")) if facts.is_conv else uniform(facts.fan_out**-0.5)


@register_recipe(
    "mobilenet",
    source="Howard et al. 2019; timm's _efficientnet_builder.py; torchvision's mobilenetv2.py for a head of 0.01",
    variants=lambda facts: () if facts.is_conv else (0.01,),
)
def mobilenet(facts: Facts) -> Start | None:
    """As `efficientnet`; weights that are no convolutions may be N(0, 0.01^2), as torchvision has them."""
    return efficientnet(facts)
