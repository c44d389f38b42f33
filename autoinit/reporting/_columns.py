"""Columns of styled text that fit a width: cells wrap, nothing is cut off."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.text import Text

_GAP = 2


@dataclass(frozen=True)
class Column:
    """A column's title, how its cells are set, and how far it may shrink before others must.

    Attributes:
        least: the width that it is never squeezed below (its own natural width, if that is less).
    """

    title: str
    justify: Literal["left", "right"] = "left"
    least: int = 8


@dataclass(frozen=True)
class Cell:
    """What stands in one column of one line."""

    text: str
    style: str = ""


Line = Sequence[Cell]


def natural_widths(columns: Sequence[Column], lines: Sequence[Line]) -> list[int]:
    """The width that each column needs for its title and its longest cell on one line."""
    return [
        max(len(column.title), max((len(line[index].text) for line in lines), default=0))
        for index, column in enumerate(columns)
    ]


def total(widths: Sequence[int]) -> int:
    """The width of a table with these columns."""
    return sum(widths) + _GAP * (len(widths) - 1)


def fit(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int]:
    """Shrink columns, the one with the most to give first, until the table fits or nothing can give."""
    widths = list(natural)
    while (excess := total(widths) - width) > 0:
        spare = [max(0, size - column.least) for column, size in zip(columns, widths, strict=True)]
        widest = max(range(len(widths)), key=spare.__getitem__)
        if spare[widest] == 0:
            break
        widths[widest] -= min(excess, spare[widest])
    return widths


def lay_out(columns: Sequence[Column], widths: Sequence[int], line: Line) -> Iterator[Text]:
    """The printed lines of one table line."""
    wrapped = [_wrap(cell.text, size) for cell, size in zip(line, widths, strict=True)]
    for row in range(max(len(pieces) for pieces in wrapped)):
        text = Text(no_wrap=True, overflow="ignore")
        for index, (column, size) in enumerate(zip(columns, widths, strict=True)):
            piece = wrapped[index][row] if row < len(wrapped[index]) else ""
            padded = piece.rjust(size) if column.justify == "right" else piece.ljust(size)
            text.append(padded + " " * _GAP, style=line[index].style if piece else "")
        text.rstrip()
        yield text


def _wrap(text: str, width: int) -> list[str]:
    """Break after a space, comma or plus sign, or a dot or underscore before a letter; in a word only if need be."""
    if len(text) <= width:
        return [text]
    indent = " " * (len(text) - len(text.lstrip()) + 1)
    pieces: list[str] = []
    current = ""
    for atom in re.split(r"(?<=[\s,+])(?=\S)|(?<=[._])(?=[^\W\d_])", text):
        word = atom
        if current.strip() and len(current) + len(word.rstrip()) > width:
            pieces.append(current.rstrip(" "))
            current = indent if len(indent) * 2 < width else ""
        while len(current) + len(word.rstrip()) > width:
            room = width - len(current)
            pieces.append(current + word[:room])
            word, current = word[room:], ""
        current += word
    pieces.append(current.rstrip(" "))
    return pieces
