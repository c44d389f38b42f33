"""The benefit of doubt: rows that may have been drawn within a range are taken to have been.

A sample whose std comes to lie about a threshold would pass on one run of the same code and not on the next. So a
threshold that the samples of a usual recipe straddle gives way, to the milder side, until none does. Where it comes to
lie hangs on the place and on how many elements there are, not on what they are.
"""

from __future__ import annotations

import math

from autoinit.checking._part import Part
from autoinit.recognising.families import kurtosis_of
from autoinit.recognising.noise import TAIL, Z, spread

MANY = 1000
"""From so many elements on, a sample tells the kurtosis of what it was drawn from, and whether that was uniform."""


def within_noise(part: Part, low: float, high: float) -> bool:
    """Whether rows could have been drawn with a std between two, or with a usual one that hardly differs from such."""
    if low <= part.actual <= high and part.portrait.peak(part.rows)[0] >= math.sqrt(3) * low:
        return True  # whatever family they are of
    less, more = spread(part.count, 3.0)
    # Which family they are of takes a closer look, so it is asked for only where it could matter.
    if part.count < MANY or low * less <= part.actual <= high * more:
        less, more = spread(part.count, _kurtosis(part))
    if low * less <= part.actual <= high * more and _bound_fits(part, low):
        return True
    error = Z * math.sqrt((_kurtosis(part) - 1) / (4 * part.count))
    usual = [math.log(each) for each in part.usual]
    actual = math.log(part.actual)
    most = _given_way(math.log(high * more), usual, error) if high < math.inf else math.inf
    least = -_given_way(-math.log(low * less), [-each for each in usual], error) if low * less > 0 else -math.inf
    return least <= actual <= most and _bound_fits(part, low)


def _given_way(threshold: float, usual: list[float], error: float) -> float:
    """A threshold, raised until it is further than an error from all that is usual."""
    for each in sorted(usual):
        if abs(each - threshold) < error:
            threshold = each + error
    return threshold


def _bound_fits(part: Part, low: float) -> bool:
    """Whether the largest of n uniform magnitudes may be as small as it is: below b (1 - d) with odds (1 - d)^n."""
    if low == 0 or not _is_uniform(part):
        return True
    peak, count = part.portrait.peak(part.rows)
    error = -math.log(TAIL) / max(1, count)
    least = math.log(low) - error
    for each in sorted((math.log(std) for std in part.usual), reverse=True):
        if each - error < least < each:
            least = each - error
    return math.log(peak / math.sqrt(3)) >= least


def _is_uniform(part: Part) -> bool:
    return part.count >= MANY and part.portrait.fit(part.rows).likely == ("uniform",)


def _kurtosis(part: Part) -> float:
    """That of the family, if there is but one, else the sample's, if it is larger than the normal's and can be told."""
    if _is_uniform(part):
        return kurtosis_of("uniform")
    return max(3.0, part.portrait.kurtosis) if part.count >= MANY else 3.0
