"""The signal as one HTML file that loads nothing: plot, layers, a plan's evidence.

The page is a template, its style and its scripts, which stand beside this file; the numbers go in as JSON.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import Any

from autoinit.plans.layers import LayerPlan, RowsPlan
from autoinit.plans.plan import Plan
from autoinit.reporting import _wording as wording
from autoinit.reporting.signals._totals import totals
from autoinit.reporting.signals.states import LayerLine, State, layer_lines, signal_points
from autoinit.signal.report import SignalReport, SignalRow

_SCRIPTS = ("shared.js", "plot.js", "table.js", "start.js")
_MOMENTS = ("q", "p", "s", "mean", "grad")


def render(shown: Sequence[State], plan: Plan | None = None) -> str:
    """The page.

    plan: says what each layer feeds and why; the layers' names are its own.
    """
    room = files(__package__)
    model = shown[0].report.model
    return Template(room.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(f"Signal of {model}"),
        style=room.joinpath("page.css").read_text(encoding="utf-8"),
        script="\n".join(room.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS),
        data=_embedded(_document(shown, plan)),
    )


def _embedded(document: dict[str, Any]) -> str:
    """JSON that nothing in it can end: no character that HTML knows."""
    text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _document(shown: Sequence[State], plan: Plan | None) -> dict[str, Any]:
    lines = layer_lines(shown)
    notes = [note for state in shown for report in state.reports for note in report.notes]
    return {
        "model": shown[0].report.model,
        "about": _about(shown, plan),
        "depth": max((each.depth for state in shown for one in state.reports for each in one.operations), default=1),
        "first": min(
            (each.depth for state in shown for one in state.reports for each in signal_points(one)), default=1
        ),
        "states": [_state(state) for state in shown],
        "layers": [_layer(line, None if plan is None or line.name not in plan else plan[line.name]) for line in lines],
        "notes": list(dict.fromkeys([*notes, *(plan.notes if plan is not None else ())])),
    }


def _about(shown: Sequence[State], plan: Plan | None) -> str:
    operations = len(shown[0].report.operations)
    said = f"{wording.plural(len(layer_lines(shown)), 'weight layer')}, {wording.plural(operations, 'operation')}"
    if plan is None:
        return f"Signal: {said}."
    return f"Signal: {wording.count(plan.parameters)} parameters, {said}; planned by method {plan.method}."


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
    return {name: _number(getattr(row, name)) for name in _MOMENTS}


def _number(value: float | None) -> float | str | None:
    """Six digits; what JSON has no number for, as a word."""
    if value is None:
        return None
    return float(f"{value:.6g}") if math.isfinite(value) else str(float(value))


def _layer(line: LayerLine, plan: LayerPlan | None) -> dict[str, Any]:
    return {
        "name": line.name,
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
        "plan": None if plan is None else _plan(plan),
    }


def _plan(plan: LayerPlan) -> dict[str, Any]:
    return {
        **_evidence(plan),
        "status": plan.status,
        "note": plan.note,
        "scheme": wording.scheme(plan.scheme),
        "gain": _number(plan.gain),
        "fan": wording.fan(plan.mode, plan.fan_in, plan.fan_out),
        "alternatives": [wording.feeds(way.nonlinearity, way.params, way.reason) for way in plan.alternatives],
        "slices": [_evidence(part) | {"rows": wording.rows(part.rows)} for part in plan.slices],
        "source": plan.source,
    }


def _evidence(plan: RowsPlan) -> dict[str, Any]:
    return {
        "std": _number(plan.std),
        "feeds": wording.feeds(plan.nonlinearity, plan.params, plan.reason),
        "reason": plan.reason,
        "path": plan.path,
    }
