"""A check as workflow commands of GitHub Actions: annotations at the lines that wrote the weights.

    ::error file=models/vit.py,line=12,title=INI102 blocks.0.fc1::blocks.0.fc1: std 0.08, expected ...

An info is a notice. GitHub shows only the first few of a step: the gravest come first, and of those that say the same
of sibling layers one comes before all the others. Files below the working directory are named relative to it, as GitHub
expects. What the baseline or an ignore took out is left out. The last lines, notes and the summary, are no commands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from autoinit._escaping import log_line, visible
from autoinit.checking.findings import CheckRun, Finding
from autoinit.reporting.findings.alike import entries
from autoinit.reporting.findings.locations import repository_path
from autoinit.reporting.findings.summary import reason, summary

_COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}


def commands(run: CheckRun) -> str:
    """One line for each annotation, then the notes and the summary; without a newline at its end."""
    notes = [*run.notes, *(f"{result.model}: {note}" for result in run.results for note in result.notes)]
    said = [*(f"note: {' '.join(note.split())}" for note in notes), summary(run)]
    return "\n".join((*_annotations(run), *map(log_line, said)))


def _annotations(run: CheckRun) -> Iterator[str]:
    for failure in run.failures:
        yield _command("error", {"title": f"{failure.model} could not be checked"}, reason(failure))
    for severity in run.counts:
        found = [
            entry
            for result in run.results
            for entry in entries([each for each in result.findings if each.severity == severity])
        ]
        yield from (_finding(entry.finding) for entry in found)
        yield from (_finding(other) for entry in found for other in entry.others)
    for result in run.results:
        for unused in result.unused_ignores:
            yield _command("warning", {"title": f"{result.model}: unused ignore"}, unused)


def _finding(finding: Finding) -> str:
    properties = {}
    path = repository_path(finding.location)
    if path is not None and finding.location is not None:
        properties = {"file": path.as_posix(), "line": str(finding.location.line)}
    properties["title"] = f"{finding.code} {finding.layer}".rstrip()
    message = f"{finding.message}\nfix:\n{finding.code_below}" if finding.code_below else finding.message
    return _command(_COMMANDS[finding.severity], properties, message)


def _command(name: str, properties: dict[str, str], message: str) -> str:
    listed = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{name} {listed}::{_data(message)}"


def _data(text: str) -> str:
    text = "".join(piece if piece in ("\r", "\n") else visible(piece) for piece in re.split("([\r\n])", text))
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
