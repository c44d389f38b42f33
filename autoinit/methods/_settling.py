"""Which layers are mirrored after all: each loses its pairs where something else than mirrored weights reads them."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import networkx as nx
import numpy as np
import torch

from autoinit.methods._pairing import MirrorableLayer
from autoinit.methods._partners import ALONE, Numbers, partners, runs
from autoinit.methods._tangents import tangent_of
from autoinit.plans.mirror import FeatureRun
from autoinit.resolving import Ending
from autoinit.resolving.features import Origins, origins
from autoinit.theory.mirrored import Tangent
from autoinit.tracing import Dataflow, Op


@dataclass(frozen=True)
class Settled:
    """How the features of mirrored layers are laid out.

    Attributes:
        layers: by parameter.
        found: who reads them.
        tangents: how each layer that feeds a nonlinearity uses it, by parameter; without those that lost their pairs.
        partner: of each unit, by the operation that makes them, where they are paired.
        recurrent: parameters of layers that read what they have made before.
    """

    layers: Mapping[str, MirrorableLayer]
    found: Origins
    tangents: Mapping[str, Tangent] = field(default_factory=dict)
    partner: Mapping[Op, Numbers] = field(default_factory=dict)
    recurrent: frozenset[str] = frozenset()

    @cached_property
    def by_use(self) -> Mapping[Op, MirrorableLayer]:
        """The layer that each operation uses."""
        return {op: layer for layer in self.layers.values() for op in layer.uses}

    def reads(self, layer: MirrorableLayer) -> Op | None:
        """A use of the layer that reads features of mirrored layers."""
        return next((op for op in layer.uses if op in self.found.columns), None)

    def copies(self, layer: MirrorableLayer) -> tuple[FeatureRun, ...] | None:
        """Of a depthwise convolution that pairs go through: the runs of its channels; None of any other layer."""
        op = layer.uses[0]
        return self._runs(op, self.found.carried[op], 1, 1.0) if op in self.found.carried else None

    def goes_again(self, layer: MirrorableLayer) -> bool:
        """Whether pairs go through a depthwise convolution, and then through a nonlinearity once more."""
        return any(layer.uses[0] in chain for chain in self.found.again.values())

    def before_depthwise(self, layer: MirrorableLayer) -> float:
        """By how much features are multiplied in front of a depthwise convolution that feeds a nonlinearity."""
        return next(iter(self.found.scales[layer.uses[0]].values())) if layer.bends else 1.0

    def factor_in_sum(self, layer: MirrorableLayer) -> float:
        """By how much the layer's output is multiplied on its way to the sum in front of its nonlinearity."""
        op = next((op for op in layer.uses if op in self.found.sums), None)
        return self.found.sums[op][op] if op is not None else 1.0

    def output_runs(self, layer: MirrorableLayer) -> tuple[FeatureRun, ...]:
        """The layer's output features by pairs; those of gates as what they gate."""
        if layer.rows:
            return tuple(FeatureRun(a, b - a, paired=False, factor=1 / before) for a, b, before in layer.rows)
        return _output_runs(layer, self.partner.get(layer.uses[0]))

    def input_runs(self, layer: MirrorableLayer, op: Op, factor: float) -> tuple[FeatureRun, ...]:
        """What the layer reads at a use: runs of one source's features, with what makes up for its nonlinearity.

        factor: for features of no source.
        """
        return self._runs(op, self.found.columns[op], layer.plan.groups, factor)

    def _runs(self, op: Op, numbers: torch.Tensor, groups: int, factor: float) -> tuple[FeatureRun, ...]:
        columns, starts = numbers.numpy(), self.found.starts
        ops = list(starts)
        source = np.where(columns > 0, np.searchsorted(list(starts.values()), columns - 1, side="right") - 1, -1)
        made: list[FeatureRun] = []
        for begin, stop in _alike(source, groups):
            if source[begin] < 0:
                made.append(FeatureRun(begin, stop - begin, paired=False, factor=factor))
                continue
            maker = ops[int(source[begin])]
            made += self._run(begin, columns[begin:stop] - 1 - starts[maker], maker, self._factor(op, maker))
        return tuple(made)

    def _factor(self, op: Op, maker: Op) -> float:
        """What makes up for the nonlinearities of all that is added up in features of one source, as an operation
        reads them: each gives scale / c.
        """
        scales = self.found.scales.get(op, {})
        power = 0.0
        for each in {maker, *self.found.joined.get(maker, ())} & {maker, *scales}:
            here = self.tangents.get(self.by_use[each].plan.param)
            power += (scales.get(each, 1.0) / (here.c if here is not None else 1.0)) ** 2
        return 1 / math.sqrt(power)

    def _run(self, begin: int, local: Numbers, maker: Op, own: float) -> Iterator[FeatureRun]:
        layer = self.by_use[maker]
        partner = self.partner.get(maker)
        if partner is None:
            yield FeatureRun(begin, len(local), paired=False, factor=own)
            return
        for at, size, paired in runs(_places(layer)[local], partner) or ():
            yield FeatureRun(begin + at, size, paired, factor=own if paired else 0.0)


