"""Provenance: who last wrote each parameter, with which arguments, from which line, and where modules were built."""

from autoinit.provenance.origins import Origin
from autoinit.provenance.record import Recording, recording, written

__all__ = ["Origin", "Recording", "recording", "written"]
