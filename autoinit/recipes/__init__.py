"""Published recipes: from the facts of a parameter to the distribution that it starts from.

One table serves writing (`autoinit(model, recipe="gpt2")`), `check --recipe` and recognition. A recipe is a file in
this room: a function under `@register_recipe`, whose docstring is its document. Users register theirs by the same call.
"""

from autoinit.facts import Facts
from autoinit.recipes.declaring import DeclaredRecipe, declared
from autoinit.recipes.registry import RecipeEntry, entry, register_recipe, table
from autoinit.recipes.starts import Start, constant, normal, orthogonal, truncated, uniform

__all__ = [
    "DeclaredRecipe",
    "Facts",
    "RecipeEntry",
    "Start",
    "constant",
    "declared",
    "entry",
    "normal",
    "orthogonal",
    "register_recipe",
    "table",
    "truncated",
    "uniform",
]