def settle(
    dataflow: Dataflow,
    layers: Mapping[str, MirrorableLayer],
    branches: Mapping[Op, int],
    reasons: dict[str, str],
) -> Settled:
    """Lay out the features of layers by what reads them, until nothing reads a pair but in whole.

    Args:
        dataflow: traced with shapes.
        layers: by parameter, those that may be mirrored.
        branches: of operations that end a branch of a residual stream, the number of the stream's branches.
        reasons: gets, by parameter, why a layer that feeds a nonlinearity is not paired.
    """
    kept, dropped = dict(layers), {name for name, layer in layers.items() if layer.reads_only}
    while True:
        made = [layer for name, layer in kept.items() if name not in dropped]
        sources = {each.op: each for layer in made for each in layer.sources()}
        ordered = {op: sources[op] for op in dataflow.graph.nodes if op in sources}
        readers = {op: reading for layer in kept.values() for op, reading in layer.readings()}
        found = origins(dataflow, ordered, readers, {layer.uses[0] for layer in made if layer.carries})
        bending = [layer for layer in made if layer.bends and found.carried.keys().isdisjoint(layer.uses)]
        attempt = _Settling(dataflow, kept, bending, branches, found)
        lost = attempt.lost()
        if not lost:
            return Settled(kept, found, attempt.tangents, attempt.partner, attempt.recurrent())
        for name, why in lost.items():
            reasons[name] = why
            if kept[name].summed or kept[name].through:
                kept[name] = kept[name].straight()
            else:
                dropped.add(name)


