"""Which units are partners, so that whatever reads one of a pair reads the other beside it.

Units may be partners if the same weights (and of a convolution of several groups, the same groups) read them. Of those
that are alike in this, the first half are partners of the second. A reader must find each run of first ones and the run
of their partners side by side, so that its weight is made of [A, -A].
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.integer[Any]]

ALONE = -1
"""The partner of what is left over."""


def partners(features: int, readings: Iterable[tuple[Numbers, int]]) -> Numbers:
    """The partner of each of the features.

    Args:
        features: their number.
        readings: the feature in each column of a weight that reads them, a negative number for none of them; and how
            many groups the weight's columns fall into.
    """
    seen: list[list[int]] = [[] for _ in range(features)]
    number = itertools.count()
    for columns, groups in readings:
        for part in np.split(columns, groups):
            name = next(number)
            for each in np.unique(part[part >= 0]):
                seen[each].append(name)
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for each, readers in enumerate(seen):
        alike[tuple(readers)].append(each)
    found = np.full(features, ALONE)
    for members in alike.values():
        half = len(members) // 2
        first, second = np.array(members[:half], int), np.array(members[half : 2 * half], int)
        found[first], found[second] = second, first
    return found


def runs(columns: Numbers, partner: Numbers) -> list[tuple[int, int, bool]] | None:
    """Start, size and whether it is paired, of runs that cover columns which hold features of one source.

    None where a feature is read without its partner, or not beside it.

    Args:
        columns: the feature in each.
        partner: of each feature; `ALONE` of what is left over.
    """
    found: list[tuple[int, int, bool]] = []
    at, wanted = 0, partner[columns]
    while at < len(columns):
        if wanted[at] == ALONE:
            rest = wanted[at:]
            size = int(np.argmax(rest != ALONE)) or len(rest)
            found.append((at, size, False))
        else:
            there = np.flatnonzero(columns[at:] == wanted[at])
            half = int(there[0]) if len(there) else 0
            size = 2 * half
            first, second = columns[at : at + half], columns[at + half : at + size]
            if not half or len(second) < half or not np.array_equal(partner[first], second):
                return None
            found.append((at, size, True))
        at += size
    return found
