"""Dataflow -> what each weight feeds.

The walk asks operations for their roles and traits, so that a new operation is added in `ops` and not here.
"""

from autoinit.resolving._factors import factor_of
from autoinit.resolving._merging import merge
from autoinit.resolving.resolution import Ending, Fed, Reason, Resolution, SliceResolution
from autoinit.resolving.resolver import endings, resolve, slot_of

__all__ = [
    "Ending",
    "Fed",
    "Reason",
    "Resolution",
    "SliceResolution",
    "endings",
    "factor_of",
    "merge",
    "resolve",
    "slot_of",
]
