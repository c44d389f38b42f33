"""How far the standard deviation of fresh weights strays from the one they were drawn with."""

from __future__ import annotations

import math

TAIL = 1e-7
"""Probability that a fresh weight lies outside `spread`."""
Z = 5.32672388638449
"""N(0, 1) exceeds it in size with probability TAIL."""


def spread(count: int, kurtosis: float = 3.0) -> tuple[float, float]:
    """Bounds on sample std / true std that fresh weights leave with probability 1e-7.

    The mean square of `count` independent elements has relative variance (kurtosis - 1) / count, which is that of a
    chi-square of 2 count / (kurtosis - 1) degrees of freedom over that number; its cube root is nearly normal
    (Wilson & Hilferty 1931).

        >>> low, high = spread(10_000)
        >>> round(low, 3), round(high, 3)
        (0.963, 1.038)

    Args:
        count: of elements; 0 gives no bounds.
        kurtosis: of their distribution: 3 normal, 9/5 uniform. 1 or less means a fixed size: both bounds are 1.
    """
    if count <= 0:
        return 0.0, math.inf
    if kurtosis <= 1:
        return 1.0, 1.0
    rest = 2 / (9 * 2 * count / (kurtosis - 1))
    low, high = (max(0.0, 1 - rest + sign * Z * math.sqrt(rest)) ** 1.5 for sign in (-1, 1))
    return low, high
