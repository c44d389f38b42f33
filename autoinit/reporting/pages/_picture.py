"""The picture of a flow as a page's document holds it: boxes, operations, and where each operation is drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from autoinit.reporting.pages._boxes import Boxed, ModuleBox, boxed
from autoinit.tracing.flow import Flow, FlowOp


class Picture:
    """A flow in boxes, with the layers that its operations use.

    Args:
        flow: the operations.
        layers: places of layers, by the place of the operation that uses them.
        marks: what is told of each layer: blocks that are drawn as one agree in it.
    """

    def __init__(self, flow: Flow, layers: Mapping[int, Sequence[int]], marks: Sequence[Hashable]) -> None:
        self._flow = flow
        self._layers = layers
        self._boxed: Boxed = boxed(flow, [self._mark(place, marks) for place in range(len(flow.ops))])
        self._places = {op.name: place for place, op in enumerate(flow.ops)}

    def _mark(self, place: int, marks: Sequence[Hashable]) -> Hashable:
        op = self._flow.ops[place]
        return op.op, op.role, len(op.params), tuple(marks[layer] for layer in self._layers.get(place, ()))

    def steps(self, path: Sequence[str]) -> list[int]:
        """Where the operations of a path are drawn: places in `ops`, each once."""
        drawn = (self._boxed.drawn[self._places[name]] for name in path if name in self._places)
        return list(dict.fromkeys(self._numbers[place] for place in drawn))

    @cached_property
    def boxes(self) -> list[dict[str, Any]]:
        """All boxes, what is around one before it."""
        around = {id(box): within for box, within in _boxes(self._boxed.root, None)}
        places = {key: place for place, key in enumerate(around)}
        return [
            {
                "label": box.label,
                "path": box.path,
                "within": None if within is None else places[id(within)],
                "times": box.times,
            }
            for box, within in _boxes(self._boxed.root, None)
        ]

    @cached_property
    def ops(self) -> list[dict[str, Any]]:
        """The operations that are drawn, in order of call."""
        reads: dict[int, list[int]] = defaultdict(list)
        for source, place in self._boxed.edges:
            reads[place].append(self._numbers[source])
        layers: dict[int, set[int]] = defaultdict(set)
        for place, found in self._layers.items():
            layers[self._boxed.drawn[place]].update(found)
        return [
            {
                "name": op.name,
                "op": op.op,
                "role": op.role,
                "label": _within(op, path),
                "within": box,
                "reads": sorted(reads[place]),
                "layers": sorted(layers[place]),
            }
            for place, box, path in self._drawn
            for op in [self._flow.ops[place]]
        ]

    @cached_property
    def _drawn(self) -> list[tuple[int, int, str]]:
        """Places of the operations that are drawn, that of the box around each, and the path of its module."""
        found, paths = [], dict[int, str]()
        for number, (box, within) in enumerate(_boxes(self._boxed.root, None)):
            paths[id(box)] = box.path or (paths[id(within)] if within is not None else "")
            found += [(item, number, paths[id(box)]) for item in box.items if not isinstance(item, ModuleBox)]
        return sorted(found)

    @cached_property
    def _numbers(self) -> dict[int, int]:
        return {place: number for number, (place, _, _) in enumerate(self._drawn)}


def _boxes(box: ModuleBox, within: ModuleBox | None) -> Iterator[tuple[ModuleBox, ModuleBox | None]]:
    """Each box with the one around it."""
    yield box, within
    for item in box.items:
        if isinstance(item, ModuleBox):
            yield from _boxes(item, box)


def _within(op: FlowOp, path: str) -> str:
    """The operation's module as seen from that of the box around it."""
    if not path:
        return op.module
    return op.module[len(path) + 1 :] if f"{op.module}.".startswith(f"{path}.") else op.module
