"""The report as a table: for a terminal of any width, a log or a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.text import Text

from autoinit.plans.plan import Report
from autoinit.recognising.alone import WeightsReport
from autoinit.reporting import _wording as wording
from autoinit.reporting import alone
from autoinit.reporting._collapsing import collapse
from autoinit.reporting._columns import Cell, Column, fit, lay_out, natural_widths, total
from autoinit.reporting._grouping import group
from autoinit.reporting._rows import Row, kind_counts, rest_line, rows_of, status_counts

if TYPE_CHECKING:
    from rich.console import ConsoleOptions

_COLLAPSE_ABOVE = 60
_GROUP_ABOVE = 20
_LISTED = 12
_VIA_LEAST = 24
_OP_FROM = 78

_STATUS_STYLES = {"planned": "", "kept": "magenta", "skipped": "dim", "unresolved": "bold red"}
_REASON_STYLES = {"activation": "cyan", "mixed": "magenta", "unresolved": "bold red", "unused": "magenta"}


@dataclass(frozen=True)
class Glyphs:
    """The few signs that are not letters; plain ones for logs."""

    arrow: str = "->"
    rule: str = "-"
    times: str = "x"


PLAIN = Glyphs()
FANCY = Glyphs(arrow="→", rule="─", times="×")


def render(report: Report, width: int, *, full: bool = False, glyphs: Glyphs = PLAIN) -> Iterator[Text]:
    """The lines of the table, none wider than `width` (from 64 on).

    full: one row for each layer, also where a long model has many equal ones.
    """
    yield from _header(report, width)
    for warning in report.plan.warnings:
        yield from (Text(line, style="bold red") for line in wrap(f"Warning: {warning}", width, subsequent_indent="  "))
    yield Text()
    rows: list[Row] = list(rows_of(report, full=full))
    if not full and sum(1 + len(row.slices) + len(row.remarks) for row in rows) > _COLLAPSE_ABOVE:
        rows = collapse(rows)
    if rows:
        yield from _body(report, rows, width, glyphs)
    else:
        yield Text("No weight layers: the model has no convolution, linear or other weight operation.")
    yield Text()
    yield from _lists(report, width)
    yield from _footer(report, width)


def console_lines(
    reports: Sequence[Report | WeightsReport], options: ConsoleOptions, *, full: bool = False
) -> Iterator[Text]:
    """The tables of all reports on a console, an empty line between them."""
    glyphs = FANCY if options.is_terminal and not options.ascii_only else PLAIN
    for index, report in enumerate(reports):
        if index:
            yield Text()
        if isinstance(report, WeightsReport):
            yield from alone.render(report, options.max_width, full=full, rule=glyphs.rule)
        else:
            yield from render(report, options.max_width, full=full, glyphs=glyphs)


_JOINT = "\0"


def _header(report: Report, width: int) -> Iterator[Text]:
    plan = report.plan
    facts = [f"{wording.count(plan.parameters)} parameters", f"{plan.tier} tracing", f"method {plan.method}"]
    if plan.recipe:
        facts[-1] = f"recipe {plan.recipe}"
    if plan.residual != "keep":
        facts.append(f"residual {plan.residual}")
    if plan.heads != "xavier":
        facts.append(f"heads {plan.heads}")
    if plan.preset:
        facts.append(f"preset {plan.preset}")
    distributions = sorted({layer.distribution for layer in plan.layers})
    if distributions:
        facts.append(f"{', '.join(distributions)} distribution")
    if plan.method == "mirrored":
        planned = [layer for layer in plan.layers if layer.status == "planned"]
        mirrored = sum(layer.mirror is not None for layer in planned)
        facts.append(f"{mirrored} of {len(planned)} layers mirrored")
    if report.seed is not None:
        facts.append(f"seed {report.seed}")
    title = f"autoinit  {plan.model}"
    whole = (fact.replace(" ", _JOINT) for fact in facts)  # lines break between facts only
    for index, line in enumerate(wrap(f"{title}: {', '.join(whole)}", width)):
        text = Text(line.replace(_JOINT, " "))
        if index == 0:
            text.stylize("bold", 0, len(title))
        yield text


def _body(report: Report, rows: Sequence[Row], width: int, glyphs: Glyphs) -> Iterator[Text]:
    repeated = any(row.count > 1 for row in rows)
    entries = _entries(rows, grouped=len(rows) > _GROUP_ABOVE)
    layout = _ReportTable(report, glyphs, repeated, joined=False, rows=rows)
    if layout.width(entries) > width:
        layout = replace(layout, joined=True, shows_op=width >= _OP_FROM)
    if layout.width(entries) > width and len(rows) > 1:
        entries = _entries(rows, grouped=True)
    columns = layout.columns()
    lines = [layout.line(entry) for entry in entries if isinstance(entry, _TreeRow)]
    widths = fit(columns, natural_widths(columns, lines), width)
    via = width - total(widths) - 2
    shows_via = via >= _VIA_LEAST and not layout.joined
    title = [Cell(column.title, "bold") for column in columns]
    yield from _with_via(lay_out(columns, widths, title), "by way of" if shows_via else "", widths, "bold")
    yield Text(glyphs.rule * min(width, total(widths) + (via + 2 if shows_via else 0)), style="dim")
    for entry in entries:
        if isinstance(entry, str):
            yield from (Text(line, style="bold") for line in wrap(entry, width))
            continue
        path = _path(entry.row.via, via, glyphs) if shows_via else ""
        yield from _with_via(lay_out(columns, widths, layout.line(entry)), path, widths, "dim")
        yield from _remarks(entry, width)


def _with_via(lines: Iterator[Text], via: str, widths: Sequence[int], style: str) -> Iterator[Text]:
    for index, line in enumerate(lines):
        if index == 0 and via:
            line.append(" " * (total(widths) + 2 - len(line.plain)))
            line.append(via, style=style)
        yield line


def _path(path: tuple[str, ...], width: int, glyphs: Glyphs) -> str:
    """The operations walked; those in the middle give way when all do not fit."""
    for kept in range(len(path), 0, -1):
        front = (kept + 1) // 2 - (1 if kept < len(path) and kept > 1 else 0)
        shown = path if kept == len(path) else (*path[:front], "...", *path[len(path) - (kept - front) :])
        text = f" {glyphs.arrow} ".join(shown)
        if len(text) <= width:
            return text
    return ""


@dataclass(frozen=True)
class _TreeRow:
    """A row at its depth in the tree."""

    row: Row
    depth: int


def _entries(rows: Sequence[Row], *, grouped: bool) -> list[_TreeRow | str]:
    """Headers (as text) and rows, slices below their layer, in the order of printing."""
    entries: list[_TreeRow | str] = []
    for header, members in group(rows) if grouped else [("", list(rows))]:
        if header:
            entries.append(header)
        for row in members:
            entries.append(_TreeRow(row, depth=1 if header else 0))
            entries += [_TreeRow(part, depth=2 if header else 1) for part in row.slices]
    return entries


@dataclass(frozen=True)
class _ReportTable:
    """Which columns there are and what a row shows in them.

    Attributes:
        repeated: whether rows stand for several layers.
        joined: whether the reason shares the column of the nonlinearity.
        shows_op: whether there is room for the operation.
    """

    report: Report
    glyphs: Glyphs
    repeated: bool
    joined: bool
    rows: Sequence[Row]
    shows_op: bool = True

    def columns(self) -> list[Column]:
        planned = "planned" if self.report.after is None else "after"
        std = f"{self._before_title.rjust(self._before_width)} {self.glyphs.arrow} {planned}"
        feeds = (
            [Column("feeds", least=15 if self.shows_op else 10)] if self.joined else [Column("feeds"), Column("reason")]
        )
        op = [Column("op", least=9)] if self.shows_op else []
        times = [Column("n", "right", 3)] if self.repeated else []
        return [
            Column("layer", least=14 if self.shows_op else 10),
            *times,
            *op,
            *feeds,
            Column("scheme", least=6),
            Column("fan", "right", 7),
            Column(std, least=40),
        ]

    def line(self, entry: _TreeRow) -> list[Cell]:
        row = entry.row
        status = _STATUS_STYLES[row.status]
        feeds = _REASON_STYLES.get(row.why, "")
        quiet = status or "dim"
        words = [Cell(row.feeds, status or feeds)]
        if not self.joined:
            words = [Cell(row.nonlinearity, status or feeds), Cell(row.why, quiet)]
        times = [Cell(f"{self.glyphs.times}{row.count}" if row.count > 1 else "", quiet)] if self.repeated else []
        return [
            Cell("  " * entry.depth + row.name, status),
            *times,
            *([Cell(wording.operation(row.op), quiet)] if self.shows_op else []),
            *words,
            Cell(row.scheme, status),
            Cell(row.fan, status),
            Cell(self._std(row), status or "green"),
        ]

    def width(self, entries: Sequence[_TreeRow | str]) -> int:
        """The width of the table when nothing is wrapped."""
        lines = [self.line(entry) for entry in entries if isinstance(entry, _TreeRow)]
        return total(natural_widths(self.columns(), lines))

    @property
    def _before_width(self) -> int:
        return max(len(self._before_title), max(len(row.was) for row in self.rows))

    @property
    def _before_title(self) -> str:
        return "std" if self.joined else "std before"

    def _std(self, row: Row) -> str:
        before = row.was
        sign = self.glyphs.arrow if row.op and row.status == "planned" else " " * len(self.glyphs.arrow)
        return f"{before.rjust(self._before_width)} {sign} {row.result if row.op or row.status == 'planned' else ''}"


def _remarks(entry: _TreeRow, width: int) -> Iterator[Text]:
    indent = "  " * (entry.depth + 1)
    style = "dim" if entry.row.status == "planned" else _STATUS_STYLES[entry.row.status]
    for remark in entry.row.remarks:
        for line in wrap(remark, width, initial_indent=indent, subsequent_indent=indent + "  "):
            yield Text(line, style=style)


def _lists(report: Report, width: int) -> Iterator[Text]:
    """What the table does not show: operations and weights left out, notes, parameters untouched."""
    plan = report.plan
    uncalled = [other.name for other in plan.others if other.kind == "uncalled"]
    if plan.unsupported:
        yield from _listed("Operations unknown to autoinit", plan.unsupported, width, "bold red")
    if uncalled:
        yield from _listed("Weights that no operation used", uncalled, width, "magenta")
    for note in plan.notes:
        yield from (Text(line, style="magenta") for line in wrap(f"Note: {note}", width, subsequent_indent="  "))
    yield from (Text(piece) for piece in wrap(rest_line(plan), width, subsequent_indent="  "))
    kinds = kind_counts(plan)
    if kinds:
        summary = ", ".join(f"{kind} {number}" for kind, number in kinds.items())
        line = f"Left as they are: {wording.plural(len(plan.others), 'parameter')} ({summary})."
        yield from (Text(piece, style="dim") for piece in wrap(line, width, subsequent_indent="  "))


def _listed(title: str, names: Sequence[str], width: int, style: str) -> Iterator[Text]:
    shown = ", ".join(names[:_LISTED])
    rest = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    head = f"{title} ({len(names)}):"
    for index, line in enumerate(wrap(f"{head} {shown}{rest}", width, subsequent_indent="  ")):
        text = Text(line)
        if index == 0:
            text.stylize(style, 0, len(head))
        yield text


def _footer(report: Report, width: int) -> Iterator[Text]:
    plan = report.plan
    counts = ", ".join(f"{status} {number}" for status, number in status_counts(plan).items())
    outcome = "nothing written"
    if report.after is not None:
        outcome = f"{wording.count(report.weights_written)} weights written"
    line = f"{counts}; {outcome}; {wording.duration(report.seconds)}"
    yield from (Text(piece, style="bold") for piece in wrap(line, width))
