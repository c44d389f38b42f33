"""A check as JSON, version 1. `schema.json` beside this module is the same as a JSON Schema (draft 2020-12).

The document is one object:

    version     1; a change that could break a reader raises it
    tool        {"name": "autoinit", "version"}
    exit_code   0 clean, 1 findings at or above the fail level, 2 a model could not be checked
    exit_zero   whether findings were asked to leave the exit status at 0
    counts      {"error", "warning", "info", "suppressed", "unused_ignores", "not_checked"} over all models
    models      one object for each model that was checked, in the order given:
                    model           its name: the spec, or the class
                    ok              whether no finding is at or above the fail level
                    fail_level      "error", "warning" or "info"
                    layers          how many weight layers were looked at
                    recipe          that the weights were held against; null for the plan alone
                    counts          {"error", "warning", "info", "suppressed", "unused_ignores"}
                    findings        in order of the dataflow, gravest first within a layer
                    suppressed      {"by", "finding"}: what the baseline or an ignore took out; counted nowhere else
                    unused_ignores  ignores that matched nothing, in words
                    fixed           layers that were written
                    notes           what a reader should know about tracing and loading
                    seconds         tracing, planning and checking
    failures    {"model", "error"}: models that could not be checked
    notes       about the run as a whole

A finding is

    code            of the rule, permanent
    severity        "error", "warning" or "info"
    layer           its name in the plan; "" for the model as a whole
    param           the parameter's name; null where the finding is not about one
    message         value, expected, why it matters and what to do, in one paragraph
    expected_std, actual_std    of the elements that the finding is about
    rows            [[start, stop], ...], half-open runs of output rows; [] for the whole weight
    recipe          what produced the weight
    fix             lines of code to paste
    location        {"file", "line", "function"}: the line that last wrote the weight, else the one that built or first
                    used it; the file as Python knows it

What is unknown or absent is null, and so are numbers that JSON cannot hold (not a number, infinities).
"""

from __future__ import annotations

import json
import math
from typing import Any

from autoinit._version import __version__
from autoinit.checking.findings import CheckResult, CheckRun, Finding

VERSION = 1


def dumps(run: CheckRun) -> str:
    """The run as an indented JSON document, without a newline at its end."""
    return json.dumps(_document(run), indent=2, allow_nan=False)


def _document(run: CheckRun) -> dict[str, Any]:
    return {
        "version": VERSION,
        "tool": {"name": "autoinit", "version": __version__},
        "exit_code": run.exit_code,
        "exit_zero": run.exit_zero,
        "counts": {
            **run.counts,
            "suppressed": sum(len(result.suppressed) for result in run.results),
            "unused_ignores": sum(len(result.unused_ignores) for result in run.results),
            "not_checked": len(run.failures),
        },
        "models": [_model(result) for result in run.results],
        "failures": [{"model": failure.model, "error": failure.error} for failure in run.failures],
        "notes": list(run.notes),
    }


def _model(result: CheckResult) -> dict[str, Any]:
    return {
        "model": result.model,
        "ok": result.ok,
        "fail_level": result.fail_level,
        "layers": result.layers,
        "recipe": result.recipe or None,
        "counts": {
            **result.counts,
            "suppressed": len(result.suppressed),
            "unused_ignores": len(result.unused_ignores),
        },
        "findings": [_finding(finding) for finding in result.findings],
        "suppressed": [{"by": each.by, "finding": _finding(each.finding)} for each in result.suppressed],
        "unused_ignores": list(result.unused_ignores),
        "fixed": list(result.fixed),
        "notes": list(result.notes),
        "seconds": finite(result.seconds),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    place = finding.location
    return {
        "code": finding.code,
        "severity": finding.severity,
        "layer": finding.layer,
        "param": finding.param or None,
        "message": finding.message,
        "expected_std": finite(finding.expected_std),
        "actual_std": finite(finding.actual_std),
        "rows": [list(run) for run in finding.rows],
        "recipe": finding.recipe or None,
        "fix": finding.fix or None,
        "location": None if place is None else {"file": place.file, "line": place.line, "function": place.function},
    }


def finite(value: float | None) -> float | None:
    """The number, or None where JSON cannot hold it."""
    return value if value is not None and math.isfinite(value) else None
