"""Reports as a Markdown document: for pull requests, model cards and notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from autoinit.plans.plan import Report
from autoinit.recognising.alone import WeightsReport
from autoinit.reporting import _wording as wording
from autoinit.reporting import alone
from autoinit.reporting._markdown import cell, code, prose
from autoinit.reporting._rows import Row, kind_counts, rest_line, rows_of, status_counts


def render(reports: Sequence[Report | WeightsReport]) -> str:
    """One table row for each layer and slice, however long the model; then what the table leaves out."""
    return "\n\n".join(
        "\n".join(alone.markdown(report) if isinstance(report, WeightsReport) else _lines(report)) for report in reports
    )


def _lines(report: Report) -> Iterator[str]:
    plan = report.plan
    seed = "" if report.seed is None else f", seed {report.seed}"
    residual = "" if plan.residual == "keep" else f", residual {plan.residual}"
    heads = "" if plan.heads == "xavier" else f", heads {plan.heads}"
    preset = f", preset {prose(plan.preset)}" if plan.preset else ""
    yield f"## autoinit: {prose(plan.model)}"
    yield ""
    how = f"recipe {prose(plan.recipe)}" if plan.recipe else f"method {plan.method}"
    yield f"{wording.count(plan.parameters)} parameters, {plan.tier} tracing, {how}{residual}{heads}{preset}{seed}."
    yield ""
    for warning in plan.warnings:
        yield f"**Warning: {prose(warning)}**"
        yield ""
    yield f"| layer | op | feeds | reason | scheme | fan | std before | std {_outcome(report)} | remarks |"
    yield "|---|---|---|---|---|---:|---:|---:|---|"
    for row in rows_of(report, full=True):
        yield _table_row(code(row.name), row)
        for part in row.slices:
            yield _table_row(prose(part.name), part)
    yield ""
    yield from _lists(report)
    counts = ", ".join(f"{status} {number}" for status, number in status_counts(plan).items())
    written = "nothing written"
    if report.after is not None:
        written = f"{wording.count(report.weights_written)} weights written"
    yield f"{counts}; {written}; {wording.duration(report.seconds)}."


def _outcome(report: Report) -> str:
    return "planned" if report.after is None else "after"


def _table_row(name: str, row: Row) -> str:
    before = row.was
    cells = (row.op, row.nonlinearity, row.why, row.scheme, row.fan, before, row.result, "; ".join(row.remarks))
    return f"| {' | '.join(map(cell, (name, *map(prose, cells))))} |"


def _lists(report: Report) -> Iterator[str]:
    plan = report.plan
    entries = [f"Operation unknown to autoinit: {code(name)}" for name in plan.unsupported]
    uncalled = [other.name for other in plan.others if other.kind == "uncalled"]
    entries += [f"Weight that no operation used: {code(name)}" for name in uncalled]
    entries += [f"Note: {prose(note)}" for note in plan.notes]
    entries += [prose(rest_line(plan))] if plan.rest else []
    kinds = kind_counts(plan)
    if kinds:
        summary = ", ".join(f"{kind} {number}" for kind, number in kinds.items())
        entries.append(f"Left as they are: {wording.plural(len(plan.others), 'parameter')} ({summary})")
    yield from (f"- {entry}" for entry in entries)
    if entries:
        yield ""
