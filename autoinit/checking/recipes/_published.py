"""Published: a recipe that weights are held against, and whether a weight follows it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoinit.checking._part import Part
from autoinit.recipes import DeclaredRecipe, declared
from autoinit.recognising.noise import spread


@dataclass(frozen=True)
class Published:
    """A recipe that weights are held against."""

    recipe: DeclaredRecipe

    @property
    def name(self) -> str:
        """As it is declared: `gpt2`, `normal(0.02)`."""
        return self.recipe.text

    @property
    def reference(self) -> str:
        """The paper and section, or the public code that documents it."""
        return self.recipe.entry.source

    def stds(self, part: Part, drawn: float | None = None) -> tuple[float, ...]:
        """Every std that it allows for these rows, of a range the nearest; nothing where it says nothing about them.

        drawn: the std that the rows were drawn with, where more is known than their own.
        """
        bounds = self.recipe.bounds(part.facts)
        std = part.actual if drawn is None else drawn
        return self.recipe.stds(part.facts) if bounds is None else (min(max(std, bounds[0]), bounds[1]),)

    def fits(self, part: Part, tolerance: float) -> bool:
        """Whether the part's std is one that the recipe allows, but for noise and the tolerance."""
        less, more = noise(part)
        return any(
            std * less / (1 + tolerance) <= part.actual <= std * more * (1 + tolerance) for std in self.stds(part)
        )

    def nearest(self, part: Part, drawn: float | None = None) -> float | None:
        """Of the stds that the recipe allows, the one nearest by ratio; None where it says nothing.

        drawn: the std that the rows were drawn with, where more is known than their own.
        """
        std = part.actual if drawn is None else drawn
        return min(self.stds(part, drawn), key=lambda each: abs(math.log(each / std)), default=None)

    def __str__(self) -> str:
        return str(self.recipe)


def published(text: str) -> Published:
    """The recipe that a text declares.

    Raises:
        ArgumentError: there is no such recipe, or it takes other arguments.
    """
    return Published(declared(text))


def noise(part: Part) -> tuple[float, float]:
    """Bounds on sample std over true std for as many elements as the part has."""
    return spread(part.count)
