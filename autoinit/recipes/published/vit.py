"""The recipes of image transformers."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.published._common import glorot, torch_default, usual
from autoinit.recipes.published._marks import sees
from autoinit.recipes.registry import Mark, register_recipe
from autoinit.recipes.starts import Start, normal
from autoinit.theory.truncation import TRUNCATED_STD


def _of_patches(facts: Facts) -> tuple[float, ...]:
    """What public code has for patches: 0.02, LeCun's, both cut at two sigma; and 0.02 cut at two sigma elsewhere."""
    if not facts.is_conv:
        return (TRUNCATED_STD * 0.02,)
    lecun = facts.fan_in**-0.5
    default = torch_default(facts)
    return (0.02, TRUNCATED_STD * 0.02, lecun, TRUNCATED_STD * lecun, *((default.std,) if default else ()))


@register_recipe(
    "vit",
    source="Touvron et al. 2021 (DeiT); init_weights_vit_timm in timm's vision_transformer.py",
    variants=_of_patches,
    mark=Mark(sees, 4),
)
def vit(facts: Facts) -> Start | None:
    """An image transformer as timm has it.

    - weights and head N(0, 0.02^2), biases 0
    - convolutions, patches above all: torch's default, their biases too
    - positions N(0, 0.02^2), tokens N(0, 1e-6^2)
    - norms at identity
    """
    if facts.is_conv:
        return torch_default(facts)
    if facts.kind == "token":
        return normal(1e-6)
    return normal(0.02) if facts.kind in ("weight", "position") else usual(facts)


@register_recipe(
    "deit",
    source="Touvron et al. 2021; timm's deit.py (VisionTransformerDistilled)",
    variants=_of_patches,
)
def deit(facts: Facts) -> Start | None:
    """As `vit`, with a second token, for distillation, N(0, 0.02^2)."""
    return normal(0.02) if facts.kind == "token" and facts.order == 1 else vit(facts)


@register_recipe("vit_moco", source="Chen et al. 2021 (MoCo v3); init_weights_vit_moco in timm's vision_transformer.py")
def vit_moco(facts: Facts) -> Start | None:
    """An image transformer with Xavier's uniform weights, queries, keys and values each on its own.

    Patches torch's default; positions 0.02, tokens 1e-6; biases 0, norms at identity.
    """
    return glorot(facts) if facts.is_weight and not facts.is_conv else vit(facts)
