"""A check as GitHub's Markdown, for a comment on a pull request: summary, a table for each model, infos folded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from autoinit.checking.findings import CheckResult, CheckRun, Finding
from autoinit.reporting import _wording as wording
from autoinit.reporting._markdown import cell, code, prose
from autoinit.reporting.findings.alike import AlikeFindings, entries
from autoinit.reporting.findings.locations import spelled
from autoinit.reporting.findings.summary import counted, reason, summary


def render(run: CheckRun) -> str:
    """The run as a document, without a newline at its end. Equal findings of sibling layers share a row."""
    return "\n".join(_lines(run))


def _lines(run: CheckRun) -> Iterator[str]:
    yield f"**autoinit check**: {prose(summary(run))}"
    said = [f"{code(failure.model)} could not be checked: {prose(reason(failure))}" for failure in run.failures]
    yield from _listed([*said, *(f"Note: {prose(note)}" for note in run.notes)])
    for result in run.results:
        yield from _model(result)


def _model(result: CheckResult) -> Iterator[str]:
    recipe = f"; recipe {prose(result.recipe)}" if result.recipe else ""
    facts = f"{wording.plural(result.layers, 'layer')}: {counted(result.counts)}{recipe}"
    yield from ("", f"### {code(result.model)}", "", facts)
    shown = [finding for finding in result.findings if finding.severity != "info"]
    infos = [finding for finding in result.findings if finding.severity == "info"]
    if shown:
        yield from ("", *_table(shown))
    if infos:
        yield from _folded(f"{len(infos)} of severity info", _table(infos))
    if result.suppressed:
        yield from _folded(
            f"{len(result.suppressed)} suppressed",
            (f"- {each.finding.code} {_layer(each.finding)}: {prose(each.by)}" for each in result.suppressed),
        )
    said = [f"Fixed: {', '.join(map(code, result.fixed))}"] if result.fixed else []
    said += [*map(prose, result.unused_ignores), *(f"Note: {prose(note)}" for note in result.notes)]
    yield from _listed(said)


def _listed(said: Sequence[str]) -> Iterator[str]:
    if said:
        yield from ("", *(f"- {line}" for line in said))


def _folded(title: str, lines: Iterator[str]) -> Iterator[str]:
    yield from ("", f"<details><summary>{title}</summary>", "", *lines, "", "</details>")


def _table(findings: Sequence[Finding]) -> Iterator[str]:
    yield "| severity | rule | layer | finding | where |"
    yield "|---|---|---|---|---|"
    for entry in entries(findings):
        yield _row(entry)


def _row(entry: AlikeFindings) -> str:
    finding = entry.finding
    layers = [_layer(finding)]
    if entry.others:
        layers.append(f"the same: {prose(entry.siblings)}")
    said = [prose(finding.message), *(code(line) for line in finding.code_below.splitlines())]
    place = spelled(finding.location)
    cells = (
        finding.severity,
        finding.code,
        "<br>".join(layers),
        "<br>".join(said),
        code(place) if place else "",
    )
    return f"| {' | '.join(map(cell, cells))} |"


def _layer(finding: Finding) -> str:
    return code(finding.layer) if finding.layer else "the model"
