"""The recipe of the first image transformer."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.published._common import glorot_flat, he, torch_default, usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import ZERO, Start, normal, truncated
from autoinit.theory.truncation import TRUNCATED_STD


def _by_torchvision(facts: Facts) -> tuple[float, ...]:
    """Matrices each on its own or as they are held; torchvision leaves the output projection at the default."""
    lecun = facts.fan_in**-0.5
    if facts.is_conv:
        return (TRUNCATED_STD * lecun,)
    default = torch_default(facts)
    tanh = (he(facts, "fan_avg", 5 / 3),) if facts.nonlinearity == "tanh" else ()
    return (he(facts, "fan_avg", 1.0), glorot_flat(facts).std, *tanh, *((default.std,) if default else ()))


@register_recipe(
    "vit_jax",
    source="Dosovitskiy et al. 2021; timm's and torchvision's vision_transformer.py",
    variants=_by_torchvision,
)
def vit_jax(facts: Facts) -> Start | None:
    """The image transformer of Flax, as timm has it.

    - weights Xavier's uniform, fused projections as one matrix
    - patches fan_in^-1/2, cut at two sigma, and that after the cut
    - head 0
    - positions N(0, 0.02^2), tokens N(0, 1e-6^2)
    - biases of MLPs N(0, 1e-6^2), others 0; norms at identity
    """
    if facts.kind == "bias" and facts.branch and not facts.branch_attends:
        return normal(1e-6)
    if facts.kind in ("token", "position"):
        return normal(1e-6 if facts.kind == "token" else 0.02)
    if not facts.is_weight:
        return usual(facts)
    if facts.is_head:
        return ZERO
    return truncated(facts.fan_in**-0.5, corrected=True) if facts.is_conv else glorot_flat(facts)
