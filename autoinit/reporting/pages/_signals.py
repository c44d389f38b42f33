"""What a page shows of a signal: the plot's places, and each layer's moments.

The plot: {states: [{label, collapse (depth, or null), predicted, measured}], depth (the deepest), first (the least)},
where predicted and measured are null or {totals: [title, text], places: [{name, op, module, depth, stream, note, q, p,
s, mean, grad}]}. A layer: {op, depth, notes, rows: [{predicted, measured}], one for each state}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoinit.reporting import _wording as wording
from autoinit.reporting.pages._numbers import number
from autoinit.reporting.signals.states import LayerLine, State, layer_lines, signal_points
from autoinit.reporting.signals.totals import totals
from autoinit.signal.report import SignalReport, SignalRow

_MOMENTS = ("q", "p", "s", "mean", "grad")


def plotted(shown: Sequence[State]) -> dict[str, Any]:
    """What the plot is drawn from."""
    reports = [report for state in shown for report in state.reports]
    return {
        "depth": max((each.depth for report in reports for each in report.operations), default=1),
        "first": min((each.depth for report in reports for each in signal_points(report)), default=1),
        "states": [_state(state) for state in shown],
    }


def layer_moments(shown: Sequence[State]) -> Mapping[str, dict[str, Any]]:
    """Each layer's moments, by its name, in order of call."""
    return {line.name: _layer(line) for line in layer_lines(shown)}


def _state(state: State) -> dict[str, Any]:
    collapse = state.report.collapse
    return {
        "label": state.label,
        "collapse": None if collapse is None else collapse.depth,
        "predicted": _report(state.predicted),
        "measured": _report(state.measured),
    }


def _report(report: SignalReport | None) -> dict[str, Any] | None:
    if report is None:
        return None
    return {
        "totals": [*totals(report), ("time", wording.duration(report.seconds))],
        "places": [
            {
                "name": each.name,
                "op": each.op,
                "module": each.module,
                "depth": each.depth,
                "stream": each.stream,
                "note": each.note,
                **_row(each.row),
            }
            for each in signal_points(report)
            if each.row is not None
        ],
    }


def _row(row: SignalRow) -> dict[str, Any]:
    return {name: number(getattr(row, name)) for name in _MOMENTS}


def _layer(line: LayerLine) -> dict[str, Any]:
    return {
        "op": wording.operation(line.op),
        "depth": line.depth,
        "notes": line.notes,
        "rows": [
            {
                "predicted": None if predicted is None else _row(predicted),
                "measured": None if measured is None else _row(measured),
            }
            for predicted, measured in zip(line.predicted, line.measured, strict=True)
        ],
    }
