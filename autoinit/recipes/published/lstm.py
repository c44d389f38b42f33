"""The recipe of recurrent networks."""

from __future__ import annotations

from autoinit.facts import Facts
from autoinit.recipes.registry import register_recipe
from autoinit.recipes.starts import ZERO, Start, constant, orthogonal


@register_recipe("lstm", source="Saxe et al. 2014; Jozefowicz et al. 2015; allenai/allennlp, modules/augmented_lstm.py")
def lstm(facts: Facts, forget: float = 1.0) -> Start | None:
    """Recurrent layers, LSTMs above all, those that are written out included.

    - the weights of each gate, of the input and of the state, orthogonal by themselves
    - biases 0, the forget gate's 1: torch adds two of them, and that of the state is set; where the layer is written
      out, the last

    All else is kept. Argument: `forget`, the bias of the forget gate.
    """
    if not facts.gate and not facts.gates:
        return None
    if facts.kind == "bias":
        return constant(forget) if facts.gate == "forget" and facts.of_state else ZERO
    rows = facts.features // max(1, len(facts.gates))
    return orthogonal(rows, facts.size("i") * facts.size("k")) if facts.is_weight else None
