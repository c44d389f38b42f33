"""From what a user names on the command line to a model: saved files, factories, model libraries."""

from autoinit.loading.specs import Loaded, files_read_for, load

__all__ = ["Loaded", "files_read_for", "load"]
