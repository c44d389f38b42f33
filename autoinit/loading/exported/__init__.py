"""Files of torch.export.save, read as data."""

from autoinit.loading.exported._reading import read, run

__all__ = ["read", "run"]
