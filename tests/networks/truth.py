"""The right answer for a network of pieces, by plain Python: no torch, and nothing of what is tested.

Each feature of a tensor remembers the rows of weights that it came from unchanged but for transparent operations.
Where a piece ends the walk, these rows get an `End`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from tests.networks.pieces import (
    Act,
    Aside,
    Attention,
    Concat,
    Description,
    Excite,
    Gate,
    Glu,
    Highway,
    Layer,
    Loop,
    Move,
    MultiHead,
    Norm,
    Parted,
    Pass,
    Piece,
    Pieces,
    Residual,
    Sum,
)  # fmt: skip

Params: TypeAlias = tuple[tuple[str, float], ...]
Runs: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Source:
    """One row of one use of a weight. normalised: whether a norm has been passed since. way: parts it went through."""

    weight: str
    use: int
    row: int
    normalised: bool = False
    way: tuple[int, ...] = ()


Feature: TypeAlias = frozenset[Source]
Features: TypeAlias = tuple[Feature, ...]


@dataclass(frozen=True)
class End:
    """Where a row went, and through which parts. place: a number of its own for each operation that ends walks."""

    nonlinearity: str
    reason: str
    params: Params = ()
    normalised: bool = False
    place: int = 0
    way: tuple[int, ...] = ()

    @property
    def gain(self) -> float:
        return gain(self.nonlinearity, self.params)

    @property
    def kind(self) -> tuple[str, str]:
        return self.nonlinearity, self.reason


@dataclass(frozen=True)
class Answer:
    """What ends say together.

    functions: (nonlinearity, params) that are right; several where gains are equal. alternatives: all that differ, if
    any do.
    """

    functions: frozenset[tuple[str, Params]]
    reasons: frozenset[str]
    gain: float
    normalised: bool
    alternatives: frozenset[tuple[str, str]] = frozenset()


@dataclass
class Truth:
    """weights: each weight's geometry. ends: for each weight, for each of its uses, for each of its rows."""

    weights: dict[str, Layer] = field(default_factory=dict)
    ends: dict[str, list[list[list[End]]]] = field(default_factory=dict)
    asides: list[Features] = field(default_factory=list)
    places: int = 0

    @classmethod
    def of(cls, description: Description) -> Truth:
        made = cls()
        features = made.follow(description.pieces, (frozenset(),) * description.form.width)
        softmax = description.ending in ("softmax", "log_softmax", "logits_too", "loss")
        made.end(features, "softmax" if softmax else "linear", "softmax" if softmax else "output")
        if description.ending == "logits_too":
            made.end(features, "linear", "output")
        for each in made.asides:
            made.end(each, "linear", "output")
        return made

    # What a weight feeds.

    def whole(self, weight: str) -> Answer:
        return answer(end for use in self.ends[weight] for row in use for end in row)

    def rows(self, weight: str, numbers: Collection[int]) -> Answer:
        """Of some of the rows."""
        return answer(end for use in self.ends[weight] for number in numbers for end in use[number])

    def wrong_slices(self, weight: str, slices: Collection[Runs]) -> str:
        """What is wrong with a partition of the rows into slices (none: the whole); empty if it is right.

        Rows with other ends are apart, rows that stay together to the end are not. Rows that part and meet again may
        be told apart. A weight whose uses part its rows differently may be taken whole.
        """
        uses = self.ends[weight]
        count = self.weights[weight].outputs
        groups = [numbers(runs) for runs in slices] or [tuple(range(count))]
        if sorted(number for group in groups for number in group) != list(range(count)):
            return "the slices are not a partition"
        if slices and any(
            all(_together(use[before]) == _together(use[after]) for use in uses)
            for group, other in itertools.combinations(groups, 2)
            for before, after in itertools.product(group, other)
        ):
            return "rows that stay together are in two slices"
        agree = all(len({_grouped(map(key, use)) for use in uses}) == 1 for key in (_together, _apart))
        if (slices or agree) and any(
            _apart(use[number]) != _apart(use[group[0]]) for use in uses for group in groups for number in group
        ):
            return "rows that feed different things are in one slice"
        return ""

    # The walk.

    def follow(self, pieces: Pieces, features: Features) -> Features:
        for piece in pieces:
            features = self.after(piece, features)
        return features

    def end(self, features: Features, nonlinearity: str, reason: str, params: Params = ()) -> Features:
        self.places += 1
        for source in {source for feature in features for source in feature}:
            found = End(nonlinearity, reason, params, source.normalised, self.places, source.way)
            self.ends[source.weight][source.use][source.row].append(found)
        return (frozenset(),) * len(features)

    def activated(self, features: Features, kind: str, params: Params = ()) -> Features:
        return self.end(features, kind, "activation", params)

    def used(self, layer: Layer) -> Features:
        """The output of one more use of a weight."""
        self.weights[layer.name] = layer
        uses = self.ends.setdefault(layer.name, [])
        uses.append([[] for _ in range(layer.outputs)])
        return tuple(frozenset({Source(layer.name, len(uses) - 1, row)}) for row in range(layer.outputs))

    def after(self, piece: Piece, features: Features) -> Features:
        match piece:
            case Layer():
                self.end(features, "linear", "weight")
                return self.used(piece)
            case Act():
                return self.activated(features, piece.kind, piece.params)
            case Norm():
                return tuple(frozenset(map(_normalised, feature)) for feature in features)
            case Pass():
                return features
            case Move():
                return moved(piece, features)
            case Loop():
                return self.follow(piece.body * piece.times, features)
            case Aside():
                self.asides.append(self.follow(piece.body, features))
                return features
            case Residual():
                return self.summed([self.follow(piece.body, features), self.follow(piece.shortcut, features)])
            case Sum():
                return self.summed([self.follow(body, features) for body in piece.bodies])
            case Concat() | Parted():
                return self.side_by_side(piece, features)
            case _:
                return self.multiplied(piece, features)

    def summed(self, parts: Sequence[Features]) -> Features:
        self.end(tuple(feature for part in parts for feature in part), "linear", "add")
        return (frozenset(),) * len(parts[0])

    def side_by_side(self, piece: Concat | Parted, features: Features) -> Features:
        if isinstance(piece, Parted):
            edges = [0, *(sum(piece.sizes[: count + 1]) for count in range(len(piece.sizes)))]
            starts = [self.marked(features[start:stop]) for start, stop in itertools.pairwise(edges)]
        else:
            starts = [features] * len(piece.bodies)
        parts = [self.follow(body, start) for body, start in zip(piece.bodies, starts, strict=True)]
        if isinstance(piece, Concat) and piece.stacked:
            return tuple(feature for together in zip(*parts, strict=True) for feature in together)
        return tuple(feature for part in parts for feature in part)

    def marked(self, features: Features) -> Features:
        """Features of a part, which goes its own way."""
        self.places += 1
        return tuple(
            frozenset(replace(source, way=(*source.way, self.places)) for source in feature) for feature in features
        )

    def multiplied(self, piece: Piece, features: Features) -> Features:
        match piece:
            case Gate():
                self.activated(self.follow(piece.gate, features), piece.kind)
                return self.end(self.follow(piece.value, features), "linear", "gate")
            case Glu():
                half = len(features) // 2
                self.activated(features[half:], piece.kind)
                return self.end(features[:half], "linear", "gate")
            case Excite():
                self.activated(self.follow(piece.body, features), "sigmoid")
                return self.end(features, "linear", "gate")
            case Highway():
                self.activated(self.follow(piece.transform, features), "sigmoid")
                self.end(self.follow(piece.body, features), "linear", "gate")
                return self.end(features, "linear", "gate")
            case Attention() | MultiHead():
                return self.attended(piece, features)
            case _:
                raise TypeError(f"no truth for {piece}")

    def attended(self, piece: Attention | MultiHead, features: Features) -> Features:
        width = piece.form.width
        self.end(features, "linear", "weight")
        if isinstance(piece, MultiHead):
            made = self.used(Layer(f"{piece.name}.in_proj_weight", width, 3 * width))
        else:
            made = tuple(feature for layer in piece.projections for feature in self.used(layer))
        for start in range(0, 3 * width, width):  # query, key, value
            self.end(made[start : start + width], "linear", "attention")
        if isinstance(piece, MultiHead):
            return self.used(Layer(f"{piece.name}.out_proj", width, width))
        return (frozenset(),) * width


