"""One truncated normal distribution for all weights."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.published._common import usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, truncated
from autoinit.theory.truncation import TRUNCATED_STD


def _cut_at_two(facts: Facts, std: float) -> tuple[float, ...]:
    return (TRUNCATED_STD * std,) if facts.is_weight else ()


@register_recipe(
    "trunc_normal",
    source="torch.nn.init.trunc_normal_; tf.initializers.TruncatedNormal",
    example="trunc_normal(0.02)",
    variants=_cut_at_two,
)
def trunc_normal(facts: Facts, std: float) -> Start | None:
    """Every weight from a normal distribution cut at two sigma, of std `std`; biases 0, norms at identity.

    Cut at absolute bounds far away, as torch's function does by default, leaves `std`; at two sigma 0.88 of it. Both
    are right; what is written has `std` itself after the cut.

    Argument: `std`.
    """
    return truncated(std, corrected=True) if facts.is_weight else usual(facts)
