"""From what a user names on the command line to a model: saved files, factories, model libraries.

To add a library of models: its builder in `_libraries` and its row in `kinds`. To add another kind of spec: its reader
here, asked in `specs`, and its row in `kinds`. Nothing of a file is run unless the user trusts it.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoinit.loading.specs import Loaded, files_read_for, load

__all__ = ["Loaded", "files_read_for", "load"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """What loads imports torch; `kinds`, which the help of commands reads, does not."""
        if name in __all__:
            return getattr(importlib.import_module("autoinit.loading.specs"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