def _normalised(source: Source) -> Source:
    return replace(source, normalised=True)


def moved(piece: Move, features: Features) -> Features:
    """Features after a change of form."""
    if piece.kind == "flatten":
        each = piece.after.width // piece.before.width
        if piece.before.axis == -1:
            return features * each
        return tuple(feature for feature in features for _ in range(each))
    return features


def _apart(ends: Sequence[End]) -> frozenset[object]:
    return frozenset((end.kind, end.params, end.normalised) for end in ends)


def _together(ends: Sequence[End]) -> frozenset[object]:
    return frozenset((end.place, end.way) for end in ends)


def _grouped(keys: Iterable[object]) -> tuple[int, ...]:
    """Equal numbers for equal keys."""
    seen: dict[object, int] = {}
    return tuple(seen.setdefault(key, len(seen)) for key in keys)


def numbers(runs: Runs) -> tuple[int, ...]:
    return tuple(number for start, stop in runs for number in range(start, stop))


def answer(ends: Iterable[End]) -> Answer:
    """All agree: that one. Else a nonlinearity wins over linear, of two the smaller gain, and the reason is mixed.

    Logits that are returned beside their softmax are softmax's. Of several linear reasons any may be named.
    """
    found = list(ends)
    kinds = {end.kind for end in found}
    normalised = all(end.normalised for end in found)
    alternatives = frozenset(kinds) if len({(end.kind, end.params) for end in found}) > 1 else frozenset()
    if any(end.reason == "softmax" for end in found):
        found = [end for end in found if end.reason != "output"]
    curved = [end for end in found if end.nonlinearity != "linear"]
    if not curved:
        reasons = frozenset(end.reason for end in found)
        return Answer(frozenset({("linear", ())}), reasons, 1.0, normalised, alternatives)
    smallest = min(end.gain for end in curved)
    chosen = [end for end in curved if math.isclose(end.gain, smallest, rel_tol=1e-7)]
    agree = len({(end.kind, end.params) for end in found}) == 1
    reasons = frozenset({chosen[0].reason if agree else "mixed"})
    return Answer(
        frozenset((end.nonlinearity, end.params) for end in chosen), reasons, smallest, normalised, alternatives
    )


