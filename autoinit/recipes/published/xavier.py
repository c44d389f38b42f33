"""Xavier's initialiser."""

from __future__ import annotations

from typing import Literal

from autoinit.facts import Facts
from autoinit.recipes.published._common import glorot, he, usual
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, normal


def _with_stride_or_gain_of_tanh(facts: Facts) -> tuple[float, ...]:
    gains = (1.0, 5 / 3) if facts.nonlinearity == "tanh" else (1.0,)
    return tuple(he(facts, "fan_avg", gain, strided=strided) for gain in gains for strided in (False, True))


@register_recipe("xavier", source="Glorot & Bengio 2010, eq. 12 and 16", variants=_with_stride_or_gain_of_tanh)
def xavier(facts: Facts, distribution: Literal["uniform", "normal"] = "uniform") -> Start | None:
    """Every weight sqrt(2 / (fan_in + fan_out)); biases 0, norms at identity. Before tanh a gain of 5/3 is as good.

    Argument: `distribution`.
    """
    if not facts.is_weight:
        return usual(facts)
    return glorot(facts) if distribution == "uniform" else normal(he(facts, "fan_avg", 1.0))
