"""Numbers as a page's document holds them."""

from __future__ import annotations

import math


def number(value: float | None) -> float | str | None:
    """Six digits; what JSON has no number for, as a word."""
    if value is None:
        return None
    return float(f"{value:.6g}") if math.isfinite(value) else str(float(value))
