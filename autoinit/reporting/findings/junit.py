"""A check as JUnit XML, as CI systems read it: a test suite for each model, a test case for each layer with findings.

A case fails when its layer has a finding at or above the model's fail level; findings below it, and what the baseline
or an ignore took out, are its output. A layer with nothing but suppressed findings is skipped. A model without any has
one case, which passes. A model that could not be checked is an error.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Container, Sequence

from autoinit.checking.findings import CheckFailure, CheckResult, CheckRun, Finding, Severity
from autoinit.reporting import _wording as wording
from autoinit.reporting.findings.locations import path_of, spelled
from autoinit.reporting.findings.summary import reason

_WHOLE = "the model"
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COUNTED = {
    "tests": "testcase",
    "failures": "testcase/failure",
    "errors": "testcase/error",
    "skipped": "testcase/skipped",
}


def dumps(run: CheckRun) -> str:
    """The run as an indented XML document, without a newline at its end."""
    root = ET.Element("testsuites", {"name": "autoinit check"})
    root.extend([_suite(result) for result in run.results])
    root.extend([_not_checked(failure) for failure in run.failures])
    for suite in root:
        _count(suite, {name: len(suite.findall(path)) for name, path in _COUNTED.items()})
    _count(root, {name: sum(int(suite.attrib[name]) for suite in root) for name in _COUNTED})
    root.set("time", f"{sum(result.seconds for result in run.results):.3f}")
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode")


def _count(element: ET.Element, counts: dict[str, int]) -> None:
    element.attrib.update({name: str(number) for name, number in counts.items()})


def _suite(result: CheckResult) -> ET.Element:
    suite = ET.Element("testsuite", {"name": _xml(result.model), "time": f"{result.seconds:.3f}"})
    suppressed = [each.finding for each in result.suppressed]
    layers = dict.fromkeys(finding.layer for finding in (*result.findings, *suppressed))
    grave = {finding.severity for finding in result.failing}
    suite.extend([_case(result, layer, grave) for layer in layers])
    if not layers:
        name = f"no findings in {wording.plural(result.layers, 'layer')}"
        ET.SubElement(suite, "testcase", {"classname": _xml(result.model), "name": name})
    said = [*(f"note: {note}" for note in result.notes), *result.unused_ignores]
    if result.fixed:
        said.append(f"fixed: {', '.join(result.fixed)}")
    _output(suite, said)
    return suite


def _case(result: CheckResult, layer: str, grave: Container[Severity]) -> ET.Element:
    """A layer's findings; those of `grave` severities fail it."""
    found = [each for each in result.findings if each.layer == layer]
    failing = [each for each in found if each.severity in grave]
    known = [each for each in result.suppressed if each.finding.layer == layer]
    places = [each.location for each in (*failing, *found, *(each.finding for each in known)) if each.location]
    case = ET.Element("testcase", {"classname": _xml(result.model), "name": _xml(layer or _WHOLE)})
    path = path_of(places[0]) if places else None
    if path is not None:
        case.attrib.update({"file": _xml(path.as_posix()), "line": str(places[0].line)})
    if failing:
        codes = ", ".join(dict.fromkeys(each.code for each in failing))
        failure = ET.SubElement(case, "failure", {"type": codes, "message": _xml(failing[0].message)})
        failure.text = _xml("\n\n".join(_described(each) for each in failing))
    elif not found:
        ET.SubElement(case, "skipped", {"message": _xml("; ".join(f"suppressed: {each.by}" for each in known))})
    milder = [_described(each) for each in found if each.severity not in grave]
    _output(case, [*milder, *(f"suppressed ({each.by}): {_described(each.finding)}" for each in known)])
    return case


def _described(finding: Finding) -> str:
    """`file:line: CODE severity: message`, and the fix below."""
    place = spelled(finding.location)
    head = f"{place}: " if place else ""
    fix = f"\nfix:\n{finding.code_below}" if finding.code_below else ""
    return f"{head}{finding.code} {finding.severity}: {finding.message}{fix}"


def _output(element: ET.Element, said: Sequence[str]) -> None:
    if said:
        ET.SubElement(element, "system-out").text = _xml("\n\n".join(said))


def _not_checked(failure: CheckFailure) -> ET.Element:
    suite = ET.Element("testsuite", {"name": _xml(failure.model), "time": "0.000"})
    case = ET.SubElement(suite, "testcase", {"classname": _xml(failure.model), "name": "can be checked"})
    error = ET.SubElement(case, "error", {"type": "not checked", "message": _xml(reason(failure))})
    error.text = _xml(failure.error)
    return suite


def _xml(text: str) -> str:
    """The text without characters that XML 1.0 cannot hold."""
    return _NOT_IN_XML.sub("\ufffd", text)
