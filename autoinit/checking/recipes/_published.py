"""Published: a documented way to scale the weights of a model, and whether a weight follows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autoinit.checking._part import Part
from autoinit.recognising.noise import spread

Stds = Callable[[Part], tuple[float, ...]]


@dataclass(frozen=True)
class Published:
    """A published recipe.

    Attributes:
        name: as it is declared: `gpt2`, `normal(0.02)`.
        reference: the paper and section, or the public source that documents it.
        stds: every std that it allows for these rows; nothing where it says nothing about them.
        trait: what a model must show before it is taken to follow the recipe unasked; None where weights alone are no
            evidence, as of a single normal distribution or a framework's default.
        uniform: whether most weights are drawn from uniform distributions.
    """

    name: str
    reference: str
    stds: Stds
    trait: Callable[[Sequence[Part]], bool] | None = None
    uniform: bool = False

    def fits(self, part: Part, tolerance: float) -> bool:
        """Whether the part's std is one that the recipe allows, but for noise and the tolerance."""
        less, more = noise(part)
        return any(
            std * less / (1 + tolerance) <= part.actual <= std * more * (1 + tolerance) for std in self.stds(part)
        )

    def nearest(self, part: Part) -> float | None:
        """Of the stds that the recipe allows, the one nearest by ratio; None where it says nothing."""
        return min(self.stds(part), key=lambda std: abs(math.log(std / part.actual)), default=None)

    def __str__(self) -> str:
        return f"{self.name} ({self.reference})"


def noise(part: Part) -> tuple[float, float]:
    """Bounds on sample std over true std for as many elements as the part has."""
    return spread(part.count)
