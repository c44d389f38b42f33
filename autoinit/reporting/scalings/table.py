"""A scaling as a table: for a terminal of any width, a log or a file."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.text import Text

from autoinit.reporting._collapsing import runs
from autoinit.reporting._columns import Cell, Column, fit, lay_out, natural_widths
from autoinit.transfer.record import KINDS, Scaled, Scaling

if TYPE_CHECKING:
    from rich.console import ConsoleOptions

_COLUMNS = (
    Column("parameter", least=16),
    Column("kind", least=8),
    Column("std", "right"),
    Column("lr", "right"),
    Column("weight decay", "right", least=5),
    Column("eps", "right"),
    Column("grown", least=14),
)
_COLLAPSE_ABOVE = 40
_LEGEND = (
    "lr, weight decay and eps multiply the values that were tuned on the base model; std is the weight's own at the "
    "scaled start."
)


def console_lines(scaling: Scaling, options: ConsoleOptions, *, full: bool = False) -> Iterator[Text]:
    """The table on a console.

    full: one row for each parameter, also where many differ in the numbers of their names only.
    """
    width = options.max_width
    title = f"autoinit scaling  {scaling.plan.model}"
    for index, text in enumerate(wrap(f"{title}: {scaling.optimizer}, against {scaling.against}", width)):
        yield Text(text, style="bold" if index == 0 else "")
    for note in scaling.notes:
        yield from (Text(each, style="yellow") for each in wrap(f"! {note}", width, subsequent_indent="  "))
    yield Text()
    lines = [_line(name, each) for name, each in _rows(scaling, full=full)]
    widths = fit(_COLUMNS, natural_widths(_COLUMNS, lines), width)
    yield from lay_out(_COLUMNS, widths, [Cell(column.title, "bold") for column in _COLUMNS])
    for line in lines:
        yield from lay_out(_COLUMNS, widths, line)
    yield Text()
    kinds = {each.kind: KINDS[each.kind] for _, each in scaling.entries}
    for text in (_LEGEND, *(f"{kind}: {meaning}" for kind, meaning in kinds.items())):
        yield from (Text(each, style="dim") for each in wrap(text, width, subsequent_indent="  "))


def _rows(scaling: Scaling, *, full: bool) -> Iterator[tuple[str, Scaled]]:
    if full or len(scaling) <= _COLLAPSE_ABOVE:
        yield from scaling.entries
        return
    for name, members in runs(list(scaling), [each for _, each in scaling.entries]):
        yield name, scaling.entries[members[0]][1]


def _line(name: str, each: Scaled) -> list[Cell]:
    std = _number(each.std) if each.std is not None else "" if each.fill is None else f"= {_number(each.fill)}"
    kind = f"{each.kind} (Muon)" if each.muon else each.kind
    factors = [_factor(value) for value in (each.lr, each.weight_decay, each.eps)]
    return [
        Cell(name, "bold"),
        Cell(kind),
        Cell(std),
        *(Cell(value, "" if value else "dim") for value in factors),
        Cell(each.reason, "dim"),
    ]


def _number(value: float) -> str:
    return f"{value:.4g}"


def _factor(value: float) -> str:
    """A multiplier, as a fraction where it is one."""
    if value == 1:
        return "1"
    if value < 1 and abs(1 / value - round(1 / value)) < 1e-9:
        return f"1/{round(1 / value)}"
    return _number(value)
