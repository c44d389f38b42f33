"""A coordinate check as a table, and as JSON, version 1.

The JSON document is one object:

    version      1; a change that could break a reader raises it
    widths, optimizer, lr, steps, changes, losses
                 as `CoordinateCheck` has them
    slopes       by parametrisation and layer
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.text import Text

from autoinit.reporting._columns import Cell, Column, fit, lay_out, natural_widths
from autoinit.transfer.coordinates import CoordinateCheck

if TYPE_CHECKING:
    from rich.console import ConsoleOptions

VERSION = 1
_FLAT = 0.2
OUTPUT = "(output)"
_LEGEND = (
    "change: the mean of |h - h at the start| over a layer's output after the last step. slope: of log2 change over "
    "log2 width; about 0 where a learning rate fits every width."
)


def dumps(check: CoordinateCheck) -> str:
    """The check as an indented JSON document."""
    document = {
        "version": VERSION,
        "widths": check.widths,
        "optimizer": check.optimizer,
        "lr": check.lr,
        "steps": check.steps,
        "changes": check.changes,
        "losses": check.losses,
        "slopes": check.slopes,
    }
    return json.dumps(document, indent=2)


def console_lines(check: CoordinateCheck, options: ConsoleOptions, *, full: bool = False) -> Iterator[Text]:  # noqa: ARG001 - the formats' signature
    """The table on a console."""
    kinds = list(check.changes)
    title = f"autoinit coordinate check  {check.optimizer}, lr {check.lr:g}, {check.steps} steps"
    yield Text(title, style="bold")
    yield Text()
    widths = [Column(f"{width}", "right") for width in check.widths]
    columns = [Column("layer", least=12)]
    for kind in kinds:
        columns += [Column(f"{kind} slope", "right"), *widths]
    lines = [_line(check, layer) for layer in check.changes[kinds[0]]]
    sizes = fit(columns, natural_widths(columns, lines), options.max_width)
    yield from lay_out(columns, sizes, [Cell(column.title, "bold") for column in columns])
    for line in lines:
        yield from lay_out(columns, sizes, line)
    yield Text()
    for kind in kinds:
        layer, slope = check.worst(kind)
        losses = ", ".join(f"{value:.3g}" for value in check.losses[kind])
        yield Text(f"{kind}: steepest {slope:+.2f} at {layer or OUTPUT}; loss before the last step {losses}")
    yield from (Text(each, style="dim") for each in wrap(_LEGEND, options.max_width))


def _line(check: CoordinateCheck, layer: str) -> list[Cell]:
    cells = [Cell(layer or OUTPUT, "bold")]
    for kind, changes in check.changes.items():
        slope = check.slopes[kind][layer]
        cells.append(Cell(f"{slope:+.2f}", "green" if abs(slope) <= _FLAT else "red"))
        cells += [Cell(f"{value:.2g}") for value in changes[layer]]
    return cells
