"""The model at hand, seen as its user knows it: without wrappers, its parameters by name, how each weight is held.

Public functions take a model and make a `ModelView` of it once; everything inside takes the view. A wrapper is added in
`wrappers`, a way of holding a weight in `storage`.
"""

from autoinit.models.storage import WeightStorage
from autoinit.models.view import ExportedLike, Model, ModelView
from autoinit.models.wrappers import inner_module, user_name

__all__ = ["ExportedLike", "Model", "ModelView", "WeightStorage", "inner_module", "user_name"]
