"""A check for people: in a terminal of any width, a log or a file."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.text import Text

from autoinit.checking.findings import CheckFailure, CheckResult, CheckRun, Finding
from autoinit.reporting import _wording as wording
from autoinit.reporting.findings.alike import AlikeFindings, entries
from autoinit.reporting.findings.locations import spelled
from autoinit.reporting.findings.summary import counted, reason, summary

if TYPE_CHECKING:
    from rich.console import ConsoleOptions

_LEAST_WIDTH = 40
_INDENT = "    "
_HINT = " (--verbose shows them)"
_JOINT = "\0"

_STYLES = {"error": "bold red", "warning": "bold yellow", "info": "bold cyan"}


def console_lines(run: CheckRun, options: ConsoleOptions, *, full: bool = False) -> Iterator[Text]:
    """The run on a console."""
    return lines(run, options.max_width, full=full)


def lines(run: CheckRun, width: int, *, full: bool = False) -> Iterator[Text]:
    """The lines, none wider than `width` (from 40 on) unless a path, a name or a line of code is.

    full: shows infos and what is suppressed too, and each of many equal findings.
    """
    width = max(width, _LEAST_WIDTH)
    for result in run.results:
        yield from _model(result, width, full=full)
        yield Text()
    for failure in run.failures:
        yield from _failure(failure, width)
    for note in run.notes:
        yield from _note(note, width)
    if run.failures or run.notes:
        yield Text()
    hidden = _HINT if run.counts["info"] and not full else ""
    style = "bold red" if run.failures else _gravest(run)
    yield from (Text(line, style=style) for line in wrap(summary(run, hidden), width))


def _gravest(run: CheckRun) -> str:
    """The style of the gravest finding; green where nothing was found."""
    found = [_STYLES[severity] for severity, number in run.counts.items() if number]
    return found[0] if found else "bold green"


def _model(result: CheckResult, width: int, *, full: bool) -> Iterator[Text]:
    facts = f"({wording.plural(result.layers, 'layer')}): {counted(result.counts)}"
    if result.recipe:
        facts += f"; recipe {result.recipe}"
    for index, line in enumerate(wrap(f"{_joined(result.model)} {facts}", width, subsequent_indent="  ")):
        text = Text(line.replace(_JOINT, " "))
        if index == 0:
            text.stylize("bold underline", 0, len(result.model))
        yield text
    shown = [finding for finding in result.findings if full or finding.severity != "info"]
    for entry in map(AlikeFindings, shown) if full else entries(shown):
        yield from _entry(entry, width)
    if full:
        for known in result.suppressed:
            yield from _finding(known.finding, width, f" (suppressed: {known.by})")
    if result.fixed:
        said = f"fixed {wording.plural(len(result.fixed), 'layer')}: {', '.join(result.fixed)}"
        yield from (Text(line, style="green") for line in _wrapped(said, width))
    for unused in result.unused_ignores:
        yield from (Text(line, style="yellow") for line in _wrapped(unused, width))
    for note in result.notes:
        yield from _note(note, width)


def _entry(entry: AlikeFindings, width: int) -> Iterator[Text]:
    yield from _finding(entry.finding, width)
    if entry.others:
        said = f"the same: {entry.siblings}"
        yield from (
            Text(line, style="magenta")
            for line in _wrapped(said, width, initial_indent=_INDENT, subsequent_indent=_INDENT * 2)
        )
    for index, line in enumerate(entry.finding.code_below.splitlines()):
        label = "fix: " if index == 0 else "     "
        text = Text(f"{_INDENT}{label}{line}")
        text.stylize("dim", 0, len(_INDENT + label))
        text.stylize("green", len(_INDENT + label))
        yield text


def _finding(finding: Finding, width: int, remark: str = "") -> Iterator[Text]:
    """`file:line: CODE severity: message`, the file first so that terminals link it."""
    place = spelled(finding.location)
    head = f"{place}: " if place else ""
    kind = f"{finding.code} {finding.severity}"
    for index, line in enumerate(_wrapped(f"{_joined(head + kind)}{remark}: {finding.message}", width)):
        text = Text(line, style="dim" if remark else "")
        if index == 0 and not remark:
            start = len(head)
            text.stylize("bold", 0, len(place))
            text.stylize(_STYLES[finding.severity], start, start + len(kind))
            begin = start + len(kind) + 2
            if finding.layer and line.startswith(finding.layer, begin):
                text.stylize("bold", begin, begin + len(finding.layer))
        yield text


def _failure(failure: CheckFailure, width: int) -> Iterator[Text]:
    head = f"{failure.model}: not checked"
    for index, line in enumerate(_wrapped(f"{_joined(head)}: {reason(failure)}", width)):
        text = Text(line)
        if index == 0:
            text.stylize("bold red", 0, len(head))
        yield text


def _note(note: str, width: int) -> Iterator[Text]:
    yield from (Text(line, style="dim") for line in _wrapped(f"note: {note}", width))


def _joined(text: str) -> str:
    """The text with spaces that no line breaks at."""
    return text.replace(" ", _JOINT)


def _wrapped(text: str, width: int, *, initial_indent: str = "", subsequent_indent: str = _INDENT) -> list[str]:
    """Lines that never break a word, so that paths, names and links stay whole."""
    broken = wrap(
        text,
        width,
        initial_indent=initial_indent,
        subsequent_indent=subsequent_indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_JOINT, " ") for line in broken]
