"""The normal distribution cut at two, or three, standard deviations."""

import math

CUT = 2.0
"""Where `truncated_normal` cuts, in standard deviations of the normal distribution that is cut."""


def std_after(cut: float) -> float:
    """Standard deviation of N(0, 1) cut at +-cut: sqrt(1 - 2 c phi(c) / (2 Phi(c) - 1))."""
    density = math.exp(-cut * cut / 2.0) / math.sqrt(2.0 * math.pi)
    return math.sqrt(1.0 - 2.0 * cut * density / math.erf(cut / math.sqrt(2.0)))


TRUNCATED_STD = std_after(CUT)
"""After the cut at two, 0.8796..."""
TRUNCATED_STD_3 = std_after(3.0)
"""After a cut at three, 0.9866..."""
