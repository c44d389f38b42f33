"""The signal as a table: for a terminal of any width, a log or a file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.text import Text

from autoinit.reporting import _wording as wording
from autoinit.reporting._collapsing import runs
from autoinit.reporting._columns import Cell, Column, fit, lay_out, natural_widths, total
from autoinit.reporting._grouping import headed
from autoinit.reporting.signals.states import LayerLine, State, layer_lines, ratio
from autoinit.reporting.signals.totals import totals
from autoinit.signal.report import SignalRow

if TYPE_CHECKING:
    from rich.console import ConsoleOptions

_COLLAPSE_ABOVE = 60
_GROUP_ABOVE = 20
_NOTES = 12
_ALIKE = 0.02
_MEANINGS = {
    "q": "second moment of the layer's output, before its nonlinearity",
    "p/q": "correlation of two positions",
    "s/q": "correlation of two samples",
    "grad": "second moment of its gradient",
}


def render(shown: Sequence[State], width: int, *, full: bool = False) -> Iterator[Text]:
    """The lines of the table, none wider than `width` (from 64 on, for one state).

    full: one row for each layer, also where a long model has many that differ in the numbers of their names only.
    """
    yield from _header(shown, width)
    yield Text()
    lines = layer_lines(shown)
    if lines:
        yield from _body(shown, lines, width, full=full)
    else:
        yield Text("No weight layers: the model has no convolution, linear or other weight operation.")
    yield Text()
    yield from _notes(shown, width)
    yield from _footer(shown, width)


def console_lines(shown: Sequence[State], options: ConsoleOptions, *, full: bool = False) -> Iterator[Text]:
    """The table on a console."""
    return render(shown, options.max_width, full=full)


def _header(shown: Sequence[State], width: int) -> Iterator[Text]:
    title = f"autoinit signal  {shown[0].report.model}"
    kinds = ", ".join(_kinds(state) for state in shown)
    for index, line in enumerate(wrap(f"{title}: {kinds}", width)):
        text = Text(line)
        if index == 0:
            text.stylize("bold", 0, len(title))
        yield text


def _kinds(state: State) -> str:
    kinds = " and ".join(report.kind for report in state.reports)
    return f"{state.label} ({kinds})" if state.label else kinds


@dataclass(frozen=True)
class _Quantity:
    """A column of numbers, one for each layer.

    Attributes:
        of: what they are, one of `_MEANINGS`.
        rank: which columns give way first where there is no room: those with the highest; none with 0.
    """

    title: str
    of: str
    values: tuple[float | None, ...]
    rank: int = 0

    def cell(self, members: Sequence[int]) -> Cell:
        """The number, or how far those of several layers spread."""
        known = [value for index in members if (value := self.values[index]) is not None]
        text = _correlation(known) if self.of in ("p/q", "s/q") else _spread(known)
        if self.of != "q" or not known:
            return Cell(text)
        inside = all(0.5 <= value <= 2 for value in known)
        gone = any(not 0.01 <= value <= 100 for value in known)
        return Cell(text, "green" if inside else "bold red" if gone else "yellow")


def _spread(known: Sequence[float]) -> str:
    if not known:
        return "-"
    low, high = min(known), max(known)
    if any(math.isnan(value) for value in known):
        return "nan"
    if not math.isfinite(low) or not math.isfinite(high):
        return wording.number(high) if low == high else f"{low:.2g}..{high:.2g}"
    if abs(high - low) <= 0.05 * max(abs(high), abs(low)):
        return wording.number(sum(known) / len(known))
    return f"{low:.2g}..{high:.2g}"


def _correlation(known: Sequence[float]) -> str:
    """Two or three decimals: what is less tells nothing."""
    if not known or not all(map(math.isfinite, known)):
        return _spread(known)
    low, high = min(known), max(known)
    if high - low <= _ALIKE:
        return f"{sum(known) / len(known):.3f}".replace("-0.000", "0.000")
    return f"{low:.2f}..{high:.2f}".replace("-0.00", "0.00")


def _quantities(shown: Sequence[State], lines: Sequence[LayerLine]) -> list[_Quantity]:
    """The columns of numbers; those of which nothing is known are left out."""
    found = []
    for rank, of in ((0, "q"), (3, "p/q"), (1, "s/q"), (0, "grad")):
        for index, state in enumerate(shown):
            sources = [("", [line.predicted[index] for line in lines])] if state.predicted is not None else []
            if state.measured is not None and not (sources and rank):
                sources.append((" measured" if sources else "", [line.measured[index] for line in lines]))
            for kind, rows in sources:
                values = tuple(_value(row, of) for row in rows)
                if any(value is not None for value in values):
                    title = " ".join(filter(None, (of, state.label))) + kind
                    less = 2 if kind and of == "grad" else rank
                    found.append(_Quantity(title, of, values, less))
    return found


def _value(row: SignalRow | None, of: str) -> float | None:
    if row is None:
        return None
    return {"q": row.q, "grad": row.grad, "p/q": ratio(row.p, row.q), "s/q": ratio(row.s, row.q)}[of]


def _body(shown: Sequence[State], lines: Sequence[LayerLine], width: int, *, full: bool) -> Iterator[Text]:
    groups: list[tuple[str, tuple[int, ...]]] = [(line.name, (index,)) for index, line in enumerate(lines)]
    if not full and len(lines) > _COLLAPSE_ABOVE:
        groups = runs([line.name for line in lines], [(line.op, line.notes) for line in lines])
    quantities = _quantities(shown, lines)
    grouped = len(groups) > _GROUP_ABOVE
    for rank, whole in ((3, True), (2, True), (1, True), (0, True), (-1, True), (-1, False)):
        kept = [each for each in quantities if each.rank <= max(rank, 0)]
        layout = _SignalTable(lines, kept, groups, grouped, rank >= 0, whole)
        if total(layout.widths(width)) <= width:
            break
    yield from layout.render(width)
    meanings = "; ".join(
        f"{of}: {what}" for of, what in _MEANINGS.items() if any(each.of == of for each in layout.quantities)
    )
    yield from (Text(line, style="dim") for line in wrap(meanings, width))
    dropped = [each.title for each in quantities if each not in layout.quantities]
    if rank < 0:
        dropped.insert(0, "op")
    if dropped:
        said = f"No room for {', '.join(dropped)}; a wider terminal, JSON and HTML show them."
        yield from (Text(line, style="dim") for line in wrap(said, width))


@dataclass(frozen=True)
class _SignalTable:
    """Which columns there are.

    Attributes:
        groups: a name, and the places of the layers that it stands for.
        grouped: whether names stand under the module that they share.
        whole: whether numbers stay on one line.
    """

    lines: Sequence[LayerLine]
    quantities: Sequence[_Quantity]
    groups: Sequence[tuple[str, tuple[int, ...]]]
    grouped: bool = False
    shows_op: bool = True
    whole: bool = True

    @property
    def columns(self) -> list[Column]:
        """Titles, and how far each may shrink."""
        times = [Column("n", "right", 3)] if self._repeated else []
        op = [Column("op", least=9)] if self.shows_op else []
        numbers = [Column(each.title, "right", self._least(each)) for each in self.quantities]
        return [Column("layer", least=22 if self.shows_op else 14), *times, *op, *numbers]

    def _least(self, quantity: _Quantity) -> int:
        longest = max((len(quantity.cell(members).text) for _, members in self.groups), default=0)
        return max(9, longest) if self.whole else 9

    @property
    def _repeated(self) -> bool:
        return any(len(members) > 1 for _, members in self.groups)

    @cached_property
    def _tree(self) -> list[tuple[str, list[tuple[tuple[int, ...], list[Cell]]]]]:
        """Headers, and what stands below each: the layers, and their cells."""
        names = [name for name, _ in self.groups]
        found = []
        for header, places in headed(names) if self.grouped else [("", list(range(len(names))))]:
            cut, indent = (len(header) + 1, "  ") if header else (0, "")
            lines = [
                (self.groups[at][1], list(self._line(indent + names[at][cut:], self.groups[at][1]))) for at in places
            ]
            found.append((header, lines))
        return found

    def _line(self, name: str, members: tuple[int, ...]) -> Iterator[Cell]:
        yield Cell(name)
        if self._repeated:
            yield Cell(f"x{len(members)}" if len(members) > 1 else "", "dim")
        if self.shows_op:
            yield Cell(wording.operation(self.lines[members[0]].op), "dim")
        yield from (each.cell(members) for each in self.quantities)

    def widths(self, width: int) -> list[int]:
        """As wide as there is room for, or the least."""
        cells = [line for _, lines in self._tree for _, line in lines]
        return fit(self.columns, natural_widths(self.columns, cells), width)

    def render(self, width: int) -> Iterator[Text]:
        """The head, and the lines with their notes."""
        columns, widths = self.columns, self.widths(width)
        yield from lay_out(columns, widths, [Cell(column.title, "bold") for column in columns])
        yield Text("-" * min(width, total(widths)), style="dim")
        for header, lines in self._tree:
            yield from (Text(piece, style="bold") for piece in (wrap(header, width) if header else ()))
            for members, cells in lines:
                yield from lay_out(columns, widths, cells)
                for note in self.lines[members[0]].notes:
                    for piece in wrap(note, width, initial_indent="    ", subsequent_indent="      "):
                        yield Text(piece, style="dim")


def _notes(shown: Sequence[State], width: int) -> Iterator[Text]:
    """What all reports say, each once."""
    notes = list(dict.fromkeys(note for state in shown for report in state.reports for note in report.notes))
    for note in notes[:_NOTES]:
        yield from (Text(line, style="magenta") for line in wrap(f"Note: {note}", width, subsequent_indent="  "))
    if len(notes) > _NOTES:
        yield Text(f"... and {wording.plural(len(notes) - _NOTES, 'note')} more, in JSON and HTML", style="magenta")


def _footer(shown: Sequence[State], width: int) -> Iterator[Text]:
    """The totals: a line for each, a column for each report."""
    reports = [(f"{state.label} {report.kind}".strip(), report) for state in shown for report in state.reports]
    summaries = [[*totals(report), ("time", wording.duration(report.seconds))] for _, report in reports]
    columns = [Column("", least=25), *(Column(title if len(reports) > 1 else "", least=12) for title, _ in reports)]
    cells = [[Cell(rows[0][0]), *(Cell(value, "bold") for _, value in rows)] for rows in zip(*summaries, strict=True)]
    widths = fit(columns, natural_widths(columns, cells), width)
    if len(reports) > 1:
        yield from lay_out(columns, widths, [Cell(column.title, "bold") for column in columns])
    for line in cells:
        yield from lay_out(columns, widths, line)
