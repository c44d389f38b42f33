"""INI107: a fused projection taken for one matrix."""

from __future__ import annotations

from collections.abc import Iterator

from autoinit.checking._subject import Subject
from autoinit.checking.findings import Finding
from autoinit.checking.rules.registry import rule
from autoinit.checking.scale._finding import explained_by, scale_finding


@rule("INI107", "fused projection scaled as one matrix", "by consequence")
def fused(subject: Subject) -> Iterator[Finding]:
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
    for deviation in explained_by(subject, "INI107"):
        count = len(deviation.part.layer.slices)
        fault = (
            f"The weight holds {count} projections, and is {deviation.produced}: its std was computed for all "
            f"{deviation.part.portrait.power.shape[1]} rows together. Each projection has fans of its own."
        )
        yield scale_finding(subject, deviation, fault)
