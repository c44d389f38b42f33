"""A report on weights without a model: a row for each tensor, for consoles, Markdown and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from rich.text import Text

from autoinit.recognising.alone import TensorRow, WeightsReport
from autoinit.reporting import _wording as wording
from autoinit.reporting._collapsing import runs
from autoinit.reporting._columns import Cell, Column, fit, lay_out, natural_widths, total
from autoinit.reporting._markdown import cell, code, prose

_COLLAPSE_ABOVE = 20


def render(report: WeightsReport, width: int, *, full: bool = False, rule: str = "-") -> Iterator[Text]:
    """The lines of the table. full: a row for each tensor, also where many are alike."""
    title = f"autoinit  {report.name}"
    for index, line in enumerate(wrap(f"{title}: {facts(report)}", width)):
        text = Text(line)
        if index == 0:
            text.stylize("bold", 0, len(title))
        yield text
    yield Text()
    shown = [row for row in report.rows if full or not _is_plain(row)]
    groups = [(row.name, [row]) for row in shown]
    if not full and len(groups) > _COLLAPSE_ABOVE:
        groups = _collapsed(shown)
    yield from _body(groups, width, rule)
    yield Text()
    if len(shown) < len(report.rows):
        line = f"Not shown: {_plain_ones([row for row in report.rows if _is_plain(row)])} (--all shows them)."
        yield from (Text(each, style="dim") for each in wrap(line, width, subsequent_indent="  "))
    for note in report.notes:
        yield from (Text(line, style="magenta") for line in wrap(f"Note: {note}", width, subsequent_indent="  "))
    yield Text(f"nothing written; {wording.duration(report.seconds)}", style="bold")


def markdown(report: WeightsReport) -> Iterator[str]:
    """One table row for each tensor."""
    yield f"## autoinit: {prose(report.name)}"
    yield ""
    yield f"{prose(facts(report))}."
    yield ""
    yield "| tensor | shape | dtype | std | mean | recipe | remarks |"
    yield "|---|---|---|---:|---:|---|---|"
    for row in report.rows:
        cells = (_shape(row), row.dtype, *_moments([row]), recipe(row), "; ".join(remarks(row)))
        yield f"| {' | '.join(map(cell, (code(row.name), *map(prose, cells))))} |"
    yield ""
    yield from (f"- Note: {prose(note)}" for note in report.notes)
    yield ""
    yield f"nothing written; {wording.duration(report.seconds)}."


def document(report: WeightsReport) -> dict[str, Any]:
    """What becomes JSON: see `autoinit.reporting.jsons`."""
    return {
        "model": report.name,
        "parameters": report.parameters,
        "written": False,
        "seconds": report.seconds,
        "tensors": [asdict(row) for row in report.rows],
        "notes": list(report.notes),
    }


def facts(report: WeightsReport) -> str:
    """How many tensors and numbers there are."""
    dtypes = {row.dtype for row in report.rows if row.family}
    one = f", {dtypes.pop()}" if len(dtypes) == 1 else ""
    return (
        f"weights alone, {wording.plural(len(report.rows), 'tensor')}, {wording.count(report.parameters)} numbers{one}"
    )


def _is_plain(row: TensorRow) -> bool:
    """Whether a tensor is one that a reader expects: a vector of one number, whole numbers, no matrix."""
    return not row.family and not remarks(row) and (row.stats is None or row.stats.minimum == row.stats.maximum)


def _plain_ones(rows: Sequence[TensorRow]) -> str:
    """`41 of ones, 40 of zeros, 20 of dtype int64`."""
    counts = Counter(row.recipes[0] if row.recipes else f"dtype {row.dtype}" for row in rows)
    return ", ".join(f"{number} of {what}" for what, number in counts.most_common())


def _collapsed(rows: Sequence[TensorRow]) -> list[tuple[str, list[TensorRow]]]:
    """Tensors of repeated blocks as one, where they say the same."""
    alike = [(_shape(row), row.dtype, row.recipes[:1], row.family, remarks(row), bool(row.same_as)) for row in rows]
    return [(name, [rows[index] for index in members]) for name, members in runs([row.name for row in rows], alike)]


def _body(groups: Sequence[tuple[str, list[TensorRow]]], width: int, rule: str) -> Iterator[Text]:
    several = len({rows[0].dtype for _, rows in groups}) > 1  # else the header says it
    columns = [
        Column("tensor", least=14),
        Column("shape", least=8),
        *([Column("dtype", least=8)] if several else []),
        Column("std", "right", 8),
        Column("mean", "right", 8),
        Column("recipe", least=16),
    ]
    lines = [_line(name, rows, several) for name, rows in groups]
    widths = fit(columns, natural_widths(columns, lines), width)
    yield from lay_out(columns, widths, [Cell(column.title, "bold") for column in columns])
    yield Text(rule * min(width, total(widths)), style="dim")
    for (_, rows), line in zip(groups, lines, strict=True):
        yield from lay_out(columns, widths, line)
        for remark in remarks(rows[0]):
            style = "bold red" if rows[0].stats is not None and rows[0].stats.nonfinite else "magenta"
            yield from (Text(each, style=style) for each in wrap(remark, width, initial_indent="  "))


def _line(name: str, rows: list[TensorRow], shows_dtype: bool) -> list[Cell]:
    std, mean = _moments(rows)
    dtype = [Cell(rows[0].dtype, "dim")] if shows_dtype else []
    return [
        Cell(name),
        Cell(_shape(rows[0]), "dim"),
        *dtype,
        Cell(std, "green"),
        Cell(mean, "dim"),
        Cell(recipe(rows[0]), "cyan"),
    ]


def _moments(rows: Sequence[TensorRow]) -> tuple[str, str]:
    """Std and mean, of several tensors from the least to the largest."""
    known = [row.stats for row in rows if row.stats is not None]
    std = wording.spread(tuple(each.std for each in known))
    means = sorted(each.mean for each in known)
    if len(means) < 2:
        return std, wording.number(means[0]) if means else "-"
    return std, f"{means[0]:.1g}..{means[-1]:.1g}"


def _shape(row: TensorRow) -> str:
    return "x".join(map(str, row.shape)) or "one number"


def recipe(row: TensorRow) -> str:
    """The most plausible recipe, and how many others fit."""
    if not row.recipes:
        return f"unknown ({row.family})" if row.family not in ("", "unknown") else row.family or "-"
    more = len(row.recipes) - 1
    return f"{row.recipes[0]}, or {more} more" if more else row.recipes[0]


def remarks(row: TensorRow) -> tuple[str, ...]:
    """What about a tensor is to be noticed at once."""
    stats, found = row.stats, []
    if row.same_as:
        found.append(f"tied: the memory of {row.same_as}")
    if stats is not None and stats.nonfinite and (row.family or not row.recipes):
        found.append(f"{stats.nonfinite} of {stats.numel} elements are not finite")
    return tuple(found)
