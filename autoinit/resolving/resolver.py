"""`resolve`: one Resolution for each weight of a Dataflow."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import networkx as nx

from autoinit.errors.arguments import require
from autoinit.ops import WEIGHTED_SUM, Role, Trait, WeightSlot
from autoinit.resolving._factors import factor_before, factor_inside
from autoinit.resolving._merging import merge
from autoinit.resolving._naming import unresolved
from autoinit.resolving._slicing import parted
from autoinit.resolving._walking import Endings, Walker, add_ending
from autoinit.resolving.normalising import norm_parameters
from autoinit.resolving.resolution import Ending, Reason, Resolution, SliceResolution
from autoinit.tensors.process_state import tensors_on_cpu
from autoinit.theory.gains import gain
from autoinit.theory.layouts import Layout
from autoinit.tracing.dataflow import Dataflow, Op, ParamUse
from autoinit.tracing.mixtures import is_mixture


@dataclass(frozen=True)
class _Use:
    """One use of a weight, resolved."""

    op: Op
    use: ParamUse
    slot: WeightSlot
    endings: tuple[Ending, ...]
    slices: tuple[SliceResolution, ...]


def resolve(dataflow: Dataflow) -> list[Resolution]:
    """Walk each weight to what it feeds.

    Returns one Resolution for each parameter that enters a weight operation, in the order of first use; a weight
    with several uses is listed once. What could not be resolved has reason `unresolved` and a note. A table that is
    looked up by the rank of its own products (the code book of vector quantisation) is no layer, nor is a norm's gain.
    """
    require("dataflow", dataflow, Dataflow, "what trace(model) gave")
    found: dict[str, list[_Use]] = {}
    with tensors_on_cpu():
        walker = Walker(dataflow)
        for op in dataflow.graph.nodes:
            traced = any(use.layout is not None for use in op.params)
            for use in op.params if op not in walker.noise.values() else ():
                if use.layout is not None:
                    found.setdefault(use.name, []).append(_resolved(walker, op, use))
                elif not traced and op.role is Role.WEIGHT and len(use.shape) > 1 and not use.left:
                    found.setdefault(use.name, []).append(_unresolved(op, use))
    ranking = {name for name, uses in found.items() if not any(each.op in walker.regions.carried for each in uses)}
    found = _in_weights(dataflow, found)
    none = ranking.intersection(_looked_up(dataflow)) | _gains_of_norms(dataflow, found)
    return [_combined(name, uses, walker) for name, uses in found.items() if name not in none]


def _in_weights(dataflow: Dataflow, found: Mapping[str, list[_Use]]) -> dict[str, list[_Use]]:
    """Without mixtures that make another use's weight: that of a stack of weights is where the mixed one goes."""
    ends: dict[str, list[Op]] = {}
    for op in dataflow.graph.nodes:
        for use in op.params:
            if use.modulated:
                ends.setdefault(use.name, []).append(op)

    def makes_weight(name: str, each: _Use) -> bool:
        mixes = not each.use.modulated and name in ends and is_mixture(each.op)
        return mixes and any(nx.has_path(dataflow.graph, each.op, end) for end in ends[name])

    kept = {name: [each for each in uses if not makes_weight(name, each)] for name, uses in found.items()}
    return {name: uses for name, uses in kept.items() if uses}


def _gains_of_norms(dataflow: Dataflow, found: Mapping[str, Sequence[_Use]]) -> frozenset[str]:
    """Weights of sums that are gains of norms whose output is summed."""
    summing = {name for name, uses in found.items() if all(each.op.op == WEIGHTED_SUM for each in uses)}
    return norm_parameters(dataflow) & summing if summing else frozenset()


def endings(dataflow: Dataflow) -> Callable[[Op], list[Ending]]:
    """A function that gives every distinct ending of the walks from an operation's output, nearest first."""
    walker = Walker(dataflow)

    def feeds(op: Op) -> list[Ending]:
        with tensors_on_cpu():
            return walker.feeds(op)

    return feeds


def _looked_up(dataflow: Dataflow) -> Iterator[str]:
    """Parameters of which entries are taken at places that an operand gives, or multiplied by what marks them."""
    for op in dataflow.graph.nodes:
        if op.spec is not None and op.spec.weights is not None and not op.signal:  # one-hot rows times the table
            yield from (use.name for use in op.params)
        looks_up = Trait.LOOKUP in op.traits
        table = op.operands.get("weight" if looks_up else "input")
        if looks_up:
            yield from (use.name for use in op.params)
        if table is not None and len(op.operands) > 1 and (looks_up or op.role is Role.SPLIT):
            yield from (use.name for use in table.params if table.op == "parameter")


