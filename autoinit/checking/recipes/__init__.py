"""Published recipes: what weights may follow in place of the plan, declared by a team or followed by a whole model.

To add one, add its entry to `initialisers` or `models`.
"""

from autoinit.checking.recipes._declaring import declared, example, names
from autoinit.checking.recipes._published import Published
from autoinit.checking.recipes._whole_model import recognised

__all__ = ["Published", "declared", "example", "names", "recognised"]
