"""Recipe: one way to draw a weight, as people name it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

RecipeKind = Literal[
    "default", "planned", "kaiming", "xavier", "orthogonal", "absolute", "zeros", "constant", "identity"
]


@dataclass(frozen=True)
class Recipe:
    """What would produce a weight.

    Attributes:
        name: as people say it.
        kind: where its scale comes from.
        distribution: `normal`, `uniform`, `truncated_normal`, `orthogonal`, or empty for constants and patterns.
        std: that it gives to the elements (of the rows asked about).
        gain: the factor on 1 / sqrt(fan).
        nonlinearity: that the gain is for, if one is named.
        mode: `fan_in`, `fan_out`, `fan_avg`, or empty.
        fans: whose: `true` (by geometry), `torch` (read from the shape as torch.nn.init does, where that differs),
            `packed` (of the whole matrix, for a slice), `shape[0]`, `ungrouped`, `transposed`.
        factor: a scale on top.
        corrected: False for a truncated normal whose std was not corrected for the truncation.
        doubt: how unusual it is: minus the logarithm of how often it is met, up to a constant.
    """

    name: str
    kind: RecipeKind
    distribution: str
    std: float
    gain: float = 1.0
    nonlinearity: str = ""
    mode: str = ""
    fans: str = ""
    factor: float = 1.0
    corrected: bool = True
    doubt: float = 0.0

    def __str__(self) -> str:
        return self.name


def written(value: float) -> str:
    """A number as people write it: `sqrt(2)`, `5/3`, `0.02`."""
    known = {"sqrt(2)": math.sqrt(2), "5/3": 5 / 3, "sqrt(5)": math.sqrt(5), "sqrt(3)": math.sqrt(3)}
    for name, each in known.items():
        if abs(value / each - 1) < 1e-6:
            return name
    return f"{value:.6g}" if abs(value - round(value, 6)) < 1e-12 else f"{value:.4g}"
