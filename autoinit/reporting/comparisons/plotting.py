"""A comparison of starts as a figure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from autoinit.comparing.comparison import Comparison
from autoinit.reporting.signals.plotting import HUES, require_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DASHES = ("-", "--", ":")
"""Of the lines that the colours do for, of as many again, and so on."""
_SMOOTHED = 25
"""The share of the steps, one in so many, that a point of a line is the mean of."""


def figure(comparison: Comparison) -> Figure:
    """Loss against steps, a line for each start: the mean over seeds at its best learning rate, smoothed.

    Raises:
        ArgumentError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    made = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = made.subplots()
    rates = {each.start: each.lr for each in comparison.ranking}
    for number, (start, losses) in enumerate(comparison.curves.items()):
        axes.plot(
            range(1, len(losses) + 1),
            smoothed(losses),
            color=HUES[number % len(HUES)],
            linestyle=_DASHES[number // len(HUES) % len(_DASHES)],
            linewidth=1.6,
            label=f"{start}, lr {rates[start]:g}",
        )
    if all(loss > 0 for losses in comparison.curves.values() for loss in losses):
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return made


def smoothed(losses: Sequence[float]) -> list[float]:
    """Each the mean of itself and of those just before it."""
    width = max(1, len(losses) // _SMOOTHED)
    return [statistics.fmean(losses[max(0, end - width) : end]) for end in range(1, len(losses) + 1)]
