"""What betrays memory that was allocated and never written, as after `to_empty`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

HUGE = 1e6
"""No initialisation gives a magnitude beyond this."""
LARGE = 100.0
"""Nor this, among values of which most are smaller by `SPREAD`."""
SPREAD = 1e4
TINY = 1e-30
"""Nor values that are all below this, and not all zero: integers and pointers read as floats."""


def looks_unwritten(values: npt.NDArray[np.floating]) -> bool:
    """Whether numbers look like rubbish: not finite, or of magnitudes that nothing gives and no training leaves."""
    magnitudes = np.abs(values)
    if not magnitudes.size:
        return False
    if not np.isfinite(magnitudes).all():
        return True
    low, peak = float(magnitudes.min()), float(magnitudes.max())
    return 0 < peak < TINY or (peak > HUGE and low != peak)
