"""A comparison of starts as a table: for a terminal, a log or a file, and in HTML for a notebook."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.text import Text

from autoinit._escaping import visible
from autoinit.comparing.comparison import Comparison, RankedStart, Verdict
from autoinit.reporting._columns import Cell, Column, fit, lay_out, natural_widths

if TYPE_CHECKING:
    from rich.console import ConsoleOptions

_COLUMNS = (
    Column("start", least=12),
    Column("score", "right"),
    Column("against the best", least=8),
    Column("lr", "right"),
    Column("first loss", "right"),
    Column("given up", "right"),
)
_STYLES: dict[Verdict, str] = {"best": "bold green", "tie": "green", "worse": "red", "not known": "dim"}
_LEGEND = (
    "score: mean over seeds and its standard error, lower is better, each start at its best lr. tie: within two "
    "standard errors of the difference."
)


def console_lines(comparison: Comparison, options: ConsoleOptions, *, full: bool = False) -> Iterator[Text]:  # noqa: ARG001 - the formats' signature
    """The table on a console."""
    yield Text(_title(comparison), style="bold")
    yield Text()
    lines = [_line(each) for each in comparison.ranking]
    sizes = fit(_COLUMNS, natural_widths(_COLUMNS, lines), options.max_width)
    yield from lay_out(_COLUMNS, sizes, [Cell(column.title, "bold") for column in _COLUMNS])
    for line in lines:
        yield from lay_out(_COLUMNS, sizes, line)
    yield Text()
    for note in comparison.notes:
        yield from (Text(each, style="yellow") for each in wrap(f"! {note}", options.max_width, subsequent_indent="  "))
    yield from (Text(each, style="dim") for each in wrap(_LEGEND, options.max_width))


def html(comparison: Comparison) -> str:
    """The same in HTML."""
    head = "".join(f"<th>{_text(column.title)}</th>" for column in _COLUMNS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_text(cell.text)}</td>" for cell in _line(each)) + "</tr>"
        for each in comparison.ranking
    )
    below = "".join(f"<p>{_text(text)}</p>" for text in (*comparison.notes, _LEGEND))
    return f"<table><caption>{_text(_title(comparison))}</caption><tr>{head}</tr>{rows}</table>{below}"


def _text(text: str) -> str:
    return escape(visible(text))


def _title(comparison: Comparison) -> str:
    seeds = len({each.seed for each in comparison.trials})
    rates = ", ".join(f"{lr:g}" for lr in comparison.lrs)
    return f"autoinit comparison  {comparison.steps} steps, lr {rates}, {seeds} seed{'s' * (seeds > 1)}"


def _line(each: RankedStart) -> list[Cell]:
    style = _STYLES[each.verdict]
    if math.isfinite(each.score):
        score = f"{each.score:.4g}" + (f" ± {each.error:.2g}" if each.error is not None else "")
    else:
        score = "given up"
    return [
        Cell(each.start, "bold"),
        Cell(score, style),
        Cell(each.verdict, style),
        Cell(f"{each.lr:g}"),
        Cell(f"{each.first:.3g}"),
        Cell(f"{each.given_up} of {each.trained}" if each.given_up else "", "red"),
    ]
