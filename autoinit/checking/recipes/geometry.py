"""What recipes read off a part: its fans as different authors count them, and what kind of layer it is."""

from __future__ import annotations

from autoinit.checking._part import Part


def size(part: Part, axis: str) -> int:
    """Product of the sizes of the weight's axes of one letter: `o`, `i`, `k`, `b`."""
    return part.layer.size(axis)


def rows(part: Part) -> int:
    """How many output features the part has."""
    return sum(stop - start for start, stop in part.rows) or size(part, "o")


def blocks(part: Part) -> int:
    """Blocks of two branches each; an odd branch is the sum of embeddings that the stream begins with."""
    return part.branches // 2


def is_conv(part: Part) -> bool:
    """Whether it is a convolution's weight, transposed ones included."""
    return "k" in part.layer.axes


def is_head(part: Part) -> bool:
    """Whether its output is the model's."""
    return part.place.reason in ("output", "softmax")


def is_tied(part: Part) -> bool:
    """Whether it is the table of an embedding too."""
    return "tied to an embedding" in part.layer.note


def is_attention(part: Part) -> bool:
    """Whether it makes queries, keys or values."""
    return part.place.reason == "attention"


def is_standardised(part: Part) -> bool:
    """Whether the weight itself is normalised before it is used."""
    return part.normalised and not part.place.normalised


def is_centred(part: Part) -> bool:
    """Whether it is weight standardisation that normalises it, which takes a mean off: no spectral norm does."""
    return is_standardised(part) and part.centred


def fan_outs(part: Part) -> tuple[float, ...]:
    """The true fan_out and, for a strided convolution, that of He et al. 2015 and torch.nn.init: without the stride.

    Groups count: to leave them out is a fault, not another convention.
    """
    true = part.place.fan_out
    stride_area = part.layout.stride_area
    return (true,) if part.layout.transposed or stride_area == 1 else (true, true * stride_area)
