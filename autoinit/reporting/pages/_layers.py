"""A layer as a page's document holds it: what it feeds, the walks that show it, and its stds."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from autoinit.plans.layers import LayerPlan
from autoinit.recognising.alone import TensorRow
from autoinit.reporting import _wording as wording
from autoinit.reporting.alone import recipe, remarks
from autoinit.reporting.pages._kinds import Way, kind_of, why
from autoinit.reporting.pages._numbers import number
from autoinit.reporting.pages._picture import Picture
from autoinit.tensors.measuring import WeightStats


def mark(layer: LayerPlan, codes: Sequence[str]) -> Hashable:
    """What is told of a layer by its looks in the picture."""
    return layer.status, *_looks(layer, *layer.slices), tuple(codes)


def mark_resolved(layer: Any) -> Hashable:
    """The same of a layer of which a `Resolution` is known."""
    return _looks(layer.ending, *(part.ending for part in layer.slices))


def _looks(*ways: Any) -> tuple[Hashable, ...]:
    return tuple((kind_of(fed), fed.reason, fed.nonlinearity, fed.normalised) for fed in ways)


def planned_layer(
    layer: LayerPlan,
    picture: Picture,
    codes: Sequence[str],
    before: WeightStats | None,
    after: WeightStats | None,
    signal: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """A layer of a plan.

    codes: of its findings. before, after: statistics of its weight. signal: its moments.
    """
    unresolved = layer.status == "unresolved"
    return {
        "name": layer.name,
        "op": wording.operation(layer.op),
        "kind": "unresolved" if unresolved else kind_of(layer),
        "feeds": layer.reason if unresolved else wording.feeds(layer.nonlinearity, layer.params, layer.reason),
        "status": layer.status,
        "normed": layer.normalised,
        "scheme": "" if unresolved else wording.scheme(layer.scheme),
        "gain": None if unresolved else number(layer.gain),
        "fan": "" if unresolved else wording.fan(layer.mode, layer.fan_in, layer.fan_out),
        "shape": " x ".join(map(str, layer.shape)),
        "std": number(layer.std) if layer.status == "planned" else None,
        "before": None if before is None else f"~{before.std:.3g}" if before.sampled else number(before.std),
        "after": None if after is None else number(after.std),
        "note": layer.note,
        "recipe": "",
        "source": layer.source,
        "codes": list(dict.fromkeys(codes)),
        "walks": list(_walks(layer, picture)),
        "signal": signal,
    }


def resolved_layer(layer: Any, picture: Picture) -> dict[str, Any]:
    """A layer of which a `Resolution` is known, and no plan."""
    fed = layer.ending
    ways = [(part.rows, part.ending) for part in layer.slices] or [((), fed)]
    walks = [_walk(way, picture, wording.rows(rows) if rows else "") for rows, way in ways]
    return {
        **_UNKNOWN,
        "name": layer.name,
        "op": wording.operation(layer.op),
        "kind": kind_of(fed),
        "feeds": wording.feeds(fed.nonlinearity, fed.params, fed.reason),
        "normed": fed.normalised,
        "shape": " x ".join(map(str, layer.shape)),
        "source": str(layer.source or ""),
        "walks": [*walks, *(_walk(way, picture, also=True) for way in layer.alternatives)],
    }


def unplanned_layer(name: str, signal: Mapping[str, Any]) -> dict[str, Any]:
    """A layer of which nothing is known but its moments."""
    return {**_UNKNOWN, "name": name, "op": signal["op"], "signal": signal}


def tensor(row: TensorRow) -> dict[str, Any]:
    """A tensor of weights without a model."""
    return {
        **_UNKNOWN,
        "name": row.name,
        "op": row.dtype,
        "shape": " x ".join(map(str, row.shape)),
        "before": None if row.stats is None else number(row.stats.std),
        "recipe": recipe(row),
        "note": "; ".join(remarks(row)),
    }


_UNKNOWN: Mapping[str, Any] = {
    **dict.fromkeys(("op", "kind", "feeds", "status", "scheme", "fan", "shape", "note", "recipe", "source"), ""),
    **dict.fromkeys(("gain", "std", "before", "after", "signal")),
    "normed": False,
    "codes": [],
    "walks": [],
}


def _walks(layer: LayerPlan, picture: Picture) -> Iterator[dict[str, Any]]:
    if not layer.slices:
        yield _walk(layer, picture)
    for part in layer.slices:
        yield _walk(part, picture, wording.rows(part.rows))
    for way in layer.alternatives:
        yield _walk(way, picture, also=True)


def _walk(fed: Way, picture: Picture, rows: str = "", *, also: bool = False) -> dict[str, Any]:
    return {
        "rows": rows,
        "also": also,
        "kind": kind_of(fed),
        "feeds": wording.feeds(fed.nonlinearity, fed.params, fed.reason),
        "why": why(fed),
        "path": list(fed.path),
        "steps": picture.steps(fed.path),
    }
