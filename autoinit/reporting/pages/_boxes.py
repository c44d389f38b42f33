"""A flow's operations in boxes, one for each call of a module: repeated blocks once, none with too many to look at."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from autoinit.reporting._collapsing import Name, Token, spell, tokens_of
from autoinit.tracing.flow import Flow

MOST = 48
"""Items that a box may hold; more are parted into boxes of their own."""
_DEEPEST = 60


@dataclass(frozen=True)
class ModuleBox:
    """One call of a module, or a repeated run of such calls.

    Attributes:
        label: the module's name within the box around it; of a repeated one, all numbers: `layer1.{0-2}`.
        path: of the (first) module.
        items: boxes and places of operations, in order of call.
        times: for how many alike it stands.
        ops: the places of all operations of all of them.
    """

    label: str
    path: str
    items: tuple[ModuleBox | int, ...]
    times: int = 1
    ops: tuple[int, ...] = ()


@dataclass(frozen=True)
class Boxed:
    """A flow in boxes.

    Attributes:
        root: the model.
        drawn: for each operation the one that is drawn for it: itself, or its like in the first of repeated blocks.
        edges: of operations that are drawn.
    """

    root: ModuleBox
    drawn: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]


def boxed(flow: Flow, marks: Sequence[Hashable]) -> Boxed:
    """The flow's operations in boxes.

    marks: what must agree, for each operation, for two blocks to be drawn as one.
    """
    making = _Making(flow, marks)
    everything = tuple(range(len(flow.ops)))
    root = ModuleBox("", "", tuple(making.level(everything, 0)), ops=everything)
    drawn = [making.first_like(place) for place in everything]
    edges = {
        (drawn[source], drawn[place]): None
        for place in everything
        for source in flow.ops[place].reads
        if making.stay_together(source, place)
    }
    return Boxed(root, tuple(drawn), tuple(edges))


class _Making:
    """Makes boxes, and knows which operations are alike: `like`, by an operation of a repeated block, names its like in
    the first one; `turns`, for each run of repeated blocks that an operation is in, in the how-manieth.
    """

    def __init__(self, flow: Flow, marks: Sequence[Hashable]) -> None:
        self.flow, self.marks = flow, marks
        self.like: dict[int, int] = {}
        self.turns: dict[int, dict[int, int]] = {}
        self.runs = 0

    def level(self, ops: Sequence[int], depth: int) -> list[ModuleBox | int]:
        """The items of a box whose path has `depth` parts."""
        items: list[ModuleBox | int] = []
        for part, run in groupby(ops, key=lambda place: self._part(place, depth)):
            if part is None:
                items += run
            else:
                items.append(self._box(part, tuple(run), depth))
        return _parted(self._merged(items))

    def first_like(self, place: int) -> int:
        """The operation that is drawn for one."""
        while place in self.like:
            place = self.like[place]
        return place

    def stay_together(self, one: int, other: int) -> bool:
        """Whether two operations are in the same turn of every run of repeated blocks that both are in."""
        turns, others = self.turns.get(one, {}), self.turns.get(other, {})
        return all(turns[run] == others[run] for run in turns.keys() & others.keys())

    def _part(self, place: int, depth: int) -> str | None:
        parts = self.flow.ops[place].module.split(".", _DEEPEST) if self.flow.ops[place].module else []
        return parts[depth] if depth < len(parts) else None

    def _box(self, part: str, ops: tuple[int, ...], depth: int) -> ModuleBox | int:
        items = self.level(ops, depth + 1)
        if len(items) > 1:
            path = ".".join(self.flow.ops[ops[0]].module.split(".", _DEEPEST)[: depth + 1])
            return ModuleBox(part, path, tuple(items), ops=ops)
        (only,) = items
        return replace(only, label=f"{part}.{only.label}") if isinstance(only, ModuleBox) else only

    def _merged(self, items: Sequence[ModuleBox | int]) -> list[ModuleBox | int]:
        """Neighbours that are alike, as one."""
        found: list[ModuleBox | int] = []
        for _, members in groupby(enumerate(items), key=lambda each: self._kind(*each)):
            run = [item for _, item in members]
            first = run[0]
            if len(run) == 1 or not isinstance(first, ModuleBox):
                found += run
            else:
                found.append(self._one_of([box for box in run if isinstance(box, ModuleBox)]))
        return found

    def _kind(self, index: int, item: ModuleBox | int) -> Hashable:
        if not isinstance(item, ModuleBox):
            return index
        return _skeleton(item.label), self._signature(item)

    def _signature(self, box: ModuleBox) -> Hashable:
        """What a block is made of, whatever its name and whatever is around it."""
        places = {place: index for index, place in enumerate(box.ops)}
        within = tuple(
            tuple(places[source] for source in self.flow.ops[place].reads if source in places) for place in box.ops
        )
        return box.times, tuple(self.marks[place] for place in box.ops), within, tuple(_shape(box))

    def _one_of(self, run: Sequence[ModuleBox]) -> ModuleBox:
        self.runs += 1
        for turn, box in enumerate(run):
            for place, first in zip(box.ops, run[0].ops, strict=True):
                self.turns.setdefault(place, {})[self.runs] = turn
                if turn:
                    self.like[place] = first
        columns = zip(*(tokens_of(box.label) for box in run), strict=True)
        every = tuple(place for box in run for place in box.ops)
        return replace(run[0], label=spell(tuple(map(_union, columns))), times=run[0].times * len(run), ops=every)


def _union(column: tuple[Token, ...]) -> Token:
    """A word that all names have here, or all their numbers."""
    word = column[0]
    if isinstance(word, str):
        return word
    return tuple(sorted({number for token in column if not isinstance(token, str) for number in token}))


def _skeleton(label: str) -> Name:
    return tuple(token if isinstance(token, str) else () for token in tokens_of(label))


def _shape(box: ModuleBox) -> Iterator[Hashable]:
    for item in box.items:
        yield (item.label, item.times, *_shape(item)) if isinstance(item, ModuleBox) else None


def _parted(items: list[ModuleBox | int]) -> list[ModuleBox | int]:
    """The items; more than can be looked at, in boxes of about equally many."""
    while len(items) > MOST:
        count = -(-len(items) // (MOST // 2))
        size = -(-len(items) // count)
        pieces = [items[at : at + size] for at in range(0, len(items), size)]
        items = [
            ModuleBox(f"part {number} of {len(pieces)}", "", tuple(piece), ops=tuple(_ops(piece)))
            for number, piece in enumerate(pieces, 1)
        ]
    return items


def _ops(items: Sequence[ModuleBox | int]) -> Iterator[int]:
    for item in items:
        if isinstance(item, ModuleBox):
            yield from item.ops
        else:
            yield item
