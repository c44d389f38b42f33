"""BERT's recipe, the default of transformers."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.published._common import usual
from autoinit.recipes.published._marks import attends
from autoinit.recipes.registry import Mark, register_recipe
from autoinit.recipes.starts import Start, normal
from autoinit.theory.truncation import TRUNCATED_STD


def cut_at_two(_: Facts, std: float = 0.02) -> tuple[float, ...]:
    """Cut at two sigma, as in TensorFlow's original."""
    return (TRUNCATED_STD * std,)


@register_recipe(
    "bert",
    source="Devlin et al. 2019; google-research/bert, modeling.py; N(0, 0.02) is the default in transformers",
    variants=cut_at_two,
    mark=Mark(attends, 7),
)
def bert(facts: Facts, std: float = 0.02) -> Start | None:
    """Everything N(0, 0.02^2): weights, embeddings, positions, tokens, patches and heads.

    Biases 0, norms at identity. Argument: `std`.
    """
    return normal(std) if facts.kind in ("weight", "embedding", "position", "token") else usual(facts)
