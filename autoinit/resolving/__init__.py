"""Dataflow -> what each weight feeds."""

from autoinit.resolving.resolution import Ending, Reason, Resolution, SliceResolution
from autoinit.resolving.resolver import resolve

__all__ = ["Ending", "Reason", "Resolution", "SliceResolution", "resolve"]
