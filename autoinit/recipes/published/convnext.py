"""ConvNeXt's recipe."""

from __future__ import annotations

from collections.abc import Sequence

from autoinit.facts import Facts
from autoinit.recipes.published._common import usual
from autoinit.recipes.published.bert import cut_at_two
from autoinit.recipes.registry import Mark, Measured, register_recipe
from autoinit.recipes.starts import Start, constant, normal

_ALMOST_ALL = 0.9


def _mixes(parts: Sequence[Measured]) -> bool:
    """A MetaFormer's mark: its norms and skip connections make up for a scale that knows no fan.

    Nearly every weight lies beside a skip connection or has its scale taken away; at least half do the former, and at
    least one in six (the ends of branches, where the norm comes first) the latter.
    """
    normalised = [part.normalised or part.renormalised for part in parts]
    skipped_over = [part.skipped_over for part in parts]
    made_up_for = sum(map(any, zip(normalised, skipped_over, strict=True)))
    return (
        any(part.facts.is_conv for part in parts)
        and made_up_for >= _ALMOST_ALL * len(parts)
        and 2 * sum(skipped_over) >= len(parts)
        and 6 * sum(normalised) >= len(parts)
    )


@register_recipe(
    "convnext",
    source="Liu et al. 2022; facebookresearch/ConvNeXt, models/convnext.py; MetaFormers: sail-sg/metaformer",
    variants=cut_at_two,
    mark=Mark(_mixes, 8),
)
def convnext(facts: Facts) -> Start | None:
    """Every convolution and weight, head included, N(0, 0.02^2); layer scales 1e-6; biases 0, norms at identity."""
    if facts.kind == "layer_scale":
        return constant(1e-6)
    return normal(0.02) if facts.is_weight else usual(facts)
