"""INI107: a fused projection taken for one matrix."""

from __future__ import annotations

from autoinit.checking.scale.cases import Case, same
from autoinit.checking.scale.declaring import rule_of_scale
from autoinit.checking.scale.deviations import Deviation


def _is_of_all_rows(case: Case) -> int | None:
    """Whether the gain is right, and the fan that of the whole matrix."""
    recipe = case.recipe
    gain = case.part.place.gain if recipe.kind == "kaiming" else 1.0
    return 0 if recipe.fans == "packed" and recipe.factor == 1 and same(recipe.gain, gain) else None


@rule_of_scale("INI107", "fused projection scaled as one matrix", precedence=10, verdict=_is_of_all_rows)
def fused(deviation: Deviation) -> str:
    """Several projections share one weight, and their std was computed as if they were one matrix.

    ## What it is

    Queries, keys and values, a gate and its value, or the gates of an LSTM are rows of one tensor. Each is a
    projection of its own, with its own fan_out; the initialiser saw the stacked shape (3E, E) and took 3E for the
    fan_out.

    ## Why it matters

    Xavier for the stacked shape gives sqrt(1 / (2E)) where each projection calls for sqrt(1 / E): 0.71 times, and the
    attention logits, a product of two of them, a quarter of their power.

    ## Example

        nn.init.xavier_uniform_(attention.in_proj_weight)          # what nn.MultiheadAttention does
        nn.init.orthogonal_(lstm.weight_hh_l0)                     # orthogonal over all four gates together

    ## What to do

        for projection in attention.in_proj_weight.chunk(3):
            nn.init.xavier_uniform_(projection)

    ## References

    Glorot & Bengio 2010, eq. 12; pytorch#166378, NVIDIA/apex#910, xformers#303.
    """
    part = deviation.part
    return (
        f"The weight holds {len(part.layer.slices)} projections, and is {deviation.produced}: its std was computed for "
        f"all {part.portrait.power.shape[1]} rows together. Each projection has fans of its own."
    )
