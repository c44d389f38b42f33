"""A check as SARIF 2.1.0 (OASIS, Static Analysis Results Interchange Format); numbers in brackets are its sections.

One run for all models, because GitHub takes one run of a tool and category. Its driver lists every rule with its
document, found or not. A result bears

    level                   error, warning, or note for an info
    message                 the finding's message, and as Markdown with the fix as code
    locations               the line that wrote the weight, where it is known, relative to %SRCROOT% below the working
                            directory; and the parameter or module, `model::blocks.0.fc1.weight`
    partialFingerprints     of model, rule, layer, parameter and rows: another seed, line or wording leaves it alone
    suppressions            empty for what counts; for the others, what took them out
    properties              what else the finding holds, null where unknown or not a finite number

Models that could not be checked are notifications of level error and make `executionSuccessful` false. Notes and unused
ignores are notifications too. Code scanning at GitHub refuses a file with a result that has no source line; check under
`autoinit.recording()`, as the command does, so that all have one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from autoinit._version import __version__
from autoinit.checking.findings import CheckResult, CheckRun, Finding
from autoinit.checking.rules.registry import Rule
from autoinit.reporting._markdown import prose
from autoinit.reporting.findings.jsons import finite
from autoinit.reporting.findings.locations import repository_path
from autoinit.reporting.findings.summary import reason
from autoinit.tracing.dataflow import SourceLine

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_SOURCES = "%SRCROOT%"
_FINGERPRINT = "autoinitFinding/v1"
_NOT_CHECKED, _NOTE, _UNUSED_IGNORE = "model-not-checked", "note", "unused-ignore"
_NOTIFICATIONS = {
    _NOT_CHECKED: "A model could not be loaded, traced or checked.",
    _NOTE: "Something that a reader should know about loading, tracing or checking.",
    _UNUSED_IGNORE: "An ignore of the configuration matched no finding.",
}


def dumps(run: CheckRun, rules: Mapping[str, Rule]) -> str:
    """The run as an indented SARIF log, without a newline at its end.

    rules: by their codes; findings of other rules are given without a document.
    """
    return json.dumps(_log(run, rules), indent=2, allow_nan=False)


def _log(run: CheckRun, rules: Mapping[str, Rule]) -> dict[str, Any]:
    found = {each.code for result in run.results for each in _all_findings(result)}
    codes = sorted(found | set(rules))
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "autoinit",
                        "version": __version__,
                        "rules": [_rule(code, rules.get(code)) for code in codes],
                        "notifications": [
                            {"id": name, "shortDescription": {"text": text}} for name, text in _NOTIFICATIONS.items()
                        ],
                    }
                },
                "invocations": [_invocation(run)],
                "originalUriBaseIds": {_SOURCES: {"description": {"text": "The directory that the check ran in."}}},
                "results": list(_results(run, codes)),
                "properties": {"models": [_model(result) for result in run.results]},
            }
        ],
    }


def _all_findings(result: CheckResult) -> Iterator[Finding]:
    yield from result.findings
    yield from (each.finding for each in result.suppressed)


def _rule(code: str, rule: Rule | None) -> dict[str, Any]:
    """The rule's reportingDescriptor [3.49]; its document is the help, the first paragraph of it the description."""
    if rule is None:
        return {"id": code}
    first = " ".join(rule.document.strip().split("\n\n")[0].split())
    return {
        "id": code,
        "name": _identifier(rule.name),
        "shortDescription": {"text": rule.name},
        "fullDescription": {"text": first},
        "help": {"text": rule.document, "markdown": rule.document},
        "defaultConfiguration": {"level": _LEVELS.get(rule.severity, "warning")},
        "properties": {"severity": rule.severity, "tags": ["initialization"]},
    }


def _identifier(name: str) -> str:
    """`std too small` as `StdTooSmall` [3.49.7]."""
    return "".join(word[:1].upper() + word[1:] for word in re.findall(r"\w+", name))