@dataclass
class _Settling:
    """One attempt at layers that feed nonlinearities (`bending`), their features being followed already.

    Uses fall into classes: `bent_as_one` are those that share a nonlinearity, `classes` those that share pairs.
    """

    dataflow: Dataflow
    layers: Mapping[str, MirrorableLayer]
    bending: list[MirrorableLayer]
    branches: Mapping[Op, int]
    found: Origins
    tangents: dict[str, Tangent] = field(default_factory=dict)
    partner: dict[Op, Numbers] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_use = {op: layer for layer in self.bending for op in layer.uses}
        self.reads = {op: layer for layer in self.layers.values() for op in layer.uses}
        self.readers: dict[Op, list[Op]] = defaultdict(list)
        for reader in self.found.columns:
            for maker in self.found.scales[reader]:
                self.readers[maker].append(reader)
        order = {op: place for place, op in enumerate(self.by_use)}
        before: nx.Graph[Op] = nx.Graph()
        before.add_nodes_from(self.by_use)
        for layer in self.bending:
            nx.add_path(before, layer.uses)
        for tied in (*self.found.sums.values(), *self.found.gated.values()):
            nx.add_path(before, tied)
        behind = before.copy()
        for tied in self.found.joined.values():
            nx.add_path(behind, tied)

        def classes(ties: nx.Graph[Op]) -> list[list[Op]]:
            return [sorted(each, key=order.__getitem__) for each in nx.connected_components(ties)]

        self.bent_as_one, self.classes = classes(before), classes(behind)

    def lost(self) -> dict[str, str]:
        """Layers that cannot keep their pairs, by parameter, and why."""
        for step in (self._unfollowed, self._not_linear, self._torn, self._disagreeing):
            lost = dict(step())
            if lost:
                return lost
        return {}

    def _members(self, ops: Iterable[Op], why: str) -> Iterator[tuple[str, str]]:
        for name in dict.fromkeys(self.by_use[op].plan.param for op in ops):
            yield name, why

    def _unfollowed(self) -> Iterator[tuple[str, str]]:
        for ops in self.classes:
            why = next((self.found.lost[op] for op in ops if op in self.found.lost), "")
            if why:
                yield from self._members(ops, why)

    def _not_linear(self) -> Iterator[tuple[str, str]]:
        depth = _most_in_a_row(self.dataflow, frozenset().union(*(layer.all_ends for layer in self.bending)))
        for ops in self.bent_as_one:
            members = list({self.by_use[op].plan.param: self.by_use[op] for op in ops}.values())
            most = self._most_driven(ops)
            bending = [layer for layer in members if layer.part != "gates"]
            found = {layer.plan.param: tangent_of(layer, self._again(layer), depth, most) for layer in bending}
            if not bending:
                yield from self._members(ops, "nothing that is gated can be mirrored")
            elif None in found.values():
                name = bending[0].ending.nonlinearity
                yield from self._members(ops, f"{name} has no odd part that is nearly linear")
            elif len(set(found.values())) > 1 or len({layer.features for layer in members}) > 1:
                yield from self._members(ops, "what is added to it feeds other things")
            else:
                shared = next(each for each in found.values() if each is not None)
                self.tangents.update(dict.fromkeys((layer.plan.param for layer in members), shared))

    def _again(self, layer: MirrorableLayer) -> tuple[Ending, ...]:
        """The nonlinearities behind a layer's own that depthwise convolutions lead its features through."""
        return tuple(self.reads[op].ending for op in self.found.again.get(layer.uses[0], ()))

    def _most_driven(self, ops: Iterable[Op]) -> float:
        """The largest scale of a nonlinearity: 1 / sqrt(L) where only ends of a stream's L branches read it.

        What ends a branch has to be divided by sqrt(L). By driving the nonlinearity less, it is the weight in front
        that becomes smaller, and so learns faster: a step on it is large beside it, and what it makes is what pairs
        part by; a step on the end alone only chooses among features that stay as they were drawn.
        """
        readers = {reader for op in ops for reader, _ in self._columns(op)}
        return 1 / math.sqrt(min((self.branches.get(reader, 1) for reader in readers), default=1))

    def _torn(self) -> Iterator[tuple[str, str]]:
        for ops in self.classes:
            layer = self.by_use[ops[0]]
            paired = {self.tangents[self.by_use[op].plan.param].paired for op in ops}
            if paired == {False}:
                continue
            if len(paired) > 1:
                yield from self._members(ops, "only one part of a sum needs pairs")
                continue
            read = {(op, reader): local for op in ops for reader, local in self._columns(op)}
            groups = [(local, self._groups(reader)) for (_, reader), local in read.items()]
            own = [(np.arange(layer.features), self.by_use[op].groups) for op in ops]
            partner = partners(layer.features, [*groups, *own])
            if bool((partner == ALONE).all()):
                yield from self._members(ops, "no two of its units are read by the same weights")
                continue
            torn = [reader for (_, reader), local in read.items() if not self._whole(reader, local, partner)]
            if torn:
                yield from self._members(ops, f"{torn[0].name} does not read its units in whole pairs")
            elif any(not self._whole_outputs(self.by_use[op], partner) for op in ops):
                yield from self._members(ops, "its units do not lie in whole pairs")
            else:
                self.partner.update(dict.fromkeys(ops, partner))

    def _columns(self, op: Op) -> Iterator[tuple[Op, Numbers]]:
        """Who reads features of a source, and which; negative numbers where others' features are read."""
        start, layer = self.found.starts[op], self.by_use[op]
        for reader in self.readers[op]:
            local = self.found.columns[reader].numpy() - 1 - start
            mine = (local >= 0) & (local < layer.outputs)
            if mine.any():
                yield reader, np.where(mine, _places(layer)[np.where(mine, local, 0)], ALONE)

    def _groups(self, reader: Op) -> int:
        return self.reads[reader].plan.groups

    def _whole(self, reader: Op, local: Numbers, partner: Numbers) -> bool:
        groups = self._groups(reader)
        pieces = (local[begin:stop] for begin, stop in _alike(np.where(local >= 0, 0, ALONE), groups))
        return all(piece[0] < 0 or runs(piece, partner) is not None for piece in pieces)

    def _whole_outputs(self, layer: MirrorableLayer, partner: Numbers) -> bool:
        try:
            _output_runs(layer, partner)
        except ValueError:
            return False
        return True

    def _disagreeing(self) -> Iterator[tuple[str, str]]:
        """Sources of what a weight reads in one way at one use and in another way at another."""
        trial = Settled(self.layers, self.found, self.tangents, self.partner)
        for layer in self.layers.values():
            reads = [op for op in layer.uses if op in self.found.columns]
            others = [op for op in layer.uses if op not in reads]
            if not reads or len(layer.uses) == 1:
                continue
            ways = {tuple(map(_rounded, trial.input_runs(layer, op, 1.0))) for op in reads}
            outside = [op for op in others if any(each.made for each in op.operands.values())]
            if len(ways) > 1 or outside:
                why = f"{layer.plan.name} reads other units at another of its {len(layer.uses)} uses"
                makers = {maker for op in reads for maker in self.found.scales[op] if maker in self.by_use}
                tied = (ops for ops in self.classes if not makers.isdisjoint(ops))
                yield from self._members(itertools.chain.from_iterable(tied), why)

    def recurrent(self) -> frozenset[str]:
        """Parameters of layers that read features of what they are added up to, or make themselves."""
        return frozenset(
            self.by_use[op].plan.param
            for ops in self.bent_as_one
            for op in ops
            if not set(ops).isdisjoint(self.found.scales.get(op, ()))
        )


