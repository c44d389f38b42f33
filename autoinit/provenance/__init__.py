"""Provenance: who last wrote each parameter, with which arguments, from which line, and where modules were built.

Calls are recognised by the module of their function; a library's initialisers are added in `_stack`.
"""

from autoinit.provenance.origins import Origin
from autoinit.provenance.record import Recording, recording, written

__all__ = ["Origin", "Recording", "recording", "written"]
