"""Rows under the module that holds them, so that a long table reads as a tree."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from autoinit.reporting.rows import Row

_NUMBERED = re.compile(r"\d+|\{[\d,-]+\}")


def group(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Runs of neighbouring rows with the path of the module that they share; "" for rows that stand alone.

    A row goes to the deepest numbered block (`layer1.0`, `blocks.{0-11}`) that holds a neighbour of it as well, or
    else to the deepest module that does. Under a header, names are written less the header's path.
    """
    headers = [_header(rows, index) for index in range(len(rows))]
    for header, run in groupby(range(len(rows)), key=headers.__getitem__):
        members = [rows[index] for index in run]
        if header and len(members) > 1:
            yield header, [replace(row, name=row.name[len(header) + 1 :]) for row in members]
        else:
            yield "", members


def _header(rows: Sequence[Row], index: int) -> str:
    parts = _parts(rows[index].name)
    neighbours = [_parts(rows[near].name) for near in (index - 1, index + 1) if 0 <= near < len(rows)]
    shared = max((_common(parts, near) for near in neighbours), default=0)
    for depth in range(shared, 0, -1):
        if _NUMBERED.fullmatch(parts[depth - 1]):
            return ".".join(parts[:depth])
    return ".".join(parts[:shared])


def _parts(name: str) -> list[str]:
    return name.split(".")


def _common(parts: list[str], other: list[str]) -> int:
    depth = 0
    while depth < min(len(parts), len(other)) - 1 and parts[depth] == other[depth]:
        depth += 1
    return depth