def unpaired(features: int, groups: int) -> tuple[FeatureRun, ...]:
    """Runs of so many features without pairs, one for each group."""
    size = features // groups
    return tuple(FeatureRun(start, size, paired=False) for start in range(0, features, size))


def _most_in_a_row(dataflow: Dataflow, ends: Collection[Op]) -> int:
    """The largest number of nonlinearities that end at these operations, on one way through the graph."""
    depth: dict[Op, int] = {}
    for op in dataflow.graph.nodes:
        before = max((depth[each] for each in op.operands.values()), default=0)
        depth[op] = before + (op in ends)
    return max(depth.values(), default=1) or 1


def _output_runs(layer: MirrorableLayer, partner: Numbers | None) -> tuple[FeatureRun, ...]:
    """Runs of a layer's output features, each of a convolution's groups apart.

    Raises:
        ValueError: partners do not lie side by side.
    """
    if partner is None:
        return unpaired(layer.outputs, layer.plan.groups)
    rows = layer.rows_read
    wholes = np.full(layer.outputs, ALONE)
    for shift in {0, layer.gate}:
        wholes[rows + shift] = np.where(partner == ALONE, ALONE, rows[partner] + shift)
    found: list[FeatureRun] = []
    size = layer.outputs // layer.plan.groups
    for start in range(0, layer.outputs, size):
        pieces = runs(np.arange(start, start + size), wholes)
        if pieces is None:
            raise ValueError
        found += [FeatureRun(start + at, count, paired) for at, count, paired in pieces]
    return tuple(found)


def _places(layer: MirrorableLayer) -> Numbers:
    """Of each output feature its place among those that readers see."""
    found = np.full(layer.outputs, ALONE)
    found[layer.rows_read] = np.arange(layer.features)
    return found


def _alike(source: Numbers, groups: int) -> Iterator[tuple[int, int]]:
    """Begin and end of runs of equal numbers; none goes beyond a group."""
    size = len(source) // groups
    breaks = {*(np.flatnonzero(np.diff(source)) + 1).tolist(), *range(0, len(source), size), len(source)}
    yield from itertools.pairwise(sorted(breaks))


def _rounded(run: FeatureRun) -> tuple[int, int, bool, float]:
    return run.start, run.size, run.paired, round(run.factor, 9)
