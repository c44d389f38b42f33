"""Files of torch.export.save, read as data.

What else a file may hold is added to `_schema`, what else a node may call to `_operators`.
"""

from autoinit.loading.exported._reading import read, run

__all__ = ["read", "run"]
