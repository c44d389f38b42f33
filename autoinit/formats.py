"""The formats of reports, checks and signals: one table, from which methods, commands and documents are made.

A value hands itself in here and so knows no formatter; a formatter is loaded when it is first asked for. To add a
format: a module with its function, and its row in `FORMATS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pkgutil import resolve_name
from types import NoneType
from typing import IO, TYPE_CHECKING, Any, ClassVar, Literal

from autoinit._escaping import log_line
from autoinit.errors import ArgumentError
from autoinit.errors.arguments import refusal, require, shown

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

Kind = Literal["report", "check", "signal", "scaling", "coordinates", "comparison"]
"""What is shown: a sequence of `Report`, a `CheckRun`, a sequence of the signal's `State`, a `Scaling`, a
`CoordinateCheck`, or a `Comparison`.
"""
PLAIN_WIDTH = 100


@dataclass(frozen=True)
class Format:
    """A form of one kind of value.

    Attributes:
        help: what it is for.
        text: `module:function` that takes the value and gives the text, without a newline at its end.
        lines: in its place, `module:function` that takes the value, a console's options and `full`, and gives the lines
            to print there.
        given: `module:function` that gives what `text` takes beside the value.
    """

    help: str
    text: str = ""
    lines: str = ""
    given: str = ""


FORMATS: Mapping[Kind, Mapping[str, Format]] = {
    "report": {
        "table": Format("people", lines="autoinit.reporting.table:console_lines"),
        "json": Format("programs; versioned", "autoinit.reporting.jsons:dumps"),
        "markdown": Format("pull requests, model cards and notebooks", "autoinit.reporting.markdown:render"),
        "html": Format("one page with the model's graph", "autoinit.reporting.pages.page:of_reports"),
    },
    "check": {
        "text": Format(
            "people; `--verbose` adds infos and what is suppressed",
            lines="autoinit.reporting.findings.text:console_lines",
        ),
        "json": Format(
            "programs; versioned, `autoinit/reporting/findings/schema.json` is the schema",
            "autoinit.reporting.findings.jsons:dumps",
        ),
        "github": Format("annotations at the lines of a pull request", "autoinit.reporting.findings.github:commands"),
        "sarif": Format(
            "SARIF 2.1.0, for GitHub's code scanning and others",
            "autoinit.reporting.findings.sarif:dumps",
            given="autoinit.checking.rules.registry:rules",
        ),
        "junit": Format("test reports of GitLab, Jenkins and others", "autoinit.reporting.findings.junit:dumps"),
        "markdown": Format("a comment or a job summary", "autoinit.reporting.findings.markdown:render"),
        "html": Format("one page with the model's graph", "autoinit.reporting.pages.page:of_run"),
    },
    "signal": {
        "table": Format("people", lines="autoinit.reporting.signals.table:console_lines"),
        "json": Format("programs; versioned", "autoinit.reporting.signals.jsons:dumps"),
    },
    "scaling": {
        "table": Format("people", lines="autoinit.reporting.scalings.table:console_lines"),
        "json": Format("programs; versioned", "autoinit.reporting.scalings.jsons:dumps"),
    },
    "coordinates": {
        "table": Format("people", lines="autoinit.reporting.scalings.coordinates:console_lines"),
        "json": Format("programs; versioned", "autoinit.reporting.scalings.coordinates:dumps"),
    },
    "comparison": {
        "table": Format("people", lines="autoinit.reporting.comparisons.table:console_lines"),
        "json": Format("programs; versioned", "autoinit.reporting.comparisons.jsons:dumps"),
        "html": Format("notebooks", "autoinit.reporting.comparisons.table:html"),
    },
}
"""What `--format` offers, by kind."""

_TOOLS = {
    "states": "autoinit.reporting.signals.states:states",
    "figure": "autoinit.reporting.signals.plotting:figure",
    "save figure": "autoinit.reporting.signals.plotting:save",
    "page of plan": "autoinit.reporting.pages.page:of_plan",
    "page of signal": "autoinit.reporting.pages.page:of_signal",
    "page of dataflow": "autoinit.reporting.pages.page:of_dataflow",
    "resolutions": "autoinit.resolving:resolve",
    "report in a notebook": "autoinit.reporting.notebook:of_report",
    "check in a notebook": "autoinit.reporting.notebook:of_check",
    "signal in a notebook": "autoinit.reporting.notebook:of_signal",
    "page in a notebook": "autoinit.reporting.notebook:of_page",
    "coordinates figure": "autoinit.reporting.scalings.plotting:figure",
    "comparison figure": "autoinit.reporting.comparisons.plotting:figure",
}
"""What takes more than a value, so that only methods of their own give it."""


class Printable:
    """A value that shows itself: `print(value)` as plain text, rich consoles and notebooks as wide as they are.

    A class names the kind of its formats, the first of which is for people.
    """

    _kind: ClassVar[Kind]

    def _as_kind(self) -> Any:
        """What the formats of its kind take."""
        return self

    def __str__(self) -> str:
        return self.to(names(self._kind)[0])

    def print(self, file: IO[str] | None = None, console: Console | None = None, *, full: bool = False) -> None:
        """Print for people: coloured in a terminal, plain in a file or a pipe.

        Args:
            file: where to, standard output by default.
            console: a rich console to print on, in place of `file`.
            full: nothing is left out, neither rows that many layers or tensors share nor suppressed findings.
        """
        show(self._kind, self._as_kind(), names(self._kind)[0], file, console, full=full)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        return lines(self._kind, self._as_kind(), names(self._kind)[0], options)

    def to(self, form: str) -> str:
        """The whole value in a format that the command's `--format` offers.

        Raises:
            ArgumentError: there is no such format.
        """
        return text(self._kind, self._as_kind(), form)

    def to_json(self) -> str:
        """The whole value as JSON; the module in its row of `FORMATS` documents the fields."""
        return self.to("json")


def names(kind: Kind) -> tuple[str, ...]:
    """The formats that there are of a kind."""
    return tuple(FORMATS[kind])


def text(kind: Kind, value: Any, name: str, *, full: bool = False) -> str:
    """A value in a format, without a newline at its end; what is for people plain and 100 characters wide.

    Args:
        kind: what the value is.
        value: what to show.
        name: of the format.
        full: what is for people leaves nothing out.

    Raises:
        ArgumentError: there is no such format.
    """
    form = _format(kind, name)
    if form.lines:
        from rich.console import Console

        plain = Console(file=StringIO(), width=PLAIN_WIDTH, force_terminal=False)
        return "\n".join(line.plain for line in lines(kind, value, name, plain.options, full=full))
    made: str = resolve_name(form.text)(value, *([resolve_name(form.given)()] if form.given else []))
    return made


def lines(kind: Kind, value: Any, name: str, options: ConsoleOptions, *, full: bool = False) -> Iterator[Text]:
    """A value on a console, line by line, in a format that is for people."""
    for line in resolve_name(_format(kind, name).lines)(value, options, full=full):
        line.plain = log_line(line.plain)
        yield line


def show(
    kind: Kind,
    value: Any,
    name: str,
    file: IO[str] | None = None,
    console: Console | None = None,
    *,
    full: bool = False,
) -> None:
    """Print a value in a format that is for people: coloured and as wide as the terminal, else plain and 100 wide.

    Args:
        kind: what the value is.
        value: what to show.
        name: of the format.
        file: where to, standard output by default.
        console: a rich console to print on, in place of `file`.
        full: nothing is left out.
    """
    from rich.console import Console

    require("console", console, (Console, NoneType), "a console of rich, or None")
    require("full", full, bool, "True or False")
    if file is not None:
        try:
            file.write("")
        except Exception as error:  # whatever a file raises that is none, or closed, or takes bytes
            raise refusal("file", file, "a file that is open for writing text, or None") from error
    target = console if console is not None else Console(file=file, highlight=False)
    if console is None and not target.is_terminal and "COLUMNS" not in os.environ:
        target.width = PLAIN_WIDTH
    for line in lines(kind, value, name, target.options, full=full):
        target.print(line, soft_wrap=True, highlight=False)


def _format(kind: Kind, name: str) -> Format:
    if not isinstance(name, str) or name not in FORMATS[kind]:
        raise ArgumentError(f"no format {shown(name)}; there are {', '.join(names(kind))}")
    return FORMATS[kind][name]


def tool(name: str) -> Callable[..., Any]:
    """The function that makes a form which takes more than a value."""
    found: Callable[..., Any] = resolve_name(_TOOLS[name])
    return found
