"""From what a user names on the command line to a model: saved files, factories, model libraries.

To add a kind of spec, add its reader here and ask it in `specs`; nothing of a file is run unless the user trusts it.
"""

from autoinit.loading.specs import Loaded, files_read_for, load

__all__ = ["Loaded", "files_read_for", "load"]
