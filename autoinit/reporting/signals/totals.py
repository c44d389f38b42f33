"""What a signal comes to, in words."""

from __future__ import annotations

from collections.abc import Iterator

from autoinit.reporting import _wording as wording
from autoinit.signal.report import SignalReport


def totals(report: SignalReport) -> Iterator[tuple[str, str]]:
    """Titles and values: layers in [1/2, 2], where correlation collapses, the outputs' scale, the gradient's spread."""
    layers = len(report)
    share = f" ({report.preserved / layers:.0%})" if layers else ""
    yield "layers with q in [1/2, 2]", f"{report.preserved} of {layers}{share}"
    collapse = report.collapse
    yield (
        "inputs look alike from",
        "nowhere" if collapse is None else f"{collapse.layer} (depth {collapse.depth})",
    )
    outputs = [wording.number(row.q) for row in report.outputs]
    shown = ", ".join(outputs[:_LISTED]) + (f", and {len(outputs) - _LISTED} more" if len(outputs) > _LISTED else "")
    yield "q of the output", shown or "not known"
    spread = report.gradient_spread
    without = sum(row.grad == 0 for row in report.rows.values())
    zeros = f"; none at all in {wording.plural(without, 'layer')}" if without else ""
    yield "log10 max/min of grad", ("not known" if spread is None else f"{spread:.2f}") + zeros


_LISTED = 4