# Gains: the closed forms, else 1 / sqrt(E[phi(z)^2]).

UNIT = ("linear", "softmax", "sigmoid", "selu")
XAVIER = ("linear", "softmax", "sigmoid", "tanh")


def _softplus(z: float, beta: float = 1.0) -> float:
    return math.log1p(math.exp(beta * z)) / beta


def _elu(z: float, alpha: float) -> float:
    return z if z > 0 else alpha * math.expm1(z)


def _celu(z: float, alpha: float) -> float:
    return z if z > 0 else alpha * math.expm1(z / alpha)


FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "relu6": lambda z: min(max(z, 0.0), 6.0),
    "elu": _elu,
    "celu": _celu,
    "gelu": lambda z: z * 0.5 * (1 + math.erf(z / math.sqrt(2))),
    "silu": lambda z: z / (1 + math.exp(-z)),
    "mish": lambda z: z * math.tanh(_softplus(z)),
    "softplus": _softplus,
    "hardswish": lambda z: z * min(max(z + 3, 0.0), 6.0) / 6,
    "hardtanh": lambda z, min_val, max_val: min(max(z, min_val), max_val),
    "squared_relu": lambda z: max(z, 0.0) ** 2,
    "custom": lambda z: z * math.tanh(z),
}


@functools.cache
def gain(nonlinearity: str, params: Params = ()) -> float:
    if nonlinearity in UNIT:
        return 1.0
    if nonlinearity == "tanh":
        return 5 / 3
    if nonlinearity in ("relu", "leaky_relu", "prelu"):
        slope = dict(params).get("negative_slope", dict(params).get("weight", 0.0))
        return math.sqrt(2 / (1 + slope**2))
    function, named = FUNCTIONS[nonlinearity], dict(params)
    steps, reach = 12_000, 12.0  # every kink used here lies on this grid, so that the error is of order step^2
    points = [2 * reach * step / steps - reach for step in range(steps + 1)]
    weighted = (function(z, **named) ** 2 * math.exp(-z * z / 2) for z in points)
    return 1 / math.sqrt(math.fsum(weighted) * 2 * reach / steps / math.sqrt(2 * math.pi))


# Scale.


def fans(layer: Layer, rows: Collection[int] | None = None) -> tuple[float, float]:
    """fan_in and fan_out of the layer, or of some of its rows, of which each input reaches those of its group."""
    of_group = layer.outputs // layer.groups
    reached = of_group if rows is None else len(rows) / len({row // of_group for row in rows})
    inputs, area, stride = layer.inputs, layer.area, layer.stride**layer.dims
    if layer.kind == "conv_transpose":
        return inputs / layer.groups * area / stride, reached * area
    return inputs / layer.groups * area, reached * area / stride


def std(nonlinearity: str, factor: float, fan_in: float, fan_out: float) -> float:
    if nonlinearity in XAVIER:
        return factor * math.sqrt(2 / (fan_in + fan_out))
    return factor / math.sqrt(fan_in)