def _unresolved(op: Op, use: ParamUse) -> _Use:
    """A weight whose axes could not be followed to the operation that uses it."""
    note = f"its axes could not be followed to {op.op} (called {op.name})"
    unknown = replace(use, layout=Layout("b" * len(use.shape)), factor=1.0)
    return _Use(op, unknown, WeightSlot(use.slot, lambda *_: Layout("")), (unresolved(note, (op.name,)),), ())


def _resolved(walker: Walker, op: Op, use: ParamUse) -> _Use:
    slot = slot_of(op, use)
    if slot.gates:
        return _Use(op, use, slot, *_gated(op, use, slot))
    if op.added is not None:
        return _Use(op, use, slot, (Ending("linear", Reason.ADD, path=(op.name,)),), ())
    rows = parted(walker, op, use)
    endings = walker.feeds(op) if rows is None else rows.endings
    return _Use(
        op, use, slot, tuple(endings) or (Ending("linear", Reason.UNUSED),), () if rows is None else rows.slices
    )


def slot_of(op: Op, use: ParamUse) -> WeightSlot:
    """How a weight enters an operation."""
    return next(named for slot in _slots(op) if (named := slot.named(use.slot)) is not None)


def _slots(op: Op) -> tuple[WeightSlot, ...]:
    """The operands of a weight operation that can be weights."""
    spec = op.call.spec if op.call is not None else None
    assert spec is not None
    assert spec.weights is not None
    return spec.weights(op.constants)


def _gated(op: Op, use: ParamUse, slot: WeightSlot) -> tuple[tuple[Ending, ...], tuple[SliceResolution, ...]]:
    """Endings inside the operation itself: equal runs of rows, one for each gate."""
    endings = [_gate(name, op.name) for name in slot.gates]
    distinct: Endings = {}
    for ending in endings:
        add_ending(distinct, ending)
    if len(endings) == 1:
        return tuple(distinct.values()), ()
    assert use.layout is not None
    rows = next(size for size, letter in zip(use.shape, use.layout.axes, strict=True) if letter == "o") // len(endings)
    parts = tuple(
        SliceResolution(((number * rows, (number + 1) * rows),), ending) for number, ending in enumerate(endings)
    )
    return tuple(distinct.values()), parts


def _gate(name: str, path: str) -> Ending:
    if name == "attention":
        return Ending("linear", Reason.ATTENTION, path=(path,))
    if name == "gate":
        return Ending("linear", Reason.GATE, path=(path,))
    if name == "softmax":
        return Ending("softmax", Reason.SOFTMAX, path=(path,))
    return Ending(name, Reason.ACTIVATION, gain(name), path=(path,))


def _combined(name: str, uses: Sequence[_Use], walker: Walker) -> Resolution:
    distinct: Endings = {}
    for each in uses:
        for ending in each.endings:
            add_ending(distinct, ending)
    ending, alternatives = merge(list(distinct.values()))
    first = min(uses, key=lambda each: each.endings[0].reason is Reason.UNRESOLVED)
    assert first.use.layout is not None
    return Resolution(
        name=layer_name(name),
        param=name,
        op=first.op.op,
        shape=first.use.shape,
        layout=first.use.layout,
        ending=ending,
        alternatives=alternatives,
        slices=_combined_slices(uses),
        biases=tuple(dict.fromkeys(bias for each in uses for bias in _biases(each))),
        uses=tuple(each.op.name for each in uses),
        source=first.op.source,
        transform=first.use.transform,
        factor=first.use.factor,
        modulated=first.use.modulated,
        input_factor=1.0 if first.slot.gates else factor_before(first.op, walker.regions) * factor_inside(first.op),
    )


def _combined_slices(uses: Sequence[_Use]) -> tuple[SliceResolution, ...]:
    """Slices that all uses agree on; a weight whose uses part its rows differently is taken whole."""
    rows = {tuple(part.rows for part in each.slices) for each in uses}
    if len(rows) != 1:
        return ()
    combined = []
    for parts in zip(*(each.slices for each in uses), strict=True):
        endings: Endings = {}
        for part in parts:
            for ending in part.alternatives or (part.ending,):
                add_ending(endings, ending)
        ending, alternatives = merge(list(endings.values()))
        combined.append(SliceResolution(parts[0].rows, ending, alternatives))
    return tuple(combined)


def _biases(each: _Use) -> list[str]:
    """Parameters that enter as the bias of this weight."""
    return [use.name for use in each.op.params if use.slot in each.slot.bias]


_PARAMETRIZED = re.compile(r"(^|\.)parametrizations\.([^.]+)\.original\d*$")
_LEGACY = re.compile(r"(?<=weight)(_v|_orig)$")


def layer_name(param: str) -> str:
    """The name of a layer from that of its weight: less parametrization's own segments, less a trailing `.weight`."""
    name = _PARAMETRIZED.sub(r"\1\2", param)
    name = _LEGACY.sub("", name)
    return name[: -len(".weight")] if name.endswith(".weight") else name
