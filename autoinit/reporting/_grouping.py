"""Rows under the module that holds them, so that a long table reads as a tree."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from autoinit.reporting._rows import Row

_NUMBERED = re.compile(r"\d+|\{[\d,-]+\}")


def group(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Runs of neighbouring rows with the path of the module that they share; "" for rows that stand alone.

    Under a header, names are written less the header's path.
    """
    for header, members in headed([row.name for row in rows]):
        cut = len(header) + 1 if header else 0
        yield header, [replace(rows[index], name=rows[index].name[cut:]) for index in members]


def headed(names: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Runs of neighbouring names, by place, with the path of the module that they share; "" for those that stand alone.

    A name goes to the deepest numbered block (`layer1.0`, `blocks.{0-11}`) that holds a neighbour of it as well, or
    else to the deepest module that does.
    """
    headers = [_header(names, index) for index in range(len(names))]
    for header, run in groupby(range(len(names)), key=headers.__getitem__):
        members = list(run)
        yield (header if len(members) > 1 else ""), members


def _header(names: Sequence[str], index: int) -> str:
    parts = _parts(names[index])
    neighbours = [_parts(names[near]) for near in (index - 1, index + 1) if 0 <= near < len(names)]
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