def _invocation(run: CheckRun) -> dict[str, Any]:
    """How the run went [3.20]; findings make it no failure."""
    notes = [_notification(_NOT_CHECKED, "error", f"{each.model}: {reason(each)}") for each in run.failures]
    notes += [_notification(_NOTE, "note", f"{each.model}: {note}") for each in run.results for note in each.notes]
    notes += [_notification(_NOTE, "note", note) for note in run.notes]
    unused = [
        _notification(_UNUSED_IGNORE, "warning", f"{each.model}: {ignore}")
        for each in run.results
        for ignore in each.unused_ignores
    ]
    return {
        "executionSuccessful": not run.failures,
        "exitCode": run.exit_code,
        "toolExecutionNotifications": notes,
        "toolConfigurationNotifications": unused,
    }


def _notification(kind: str, level: str, text: str) -> dict[str, Any]:
    index = list(_NOTIFICATIONS).index(kind)
    return {"descriptor": {"id": kind, "index": index}, "level": level, "message": {"text": _escaped(text)}}


def _model(result: CheckResult) -> dict[str, Any]:
    return {
        "name": result.model,
        "ok": result.ok,
        "failLevel": result.fail_level,
        "layers": result.layers,
        "recipe": result.recipe or None,
        "fixed": list(result.fixed),
    }


def _results(run: CheckRun, codes: Sequence[str]) -> Iterator[dict[str, Any]]:
    seen: Counter[str] = Counter()
    for result in run.results:
        for finding in result.findings:
            yield _result(result.model, finding, codes, [], seen)
        for each in result.suppressed:
            # External [3.35.2]: the source itself says nothing of it.
            reason = [{"kind": "external", "justification": each.by}]
            yield _result(result.model, each.finding, codes, reason, seen)


def _result(
    model: str, finding: Finding, codes: Sequence[str], suppressions: list[dict[str, str]], seen: Counter[str]
) -> dict[str, Any]:
    """A result [3.27]. `suppressions` is there in all results of a run or in none [3.27.23]."""
    fix = f"\n\n```python\n{finding.code_below}\n```" if finding.code_below else ""
    return {
        "ruleId": finding.code,
        "ruleIndex": codes.index(finding.code),
        "level": _LEVELS[finding.severity],
        "message": {"text": _escaped(finding.message), "markdown": _escaped(prose(finding.message) + fix)},
        "locations": [_location(model, finding)],
        "partialFingerprints": {_FINGERPRINT: _fingerprint(model, finding, seen)},
        "suppressions": suppressions,
        "properties": {
            "model": model,
            "severity": finding.severity,
            "layer": finding.layer,
            "param": finding.param or None,
            "rows": [list(each) for each in finding.rows],
            "expectedStd": finite(finding.expected_std),
            "actualStd": finite(finding.actual_std),
            "recipe": finding.recipe or None,
            "fix": finding.fix or None,
        },
    }


def _location(model: str, finding: Finding) -> dict[str, Any]:
    name = finding.param or finding.layer
    logical = {
        "name": name.rpartition(".")[2] or model,
        "fullyQualifiedName": f"{model}::{name}" if name else model,
        "kind": "member" if finding.param else "module",
    }
    return {**_physical(finding.location), "logicalLocations": [logical]}


def _physical(location: SourceLine | None) -> dict[str, Any]:
    """The line as a physicalLocation [3.29], or nothing where no file is known; lines count from 1 [3.30.5]."""
    path = repository_path(location)
    if path is None or location is None:
        return {}
    artifact = {"uri": path.as_uri()} if path.is_absolute() else {"uri": quote(path.as_posix()), "uriBaseId": _SOURCES}
    region = {"region": {"startLine": location.line}} if location.line > 0 else {}
    return {"physicalLocation": {"artifactLocation": artifact, **region}}


def _fingerprint(model: str, finding: Finding, seen: Counter[str]) -> str:
    """Of what makes a finding the same one as before; those that share all of it are numbered [3.27.17]."""
    digest = _digest((model, finding.code, finding.layer, finding.param, str(finding.rows)))
    seen[digest] += 1
    return f"{digest}:{seen[digest]}"


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:32]


def _escaped(text: str) -> str:
    """Braces doubled, because single ones are placeholders [3.11.5]."""
    return text.replace("{", "{{").replace("}", "}}")
