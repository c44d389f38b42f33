"""Published recipes: from the facts of a parameter to the distribution that it starts from.

One table serves writing (`autoinit(model, recipe="gpt2")`), `check --recipe` and recognition. A recipe is a file in
`published`: a function under `@register_recipe`. Users register theirs by the same call.
"""

from autoinit.facts import Facts
from autoinit.recipes.declaring import DeclaredRecipe, declared
from autoinit.recipes.registry import Mark, Measured, RecipeEntry, entry, marked, register_recipe, table
from autoinit.recipes.starts import Start, constant, normal, orthogonal, truncated, uniform

__all__ = [
    "DeclaredRecipe",
    "Facts",
    "Mark",
    "Measured",
    "RecipeEntry",
    "Start",
    "constant",
    "declared",
    "entry",
    "marked",
    "normal",
    "orthogonal",
    "register_recipe",
    "table",
    "truncated",
    "uniform",
]
