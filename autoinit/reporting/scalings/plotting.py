"""A coordinate check as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoinit.reporting.scalings.coordinates import OUTPUT
from autoinit.reporting.signals.plotting import require_matplotlib
from autoinit.transfer.coordinates import CoordinateCheck

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(check: CoordinateCheck) -> Figure:
    """Change against width, a panel for each parametrisation, a line for each layer.

    Raises:
        ArgumentError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    made = Figure(figsize=(5.0 * len(check.changes), 4.0), layout="constrained")
    panels: Any = made.subplots(1, len(check.changes), sharey=True, squeeze=False)[0]
    for panel, (kind, layers) in zip(panels, check.changes.items(), strict=True):
        for layer, values in layers.items():
            panel.loglog(check.widths, values, marker="o", base=2, label=layer or OUTPUT)
        panel.set(title=kind, xlabel="width", xticks=check.widths, xticklabels=check.widths)
        panel.minorticks_off()
    panels[0].set_ylabel("change of a layer's output")
    panels[-1].legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return made
