"""Repeated blocks as one row: `blocks.0.attn.qkv` ... `blocks.11.attn.qkv` read `blocks.{0-11}.attn.qkv`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from autoinit.reporting.rows import Row

Token = str | tuple[int, ...]
Name = tuple[Token, ...]


def collapse(rows: Sequence[Row]) -> list[Row]:
    """Merge rows that differ in the numbers of their names only; each stays where the first of its kind stood."""
    merged = [(tokens_of(row.name), row) for row in rows]
    while True:
        shorter = _merge_once(merged)
        if len(shorter) == len(merged):
            return [row if row.count == 1 else replace(row, name=spell(tokens)) for tokens, row in merged]
        merged = shorter


def tokens_of(name: str) -> Name:
    """A name in pieces: words, and sets of numbers (here of one each)."""
    return tuple((int(part),) if part.isdecimal() else part for part in re.split(r"(\d+)", name))


def spell(tokens: Name) -> str:
    """The name that stands for all that its sets of numbers name: `blocks.{0-11}.attn.qkv`."""
    return "".join(token if isinstance(token, str) else _numbers(token) for token in tokens)


def _numbers(numbers: tuple[int, ...]) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    runs: list[list[int]] = []
    for value in numbers:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    spelled = (str(low) if low == high else f"{low}-{high}" for low, high in runs)
    return "{" + ",".join(spelled) + "}"


def _signature(row: Row) -> Row:
    """What must agree for two rows to be one: all that the row says but its name and its measured numbers."""
    planned = tuple(replace(part, after=(), via=()) for part in row.slices)
    return replace(row, name="", before=(), after=(), via=(), count=1, slices=planned)


def _merge_once(rows: list[tuple[Name, Row]]) -> list[tuple[Name, Row]]:
    """Along one number of the names, merge the largest sets of equal rows that leave no row in two sets."""
    sets: dict[tuple[Name, Name, Row], list[int]] = defaultdict(list)
    for index, (tokens, row) in enumerate(rows):
        signature = _signature(row)
        for place, token in enumerate(tokens):
            if isinstance(token, tuple):
                sets[tokens[:place], tokens[place + 1 :], signature].append(index)
    taken: set[int] = set()
    replaced: dict[int, tuple[Name, Row]] = {}
    for (head, tail, _), members in sorted(sets.items(), key=lambda item: (-len(item[1]), item[1][0])):
        free = [index for index in members if index not in taken]
        if len(free) < 2:
            continue
        taken.update(free)
        place = len(head)
        numbers = sorted({value for index in free for value in _at(rows[index][0], place)})
        replaced[free[0]] = ((*head, tuple(numbers), *tail), _union([rows[index][1] for index in free]))
    return [replaced.get(index, entry) for index, entry in enumerate(rows) if index not in taken or index in replaced]


def _at(tokens: Name, place: int) -> tuple[int, ...]:
    token = tokens[place]
    assert isinstance(token, tuple)
    return token


def _union(rows: list[Row]) -> Row:
    first = rows[0]
    slices = tuple(
        replace(part, after=tuple(value for row in rows for value in row.slices[index].after))
        for index, part in enumerate(first.slices)
    )
    return replace(
        first,
        before=tuple(value for row in rows for value in row.before),
        after=tuple(value for row in rows for value in row.after),
        count=sum(row.count for row in rows),
        slices=slices,
    )
