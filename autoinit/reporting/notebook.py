"""Values in a notebook: reports, checks and signals as tables, a page in a frame. All text goes in escaped.

Where a notebook shows no HTML, the values' plain text stands.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from autoinit._escaping import visible
from autoinit.checking.findings import CheckResult
from autoinit.plans.plan import Report
from autoinit.reporting import _wording as wording
from autoinit.reporting._collapsing import collapse
from autoinit.reporting._rows import Row, rows_of, status_counts
from autoinit.reporting.findings.alike import AlikeFindings, entries
from autoinit.reporting.findings.locations import spelled
from autoinit.reporting.findings.summary import counted
from autoinit.reporting.signals.states import layer_lines, ratio, states
from autoinit.signal.report import SignalReport

_COLLAPSE_ABOVE = 40
_HEIGHT = 640
_CELL = "text-align: left; vertical-align: top"


def of_report(report: Report) -> str:
    """A row for each layer; of many, one for those that are alike."""
    plan = report.plan
    rows: list[Row] = list(rows_of(report, full=False))
    if sum(1 + len(row.slices) for row in rows) > _COLLAPSE_ABOVE:
        rows = collapse(rows)
    outcome = "planned" if report.after is None else "after"
    heads = ("layer", "n", "op", "feeds", "reason", "scheme", "fan", "std before", f"std {outcome}", "remarks")
    counts = ", ".join(f"{number} {status}" for status, number in status_counts(plan).items() if number)
    said = f"{plan.model}: {wording.count(plan.parameters)} parameters; {counts or 'no weight layers'}"
    return _table(said, heads, map(_report_cells, _with_slices(rows)), (*plan.warnings, *plan.notes))


def of_check(result: CheckResult) -> str:
    """A row for each finding; one for those that say the same of siblings."""
    said = f"{result.model}: {wording.plural(result.layers, 'layer')}, {counted(result.counts)}"
    return _table(
        said, ("severity", "rule", "layer", "finding", "where"), map(_finding_cells, entries(result.findings))
    )


def of_signal(report: SignalReport) -> str:
    """A row for each weight layer."""
    said = f"{report.model}: {report.kind} signal, {report.preserved} of {len(report)} layers with q in [1/2, 2]"
    return _table(said, ("layer", "op", "depth", "q", "p/q", "s/q", "grad"), _signal_cells(report), report.notes)


def of_page(page: str, title: str) -> str:
    """A page in a frame of its own, in which nothing but its scripts may run."""
    frame = f'style="width: 100%; height: {_HEIGHT}px; border: 0" sandbox="allow-scripts"'
    return f'<iframe title="{html.escape(title)}" {frame} srcdoc="{html.escape(page)}"></iframe>'


def _table(caption: str, heads: Sequence[str], rows: Iterator[Sequence[str]], notes: Sequence[str] = ()) -> str:
    head = "".join(_cell("th", each) for each in heads)
    body = "".join(f"<tr>{''.join(_cell('td', each) for each in row)}</tr>" for row in rows)
    said = "".join(f"<li>{_text(note)}</li>" for note in notes)
    listed = f"<ul>{said}</ul>" if said else ""
    return (
        f"<table><caption>{_text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{listed}"
    )


def _cell(tag: str, text: str) -> str:
    return f'<{tag} style="{_CELL}">{_text(text)}</{tag}>'


def _text(text: str) -> str:
    return html.escape(visible(text))


def _with_slices(rows: Sequence[Row]) -> Iterator[Row]:
    for row in rows:
        yield row
        yield from row.slices


def _report_cells(row: Row) -> Sequence[str]:
    before = row.was
    times = f"\u00d7{row.count}" if row.count > 1 else ""
    remarks = "; ".join(row.remarks)
    return row.name, times, row.op, row.nonlinearity, row.why, row.scheme, row.fan, before, row.result, remarks


def _finding_cells(entry: AlikeFindings) -> Sequence[str]:
    found = entry.finding
    same = f" The same: {entry.siblings}" if entry.others else ""
    return str(found.severity), found.code, found.layer, f"{found.message}{same}", spelled(found.location)


def _signal_cells(report: SignalReport) -> Iterator[Sequence[str]]:
    for line in layer_lines(states([report])):
        row = line.predicted[0] or line.measured[0]
        if row is not None:
            moments = (row.q, ratio(row.p, row.q), ratio(row.s, row.q), row.grad)
            yield line.name, wording.operation(line.op), str(line.depth), *map(wording.number, moments)
