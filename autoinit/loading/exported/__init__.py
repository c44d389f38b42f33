"""Files of torch.export.save, read as data."""

from autoinit.loading.exported.reading import read, run

__all__ = ["read", "run"]
