"""Published recipes: what weights may follow in place of the plan, declared by a team or followed by a whole model."""

from autoinit.checking.recipes.declaring import declared, names
from autoinit.checking.recipes.following import recognised
from autoinit.checking.recipes.published import Published

__all__ = ["Published", "declared", "names", "recognised"]
