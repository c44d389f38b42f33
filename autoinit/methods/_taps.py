"""Which taps of a convolution's kernel meet the input: see `mirrored`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from autoinit.plans.mirror import Taps
from autoinit.tracing import Op

_SEEN = 0.5
"""A tap is drawn only if it meets the input at this share of an axis's positions."""


def taps_seen(op: Op, kernel: Sequence[int], *, transposed: bool) -> tuple[tuple[int, int], ...]:
    """For each axis of a kernel, the taps of use.

    Those that reach inside of the input at half of the output's positions or more; of a transposed convolution those
    that bring half of the input's positions or more inside of the output.
    """
    found = []
    for size, met in zip(kernel, _met(op, kernel, transposed=transposed), strict=True):
        good = np.flatnonzero(met >= _SEEN) if (met >= _SEEN).any() else np.array([size // 2])
        found.append((int(good[0]), int(good[-1]) + 1))
    return tuple(found)


def share_through_taps(op: Op, kernel: Sequence[int], taps: Taps, share: float, *, transposed: bool) -> float:
    """What padding leaves of the input's second moment by the taps of use, from the share that all taps leave.

    For an input alike at all positions: what a tap leaves is the share of positions at which it meets the input.
    """
    if taps == "full":
        return share
    seen = taps_seen(op, kernel, transposed=transposed)
    if taps == "centre":
        seen = tuple((size // 2, size // 2 + 1) for size in kernel)
    for met, (low, high) in zip(_met(op, kernel, transposed=transposed), seen, strict=True):
        share *= float(met[low:high].mean() / met.mean())
    return share


def _met(op: Op, kernel: Sequence[int], *, transposed: bool) -> list[npt.NDArray[np.float64]]:
    """For each axis of a kernel and each of its taps: the share of positions at which it meets the input."""
    if not kernel:
        return []
    before, after = next(each for each in op.operands.values() if each.signal).shape, op.shape
    assert before is not None
    assert after is not None
    axes = len(kernel)
    found = []
    for axis, size in enumerate(kernel):
        stride, padding, dilation = (
            _along(op.constants.get(name, default), axis)
            for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
        )
        fine, coarse = before[axis - axes], after[axis - axes]
        if transposed:
            fine, coarse = coarse, fine
        if isinstance(padding, str):
            padding = dilation * (size - 1) // 2 if padding == "same" else 0
        at = np.arange(coarse)[:, None] * stride - padding + np.arange(size)[None] * dilation
        found.append(((at >= 0) & (at < fine)).mean(0))
    return found


def _along(value: Any, axis: int) -> Any:
    return value if isinstance(value, (int, str)) else value[axis] if len(value) > 1 else value[0]
