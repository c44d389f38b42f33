"""What recipes read off a part: its fans as different authors count them, and what kind of layer it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoinit.checking.subject import Part


def size(part: Part, axis: str) -> int:
    """Product of the sizes of the weight's axes of one letter: `o`, `i`, `k`, `b`."""
    layer = part.layer
    return math.prod(length for letter, length in zip(layer.axes, layer.shape, strict=True) if letter == axis)


def rows(part: Part) -> int:
    """How many output features the part has."""
    return sum(stop - start for start, stop in part.rows) or size(part, "o")


def is_conv(part: Part) -> bool:
    """Whether it is a convolution's weight, transposed ones included."""
    return "k" in part.layer.axes


def is_head(part: Part) -> bool:
    """Whether its output is the model's."""
    return part.place.reason in ("output", "softmax")


def is_attention(part: Part) -> bool:
    """Whether it makes queries, keys or values."""
    return part.place.reason == "attention"


def is_standardised(part: Part) -> bool:
    """Whether the weight itself is normalised before it is used."""
    return part.normalised and not part.place.normalised


def fan_outs(part: Part) -> tuple[float, ...]:
    """The true fan_out and, for a strided convolution, that of He et al. 2015 and torch.nn.init: without the stride.

    True is out / groups * kernel / stride area. What it lacks of out * kernel is groups and stride together: it is
    taken for stride where it is a whole step in each dimension, of no more than the kernel or two.
    """
    true = part.place.fan_out
    dimensions = part.layer.axes.count("k")
    if not dimensions or part.layer.op.startswith("conv_transpose"):
        return (true,)
    whole = float(rows(part) * size(part, "k"))
    step = round((whole / true) ** (1 / dimensions))
    kernel = max(length for letter, length in zip(part.layer.axes, part.layer.shape, strict=True) if letter == "k")
    strided = 1 < step <= max(2, kernel) and math.isclose(step**dimensions, whole / true) and size(part, "i") > 1
    return (true, whole) if strided else (true,)
