"""What torch's own constructors leave."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.published._common import torch_default
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import Start, uniform


def _of_a_tied_head(facts: Facts) -> tuple[float, ...]:
    """A table that serves as head may be the head's, not the embedding's."""
    return (uniform(facts.weight_shape[1] ** -0.5).std,) if facts.tied and facts.is_weight else ()


@register_recipe("torch", source="reset_parameters of torch.nn's layers (torch 2)", variants=_of_a_tied_head)
def torch(facts: Facts) -> Start | None:
    """What the constructors of torch.nn leave in place.

    - Linear, convolutions: U(-1/sqrt(n), 1/sqrt(n)), n = shape[1] times the kernel's area; std 1 / sqrt(3 n). So are
      their biases
    - Embedding: N(0, 1), a table that serves as head included
    - MultiheadAttention: the packed projection Xavier's uniform over the whole of it, std 1 / sqrt(2 d); biases 0
    - RNN, LSTM, GRU: U(-1/sqrt(h), 1/sqrt(h)), h the hidden size
    - PReLU 0.25; norms at identity

    Bare parameters have no default and are kept.
    """
    return torch_default(facts)
