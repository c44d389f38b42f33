"""From what a user names on the command line to a model: saved files, factories, model libraries."""

from autoinit.loading.specs import Loaded, load

__all__ = ["Loaded", "load"]
