"""The recipe of diffusion transformers."""

from __future__ import annotations

from collections.abc import Sequence

from autoinit.facts import Facts
from autoinit.recipes.published._common import glorot_flat, he, usual
from autoinit.recipes.published._marks import attends
from autoinit.recipes.registry import Mark, Measured, register_recipe
from autoinit.recipes.starts import ZERO, Start, normal


def _flat(facts: Facts) -> tuple[float, ...]:
    beside = not (facts.branch or facts.is_conv or facts.is_head)
    return (he(facts, "fan_avg", 1.0), glorot_flat(facts).std, *((0.02,) if beside else ()))


def _conditioned(parts: Sequence[Measured]) -> bool:
    """Beside attention a timestep MLP whose weights are at 0.02, far from Xavier's."""
    facts = [part.facts for part in parts if _is_beside(part) and abs(part.actual - 0.02) < 0.001]
    return attends(parts) and sum(min(he(each, "fan_avg", 1.0), glorot_flat(each).std) > 0.025 for each in facts) >= 2


def _is_beside(part: Measured) -> bool:
    return not (part.skipped_over or part.facts.is_conv or part.facts.is_head)


@register_recipe(
    "dit",
    source="Peebles & Xie 2023, facebookresearch/DiT, models.py (initialize_weights)",
    variants=_flat,
    mark=Mark(_conditioned, 10, uniform=True),
)
def dit(facts: Facts) -> Start | None:
    """A transformer that denoises.

    - weights Xavier's uniform, fused projections and patches as one flat matrix; biases 0
    - what gives a block's shifts, scales and gates (adaLN): 0, and the head: 0
    - the MLP that embeds the time step, and embeddings: N(0, 0.02^2)
    - norms at identity
    """
    if facts.kind == "embedding":
        return normal(0.02)
    if not facts.is_weight:
        return usual(facts)
    if facts.is_head or facts.modulates:
        return ZERO
    beside = not (facts.branch or facts.is_conv)
    return normal(0.02) if beside else glorot_flat(facts)
