"""T5's recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from autoinit.facts import Facts
from autoinit.recipes.published._common import usual
from autoinit.recipes.registry import Mark, Measured, register_recipe
from autoinit.recipes.starts import Start, normal

_HEAD_WIDTHS = (16, 32, 64, 128, 256)
"""What a head may have where no shapes are known."""


Head = Literal["mesh", "transformers"]


def _of_likely_widths(facts: Facts, head: Head = "mesh") -> tuple[float, ...]:
    """Keys take the scale of queries in none; where shapes do not tell a head's width any usual one is right."""
    plain = facts.fan_in**-0.5
    if facts.attention in ("query", "key") or (facts.reason == "attention" and not facts.attention):
        known = (facts.head_width,) if facts.head_width else _HEAD_WIDTHS
        widths = [each for each in known if facts.features % each == 0]
        return (plain, *(plain / math.sqrt(each) for each in widths)) if facts.attention != "key" else ()
    return (plain,) if facts.is_head and (facts.tied or head == "transformers") else ()


def _asks_softly(parts: Sequence[Measured]) -> bool:
    """Some of what attention uses is far below 1 / sqrt(fan_in).

    Half as much again as queries have; a quarter where the width of the heads is not known.
    """

    def most(facts: Facts) -> float:
        return 1.5 / math.sqrt(facts.head_width) if facts.head_width else 0.25

    attending = [part for part in parts if part.facts.reason == "attention"]
    return any(part.actual < most(part.facts) * part.facts.fan_in**-0.5 for part in attending)


@register_recipe(
    "t5",
    source="Raffel et al. 2020; tensorflow/mesh, transformer.py and attention.py; transformers' modeling_t5.py",
    variants=_of_likely_widths,
    mark=Mark(_asks_softly, 3),
)
def t5(facts: Facts, head: Head = "mesh") -> Start | None:
    """A transformer whose attention is not divided by the root of the head's width.

    - weights N(0, 1 / fan_in)
    - queries (d d_kv)^-1/2, d_kv the width of a head
    - embedding N(0, 1), also where it serves as head, whose input the model then multiplies by d^-1/2
    - a head of its own d^-1/2, as in Mesh TensorFlow, or N(0, 1), as in transformers (`t5(head=transformers)`): its
      logits start at std sqrt(d) then (google-research/t5x#1477)
    - relative bias table d^-1/2
    - biases 0, norms at identity

    The width of a head of attention is read from shapes: give example inputs where none can be guessed.

    Argument: `head`.
    """
    if facts.kind == "embedding" or (facts.is_weight and facts.tied):
        return normal(1.0)
    if facts.kind == "bias_table":
        return normal(facts.width**-0.5) if facts.width else None
    if not facts.is_weight:
        return usual(facts)
    if facts.is_head and head == "transformers":
        return normal(1.0)
    if facts.attention == "query":
        return normal((facts.fan_in * facts.head_width) ** -0.5) if facts.head_width else None
    return normal(facts.fan_in**-0.5)
