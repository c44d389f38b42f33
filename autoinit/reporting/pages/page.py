"""The page: a template with its style, its scripts and a document, in one file that loads nothing.

What the page may run is named by its hashes (Content-Security-Policy), so that nothing else runs, whatever a model's
names hold.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

from autoinit._escaping import visible
from autoinit.checking.findings import CheckFailure, CheckResult, CheckRun
from autoinit.plans.plan import Plan, Report
from autoinit.recognising.alone import WeightsReport
from autoinit.reporting import _wording as wording
from autoinit.reporting._rows import rest_line, status_counts
from autoinit.reporting.alone import facts
from autoinit.reporting.findings.summary import counted, reason
from autoinit.reporting.pages._signals import layer_moments, plotted
from autoinit.reporting.pages.document import Shown, document
from autoinit.reporting.signals.states import State, layer_lines
from autoinit.tracing.dataflow import Dataflow
from autoinit.tracing.flow import flow_of

_LAYOUT = "elk.bundled.js"
_SCRIPTS = ("shared.js", "picture.js", "walks.js", "plot.js", "table.js", "start.js")


def of_reports(reports: Sequence[Report | WeightsReport]) -> str:
    """The page of one or several reports."""
    shown = [_alone(each) if isinstance(each, WeightsReport) else _reported(each) for each in reports]
    return render(f"autoinit: {', '.join(each.name for each in shown)}", shown)


def of_plan(plan: Plan) -> str:
    """The page of a plan, whose model's weights are not known."""
    return of_reports([Report(plan, {}, seconds=plan.seconds)])


def of_run(run: CheckRun) -> str:
    """The page of a check of one or several models."""
    names = ", ".join([*(result.model for result in run.results), *(each.model for each in run.failures)])
    shown = [*map(_checked, run.results), *map(_failed, run.failures)]
    return render(f"autoinit check: {names}", shown, notes=run.notes)


def of_signal(states: Sequence[State], plan: Plan | None = None) -> str:
    """The page of a signal.

    plan: says what each layer feeds and why; the layers' names are its own.
    """
    report = states[0].report
    notes = [note for state in states for each in state.reports for note in each.notes]
    about = [
        ("weight layers", str(len(layer_lines(states)))),
        ("operations", str(len(report.operations))),
        *((("planned by", f"method {plan.method}"),) if plan is not None else ()),
    ]
    shown = Shown(
        report.model,
        about,
        flow=report.flow or (plan.flow if plan is not None else None),
        plan=plan,
        moments=layer_moments(states),
        signal=plotted(states),
        notes=[*notes, *(plan.notes if plan is not None else ())],
    )
    return render(f"Signal of {report.model}", [shown])


def of_dataflow(dataflow: Dataflow, resolutions: Sequence[Any] = ()) -> str:
    """The page of a dataflow. resolutions: of its weights."""
    about = [("operations", str(len(dataflow.graph))), ("tracing", dataflow.tier)]
    shown = Shown("Dataflow", about, flow_of(dataflow), resolutions=resolutions, notes=dataflow.notes)
    return render("Dataflow", [shown])


def render(title: str, models: Sequence[Shown], notes: Sequence[str] = ()) -> str:
    """The page of some models. notes: about all of them."""
    drawn = any(model.flow is not None for model in models)
    style, template = _file("page.css"), Template(_file("page.html"))
    scripts = [*([_file(_LAYOUT)] if drawn else []), "\n".join(map(_file, _SCRIPTS))]
    return template.substitute(
        title=html.escape(visible(title)),
        style_hash=_hash(style),
        hashes=" ".join(map(_hash, scripts)),
        style=style,
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
        data=_embedded(document(title, models) | {"notes": list(notes)}),
    )


@cache
def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(document: dict[str, Any]) -> str:
    """JSON that nothing in it can end: no character that HTML knows."""
    text = json.dumps(_legible(document), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _legible(value: Any) -> Any:
    """The same, with a sign in place of each character that is none."""
    if isinstance(value, str):
        return "\n".join(map(visible, value.split("\n")))
    if isinstance(value, dict):
        return {key: _legible(each) for key, each in value.items()}
    return list(map(_legible, value)) if isinstance(value, (list, tuple)) else value


def _reported(report: Report) -> Shown:
    plan = report.plan
    return Shown(
        plan.model,
        [
            ("parameters", wording.count(plan.parameters)),
            ("tracing", plan.tier),
            ("recipe", plan.recipe) if plan.recipe else ("method", plan.method),
            *((status, str(number)) for status, number in status_counts(plan).items() if number),
            ("written", "nothing" if report.after is None else wording.count(report.weights_written)),
            *((("seed", str(report.seed)),) if report.seed is not None else ()),
            ("time", wording.duration(report.seconds)),
        ],
        plan.flow,
        plan,
        report.before,
        report.after,
        notes=list(_said(plan)),
    )


def _alone(report: WeightsReport) -> Shown:
    about = [("weights alone", facts(report)), ("time", wording.duration(report.seconds))]
    return Shown(report.name, about, tensors=report.rows, notes=report.notes)


def _said(plan: Plan) -> Iterator[str]:
    """What stands beside the layers."""
    yield from plan.warnings
    yield from (f"operation unknown to autoinit: {each}" for each in plan.unsupported)
    yield from (f"no operation uses {each.name}" for each in plan.others if each.kind == "uncalled")
    yield from plan.notes
    if plan.rest:
        yield rest_line(plan)


def _checked(result: CheckResult) -> Shown:
    report = result.report
    return Shown(
        result.model,
        [
            ("layers", str(result.layers)),
            ("findings", counted(result.counts)),
            *((("suppressed", str(len(result.suppressed))),) if result.suppressed else ()),
            *((("recipe", result.recipe),) if result.recipe else ()),
            ("time", wording.duration(result.seconds)),
        ],
        flow=None if report is None else report.plan.flow,
        plan=None if report is None else report.plan,
        before={} if report is None else report.before,
        findings=result.findings,
        notes=[*([f"fixed: {', '.join(result.fixed)}"] if result.fixed else []), *result.unused_ignores, *result.notes],
    )


def _failed(failure: CheckFailure) -> Shown:
    return Shown(failure.model, failure=reason(failure))
