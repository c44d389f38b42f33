"""Repeated blocks as one row: `blocks.0.attn.qkv` ... `blocks.11.attn.qkv` read `blocks.{0-11}.attn.qkv`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from autoinit.reporting._rows import Row

Token = str | tuple[int, ...]
Name = tuple[Token, ...]

_MOST_NUMBERS = 16
"""Numbers of a name that are looked at: each is tried apart, beside all of the rest of the name."""
_NUMBER = re.compile(r"((?<!\d)\d{1,18}(?!\d))")


def collapse(rows: Sequence[Row]) -> list[Row]:
    """Merge rows that differ in the numbers of their names only; each stays where the first of its kind stood."""
    return [
        rows[members[0]] if len(members) == 1 else _union(name, [rows[index] for index in members])
        for name, members in runs([row.name for row in rows], [_signature(row) for row in rows])
    ]


def runs(names: Sequence[str], signatures: Sequence[Hashable]) -> list[tuple[str, tuple[int, ...]]]:
    """Names that differ in their numbers only, as one; with the places of those that it stands for.

    signatures: what must agree, beside the name, for two to be one. Each stays where the first of its kind stood.
    """
    merged = [
        _MergedNames(tokens_of(name), signature, (index,))
        for index, (name, signature) in enumerate(zip(names, signatures, strict=True))
    ]
    while True:
        shorter = _merge_once(merged)
        if len(shorter) == len(merged):
            return [
                (spell(run.tokens) if len(run.members) > 1 else names[run.members[0]], run.members) for run in merged
            ]
        merged = shorter


@dataclass(frozen=True)
class _MergedNames:
    """What has been merged so far: its name, what its members agree in, and their places."""

    tokens: Name
    signature: Hashable
    members: tuple[int, ...]


def tokens_of(name: str) -> Name:
    """A name in pieces: words, and sets of numbers (here of one each). Numbers beyond the limits are words."""
    parts = _NUMBER.split(name, maxsplit=_MOST_NUMBERS)
    return tuple((int(part),) if at % 2 else part for at, part in enumerate(parts))


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
    return replace(row, name="", before=(), after=(), via=(), count=1, slices=planned, sampled=False)


def _merge_once(found: list[_MergedNames]) -> list[_MergedNames]:
    """Along one number of the names, merge the largest sets of equal runs that leave no run in two sets."""
    sets: dict[tuple[Name, Name, Hashable], list[int]] = defaultdict(list)
    for index, run in enumerate(found):
        for place, token in enumerate(run.tokens):
            if isinstance(token, tuple):
                sets[run.tokens[:place], run.tokens[place + 1 :], run.signature].append(index)
    taken: set[int] = set()
    replaced: dict[int, _MergedNames] = {}
    for (head, tail, signature), members in sorted(sets.items(), key=lambda item: (-len(item[1]), item[1][0])):
        free = [index for index in members if index not in taken]
        if len(free) < 2:
            continue
        taken.update(free)
        place = len(head)
        numbers = tuple(sorted({value for index in free for value in _at(found[index].tokens, place)}))
        places = tuple(each for index in free for each in found[index].members)
        replaced[free[0]] = _MergedNames((*head, numbers, *tail), signature, places)
    return [replaced.get(index, run) for index, run in enumerate(found) if index not in taken or index in replaced]


def _at(tokens: Name, place: int) -> tuple[int, ...]:
    token = tokens[place]
    assert isinstance(token, tuple)
    return token


def _union(name: str, rows: list[Row]) -> Row:
    first = rows[0]
    slices = tuple(
        replace(part, after=tuple(value for row in rows for value in row.slices[index].after))
        for index, part in enumerate(first.slices)
    )
    return replace(
        first,
        name=name,
        before=tuple(value for row in rows for value in row.before),
        after=tuple(value for row in rows for value in row.after),
        count=sum(row.count for row in rows),
        slices=slices,
        sampled=any(row.sampled for row in rows),
    )
