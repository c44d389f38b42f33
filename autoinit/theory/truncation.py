"""The normal distribution cut at two standard deviations."""

import math

CUT = 2.0
"""Where `truncated_normal` cuts, in standard deviations of the normal distribution that is cut."""
TRUNCATED_STD = math.sqrt(
    1.0 - 2.0 * CUT * math.exp(-CUT * CUT / 2.0) / math.sqrt(2.0 * math.pi) / math.erf(CUT / math.sqrt(2.0))
)
"""Standard deviation of N(0, 1) cut at +-CUT, 0.8796...: 1 - 2 c phi(c) / (2 Phi(c) - 1), square root."""
