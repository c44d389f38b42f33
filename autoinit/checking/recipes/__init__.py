"""Weights held against published recipes: declared by a team, or followed by a whole model.

What the recipes are stands in `autoinit.recipes`; here is whether weights follow them.
"""

from autoinit.checking.recipes._published import Published, published
from autoinit.checking.recipes._whole_model import recognised

__all__ = ["Published", "published", "recognised"]
