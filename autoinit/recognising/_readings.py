"""The fans that people read from one weight: the true ones, and those that its shape suggests."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from autoinit.plans.layers import LayerPlan, RowsPlan, SlicePlan
from autoinit.theory.fans import Fans, Mode

Rows = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Reading:
    """Two fans, and whose they are (`Recipe.fans`).

    Attributes:
        doubt: how much less usual it is than the plainest reading.
    """

    fans: str
    fan_in: float
    fan_out: float
    doubt: float = 0.0

    @property
    def by_mode(self) -> dict[Mode, float]:
        """Each mode's fan."""
        return Fans(self.fan_in, self.fan_out).by_mode


def sizes(layer: LayerPlan) -> dict[str, int]:
    """The number of outputs, inputs, kernel positions and copies."""
    return {letter: layer.size(letter) for letter in "oikb"}


def place_of(layer: LayerPlan, rows: Rows) -> RowsPlan:
    """The plan that rules some rows: that of the slice that consists of them, else that of the whole."""
    return next((part for part in layer.slices if part.rows == rows), layer)


def readings(layer: LayerPlan, rows: Rows = ()) -> tuple[Reading, ...]:
    """Every reading of the fans of some rows, the plainest first; each pair of numbers once."""
    found: dict[tuple[float, float], Reading] = {}
    for each in _all(layer, rows):
        if min(each.fan_in, each.fan_out) > 0:
            found.setdefault((round(each.fan_in, 6), round(each.fan_out, 6)), each)
    return tuple(found.values())


def _all(layer: LayerPlan, rows: Rows) -> Iterator[Reading]:
    size = sizes(layer)
    place = place_of(layer, rows)
    part = place if isinstance(place, SlicePlan) else next(iter(layer.slices), None)
    planned = _length(part.rows) if part is not None else size["o"]
    per_row = place.fan_out / max(1, planned)
    wanted = _length(rows) or size["o"]
    yield Reading("true", place.fan_in, per_row * wanted)
    if rows:
        yield Reading("packed", place.fan_in, per_row * size["o"], 0.5)
    if len(layer.shape) >= 2:
        area = math.prod(layer.shape[2:])
        yield Reading("torch", float(layer.shape[1] * area), float(layer.shape[0] * area), 0.5)
    if "k" in layer.axes:
        yield from _convolutional(layer, size | {"o": wanted})
    if layer.shape:
        yield Reading("shape[0]", float(layer.shape[0]), float(layer.shape[0]), 4.0)


def _convolutional(layer: LayerPlan, size: dict[str, int]) -> Iterator[Reading]:
    """Fans that heed groups but not the stride, and such as heed neither."""
    whole_in, whole_out, groups = size["i"] * size["k"], size["o"] * size["k"], layer.groups
    if layer.axes.find("i") < layer.axes.find("o"):
        yield Reading("unstrided", whole_in / groups, float(whole_out), 1.6)
        return
    yield Reading("unstrided", float(whole_in), whole_out / groups, 1.6)
    if groups > 1:
        yield Reading("ungrouped", float(whole_in * groups), float(whole_out), 3.0)


def _length(rows: Rows) -> int:
    return sum(stop - start for start, stop in rows)
