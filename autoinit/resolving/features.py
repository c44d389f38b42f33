"""Where the features that a weight reads were made: which output feature of which weight each input column is.

Every output feature of chosen weights is numbered. The numbers move through the graph as values would, and stop where a
weight reads them. On the way only what treats each feature alone, or keeps features as they are, may act on them; what
else does, loses the weight, with a reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch

from autoinit.ops import Role, Trait
from autoinit.resolving._factors import factor_inside
from autoinit.resolving._labelling import NO_RESULT, combined, rearranged
from autoinit.resolving._labels import numbered, one_entry
from autoinit.resolving.axes import InputAxis
from autoinit.tracing.dataflow import Dataflow, Op, only_steers
from autoinit.tracing.rerunning import execute


@dataclass(frozen=True)
class Source:
    """A weight operation whose output features are followed.

    Attributes:
        op: the operation.
        features: their number.
        axis: of the output that holds them, from the end.
        ends: the operations that end its nonlinearity, also where a sum with other sources comes before it; several
            where parts of it are bent one by one; none where it feeds none.
        gate: where the end is the product of some of the features with a function of others, one by one: how many
            features lie from each of the first to its gate. What comes out of the product bears the numbers of the
            first.
        gates: whether the end is the product of another source's features with a function of these.
    """

    op: Op
    features: int
    axis: int
    ends: frozenset[Op]
    gate: int
    gates: bool


@dataclass
class Origins:
    """What came of the features of several weights.

    Attributes:
        columns: for each weight operation that reads some, a number for each of its input features: 1 + its place among
            the features of all sources, 0 for what no source made.
        starts: how many features lie before each source's.
        scales: for each such operation, by how much what it reads of each source was multiplied behind the
            nonlinearity.
        sums: sources that are added up feature by feature before their nonlinearity, and by how much each was
            multiplied before. What comes out bears the numbers of the first.
        gated: for each product of several sources, all that make it. What comes out bears the numbers of the first of
            what is gated.
        joined: sources that are added up behind their nonlinearities, feature by feature: by the first, whose numbers
            the sum bears, itself and those that are added to it.
        carried: for each depthwise convolution that numbered features went through, their numbers as it reads them.
        again: for each source, the depthwise convolutions behind whose nonlinearity its features are read, in order.
        lost: why the features of a source could not be followed to weights alone.
    """

    starts: Mapping[Op, int]
    columns: dict[Op, torch.Tensor] = field(default_factory=dict)
    scales: dict[Op, Mapping[Op, float]] = field(default_factory=dict)
    sums: dict[Op, Mapping[Op, float]] = field(default_factory=dict)
    gated: dict[Op, list[Op]] = field(default_factory=dict)
    joined: dict[Op, list[Op]] = field(default_factory=dict)
    carried: dict[Op, torch.Tensor] = field(default_factory=dict)
    again: dict[Op, tuple[Op, ...]] = field(default_factory=dict)
    lost: dict[Op, str] = field(default_factory=dict)


def origins(
    dataflow: Dataflow, sources: Mapping[Op, Source], readers: Mapping[Op, InputAxis], carriers: Collection[Op] = ()
) -> Origins:
    """Follow the features of `sources` to the weights that read them.

    Args:
        dataflow: traced with shapes.
        sources: by operation, in the order of the dataflow.
        readers: weight operations that may read them, and how.
        carriers: those of them that treat each feature alone: depthwise convolutions. What comes out of one, and of
            the nonlinearity that it feeds, bears the numbers that it reads.
    """
    found = Origins(_starts(sources))
    state = _Following(found, sources, carriers)
    for op in dataflow.graph.nodes:
        state.visit(op, readers)
    for op in dataflow.graph.nodes:
        if op.op == "output":
            for each in dataflow.graph.predecessors(op):
                state.lose(each, "they reach the model's output")
    return found


def _starts(sources: Mapping[Op, Source]) -> dict[Op, int]:
    """The number before each source's first feature."""
    starts, at = {}, 0
    for op, source in sources.items():
        starts[op] = at
        at += source.features
    return starts


@dataclass
class _Following:
    """One pass over the graph.

    Attributes:
        labels: by operation.
        past: operations behind a source's nonlinearity.
        ends: of each operation in front of one, the operations that end it.
        again: for each operation, the depthwise convolutions that features of a source went through behind their
            nonlinearity, and that feed one themselves; sources without such are left out.
    """

    found: Origins
    sources: Mapping[Op, Source]
    carriers: Collection[Op]
    labels: dict[Op, Any] = field(default_factory=dict)
    scales: dict[Op, dict[Op, float]] = field(default_factory=dict)
    past: set[Op] = field(default_factory=set)
    ends: dict[Op, frozenset[Op]] = field(default_factory=dict)
    again: dict[Op, dict[Op, tuple[Op, ...]]] = field(default_factory=dict)

    def visit(self, op: Op, readers: Mapping[Op, InputAxis]) -> None:
        known = {each: self.labels[each] for each in op.operands.values() if each in self.labels}
        if known and (op.signal or op.acts == "elementwise"):
            if op in readers and set(known) == {readers[op].operand}:
                if op in self.carriers and self._carry(op, readers[op]):
                    return
                self._read(op, readers[op])
            elif not all(only_steers(op, slot) for slot, each in op.operands.items() if each in known):
                self._pass(op, known)
        if op in self.sources:
            source = self.sources[op]
            assert op.shape is not None
            self.labels[op] = numbered(op.shape, (source.axis,), (source.features,)) + self.found.starts[op]
            self.scales[op], self.ends[op] = {op: 1.0}, source.ends
            if not source.ends:
                self.past.add(op)

    def _read(self, op: Op, reading: InputAxis) -> None:
        """A weight reads numbered features: one for each of its columns, if they vary along no other axis."""
        operand = reading.operand
        single = self._single(reading)
        if isinstance(single, str):
            self.lose(operand, f"{op.name} reads {single}")
            return
        if operand not in self.past:
            self.lose(operand, f"{op.name} reads them before their nonlinearity")
            return
        for source in self.scales[operand]:
            again = self.again.get(operand, {}).get(source, ())
            if self.found.again.setdefault(source, again) != again:
                self.lose(operand, f"{op.name} reads them behind another number of nonlinearities than others do")
        self.found.columns[op] = single
        self.found.scales[op] = {source: scale * factor_inside(op) for source, scale in self.scales[operand].items()}

    def _single(self, reading: InputAxis) -> torch.Tensor | str:
        """The number of each feature along the axis that is read, or what is read instead."""
        labels = self.labels[reading.operand]
        if not isinstance(labels, torch.Tensor):
            return "several tensors"
        single = one_entry(labels, [each for each in range(labels.dim()) if each != labels.dim() + reading.axis])
        return "them along several axes" if single is None else single.reshape(-1).long()

    def _carry(self, op: Op, reading: InputAxis) -> bool:
        """Whether a depthwise convolution gives what it reads, each feature once or several times in a row.

        In front of features' nonlinearity it must feed that one; behind it it may feed none, or one of its own.
        """
        operand, own = reading.operand, self.sources[op].ends
        single, behind = self._single(reading), operand in self.past
        scales = {source: scale * factor_inside(op) for source, scale in self.scales[operand].items()}
        alike = len(set(scales.values())) == 1 and self.found.joined.keys().isdisjoint(scales)
        if isinstance(single, str) or (own and not alike) or (not behind and own != self.ends[operand]):
            return False
        assert op.shape is not None
        self.found.carried[op], self.found.scales[op] = single, scales
        axis = len(op.shape) + reading.axis
        several = single.repeat_interleave(op.shape[axis] // len(single))
        self.labels[op] = several.view([-1 if each == axis else 1 for each in range(len(op.shape))]).expand(op.shape)
        self.scales[op], self.ends[op] = scales, own
        before = self.again.get(operand, {})
        self.again[op] = {each: (*before.get(each, ()), op) for each in scales} if behind and own else before
        if not own:
            self.past.add(op)
        return True

    def _pass(self, op: Op, known: Mapping[Op, Any]) -> None:
        ends = frozenset[Op]().union(*(self.ends[each] for each in known))
        behind = [each in self.past for each in known]
        chains = {(source, self.again.get(each, {}).get(source, ())) for each in known for source in self.scales[each]}
        problem = ""
        several = self._from_several(known)
        summing = Trait.ADDING in op.traits and several and not any(behind)
        joining = Trait.ADDING in op.traits and several and all(behind) and self._all_bend(known)
        gating = op.role is Role.PRODUCT and ends == {op} and several and not any(behind)
        if op.role is Role.WEIGHT:
            problem = f"{op.name}, which reads them, cannot be mirrored"
        elif len(chains) > len(dict(chains)):
            problem = f"{op.op} joins them with what has another number of nonlinearities behind it"
        elif any(behind) and op.role is Role.PRODUCT:
            problem = f"{op.op} multiplies them by another signal"
        elif any(behind) and not all(behind):
            problem = f"{op.op} joins them with what has no nonlinearity yet"
        elif not (joining or _keeps(op) or ((op.acts == "elementwise" or op in ends) and not all(behind))):
            problem = f"{op.op} mixes or bends them"
        meeting = summing or gating or joining
        moved = None if problem else self._summed(op, known) if meeting else self._moved(op, known)
        if moved is None:
            for each in known:
                lost = (
                    f"{op.op} mixes or bends them"
                    if op.acts == "reducing"
                    else f"they cannot be followed through {op.op}"
                )
                self.lose(each, problem or lost)
            return
        self.labels[op], self.ends[op], self.again[op] = moved, ends, {source: each for source, each in chains if each}
        if op in ends:
            self.scales[op] = {source: 1.0 for each in known for source in self.scales[each]}
            if gating:
                self.found.gated[op] = list(self.scales[op])
        else:
            by = _multiplied_by(op)
            self.scales[op] = {
                source: scale * by * _weight_in_sum(op, each)
                for each in known
                for source, scale in self.scales[each].items()
            }
            if summing:
                self.found.sums.update(dict.fromkeys(self.scales[op], self.scales[op]))
            if joining:
                self._join(op)
        if all(behind) or op in ends:
            self.past.add(op)

    def _join(self, op: Op) -> None:
        """Note which sources are added up: those whose numbers an operand bears, and those that it has joined."""
        firsts = [next(iter(self.scales[each])) for each in op.operands.values() if each.signal]
        together = dict.fromkeys(each for first in firsts for each in self.found.joined.get(first, [first]))
        self.found.joined[firsts[0]] = list(together)

    def _all_bend(self, known: Mapping[Op, Any]) -> bool:
        return all(self.sources[source].ends for each in known for source in self.scales[each])

    def _from_several(self, known: Mapping[Op, Any]) -> bool:
        """Whether no two operands come from one source, as the terms of a written-out activation do."""
        made_by = [source for each in known for source in self.scales[each]]
        return len(known) > 1 and len(set(made_by)) == len(made_by)

    def _summed(self, op: Op, known: Mapping[Op, Any]) -> torch.Tensor | None:
        """The numbers behind a sum, or a product, of sources whose features meet one by one: those of the first.

        Of a product those of what is gated; of two gates, or of none, there are no such.
        """
        signals = sorted((each for each in op.operands.values() if each.signal), key=self._gates)
        if set(signals) != set(known) or op.shape is None:
            return None
        if op.role is Role.PRODUCT and [self._gates(each) for each in signals] != [False, True]:
            return None
        if any(self.sources[source].gate for each in signals for source in self.scales[each]):
            return None
        first, *others = (_from_start(self.labels[each], self.found.starts, self.scales[each]) for each in signals)
        try:
            met = [each.broadcast_to(op.shape) for each in (first, *others)]
        except NO_RESULT:
            return None
        if not all(torch.equal(each, met[0]) for each in met):
            return None
        return met[0] + self.found.starts[next(iter(self.scales[signals[0]]))]

    def _gates(self, op: Op) -> bool:
        return any(self.sources[source].gates for source in self.scales.get(op, ()))

    def _moved(self, op: Op, known: Mapping[Op, Any]) -> Any:
        try:
            gate = self._gate(op, known)
            if gate:
                made: Any = _gated(known, gate)
            elif op.acts == "rearranging":
                made = rearranged(op, known)
            elif op.acts == "elementwise":
                made = _alike(op, known)
            else:
                (operand, labels), *others = known.items()
                made = None if others else combined(op, operand, labels, known=False)
        except NO_RESULT:
            return None
        return made

    def _gate(self, op: Op, known: Mapping[Op, Any]) -> int:
        """The distance between features and their gates where this is the product of both; 0 elsewhere."""
        if op.role is not Role.PRODUCT:
            return 0
        made_by = {source for each in known for source in self.scales[each]}
        source = self.sources[made_by.pop()] if len(made_by) == 1 else None
        return source.gate if source is not None and op in source.ends else 0

    def lose(self, op: Op, why: str) -> None:
        """Give up the sources whose features an operation's output holds."""
        for source in self.scales.get(op, ()):
            self.found.lost.setdefault(source, why)


def _from_start(labels: Any, starts: Mapping[Op, int], made_by: Mapping[Op, float]) -> torch.Tensor:
    """The numbers of one source's features, counted from its first; of several that were added up, of the first."""
    found: torch.Tensor = labels - starts[next(iter(made_by))]
    return found


def _weight_in_sum(op: Op, operand: Op) -> float:
    """The number that a sum multiplies one of its operands by: `torch.add(x, y, alpha=2)`."""
    alpha = op.constants.get("alpha", 1)
    second = Trait.ADDING in op.traits and op.operands.get("input" if op.op == "rsub" else "other") is operand
    return abs(float(alpha)) if second and isinstance(alpha, (int, float)) else 1.0


def _gated(known: Mapping[Op, Any], distance: int) -> torch.Tensor | None:
    """The numbers of features that are multiplied by their own gates, which lie `distance` further on."""
    if len(known) != 2:
        return None
    one, other = known.values()
    for first, second in ((one, other), (other, one)):
        if isinstance(first, torch.Tensor) and torch.equal(first + distance, second):
            found: torch.Tensor = first
            return found
    return None


def _alike(op: Op, known: Mapping[Op, Any]) -> torch.Tensor | None:
    """Numbers behind an elementwise operation: those of its operands, if all have the same and the rest is constant."""
    first, *others = known.values()
    if op.shape is None or not all(torch.equal(first, each) for each in others):
        return None
    for slot, each in op.operands.items():
        if each not in known and not only_steers(op, slot) and (each.signal or prod(each.shape or ()) > 1):
            return None
    spread: torch.Tensor = first.broadcast_to(op.shape)
    return spread


def _multiplied_by(op: Op) -> float:
    """The number by which an elementwise operation with constants multiplies a signal; of a sum over positions the
    number of these, as if they were alike; 1 for any other.
    """
    operands = [each for each in op.operands.values() if each.signal]
    if op.op == "sum":
        return prod(operands[0].shape or ()) / prod(op.shape or ())
    if op.acts != "elementwise" or op.role is not Role.TRANSPARENT or len(operands) != 1 or len(op.operands) != 1:
        return 1.0
    if Trait.NEUTRAL in op.traits:  # dropout by its expectation
        return 1.0
    try:
        zero, one = (execute(op, {operands[0]: torch.tensor([value])}) for value in (0.0, 1.0))
        return float(one - zero)
    except NO_RESULT:
        return 1.0


_AVERAGING = frozenset({"avg_pool", "adaptive_avg_pool", "interpolate", "mean", "sum", "pad", "dropout"})
"""Operations that are linear in each feature by itself, beside elementwise ones with constants."""


def _keeps(op: Op) -> bool:
    """Whether an operation moves features, scales them alike or averages each over positions."""
    if op.acts == "rearranging":
        return op.call is None or op.call.spec is None or not op.call.spec.ranks
    return op.role is Role.TRANSPARENT and (op.acts == "elementwise" or op.op in _AVERAGING)
