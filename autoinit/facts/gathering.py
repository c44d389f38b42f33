"""`gather`: the facts of every parameter, from the dataflow and what each weight feeds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from autoinit.facts._attention import attention_role, head_width
from autoinit.facts._branches import PlaceOnBranch, branch_places
from autoinit.facts._gains import is_style, runtime_gain
from autoinit.facts._low_rank import low_rank_factors
from autoinit.facts._roles import looked_up, parameter_roles
from autoinit.facts._routers import is_router
from autoinit.facts.parameter import Facts, LowRank
from autoinit.ops import Role, WeightSlot
from autoinit.resolving import Resolution, SliceResolution, slot_of
from autoinit.resolving.recurrences import WrittenGates, written_gates
from autoinit.theory.fans import fans
from autoinit.tracing.dataflow import Dataflow, Op


def gather(dataflow: Dataflow, resolutions: Sequence[Resolution]) -> tuple[Facts, ...]:
    """The facts of every parameter that an operation uses; of a weight whose rows part, of each part.

    Args:
        dataflow: of the model.
        resolutions: of the dataflow.
    """
    places = branch_places(dataflow)
    tables, last, factors = looked_up(dataflow), _last(dataflow), low_rank_factors(dataflow)
    shapes = {use.name: use.shape for op in dataflow.graph.nodes for use in op.params}
    gates = {op.name: written for op, written in written_gates(dataflow).items()}
    found: list[Facts] = []
    weights: dict[str, tuple[Facts, ...]] = {}
    covered: set[str] = set()
    cells: dict[str, str] = {}
    for resolution in resolutions:
        parts = tuple(_parts(dataflow, resolution, places, tables, last, factors))
        parts = tuple(_named(part, gates, resolution.uses) for part in parts)
        found += parts
        weights.update(dict.fromkeys(resolution.uses, parts))
        for bias in resolution.biases:
            if bias not in covered:
                found += _bias(parts, bias, shapes[bias])
                cells.update((bias, gates[use].cell) for use in resolution.uses if use in gates)
        covered.update((resolution.param, *resolution.biases))
    for name, role in parameter_roles(dataflow).items():
        if name in covered:
            continue
        place = _branch(_place([role.at], places))
        if role.kind == "bias" and role.at.name in weights:
            found += _bias(weights[role.at.name], name, shapes[name])
            cells.update((name, gates[use].cell) for use in [role.at.name] if use in gates)
        else:
            shape = shapes[name]
            found.append(Facts(name, role.kind, shape, op=role.at.op, neutral=role.neutral, order=role.order, **place))
    return _opened(found, cells)


def _named(part: Facts, gates: Mapping[str, WrittenGates], uses: Sequence[str]) -> Facts:
    """A weight's part with the names of the gates that it makes, where these are written out."""
    names = {rows: name for use in uses if use in gates for rows, name in gates[use].names.items()}
    every = part.rows or ((0, part.features),)
    return replace(part, gate=names[every]) if every in names else replace(part, gates=tuple(names.items()))


def _opened(found: Sequence[Facts], cells: Mapping[str, str]) -> tuple[Facts, ...]:
    """The facts, of which the last bias of each forget gate that is written out is marked.

    cells: by bias the layer that it is of, where that is written out.
    """
    forgetting = ((at, each) for at, each in enumerate(found) if each.gate == "forget" and each.param in cells)
    last = {cells[each.param]: at for at, each in forgetting}.values()
    return tuple(replace(each, of_state=each.of_state or at in last) for at, each in enumerate(found))


def _parts(
    dataflow: Dataflow,
    resolution: Resolution,
    places: Mapping[Op, PlaceOnBranch],
    tables: Collection[str],
    last: Collection[Op],
    factors: Mapping[Op, LowRank],
) -> Iterator[Facts]:
    ops = [dataflow.by_name[name] for name in resolution.uses]
    slot = _slot(ops, resolution.param)
    place = _place(ops, places)
    if place is not None and slot is not None and slot.gates:  # the operation goes on behind this weight
        place = replace(place, ends=False, last=False)
    reads_input = all(op.role is Role.WEIGHT and not any(each.made for each in op.operands.values()) for op in ops)
    standardised, gain = resolution.factor == 0, runtime_gain(ops, resolution)
    reasons = {str(part.ending.reason) for part in resolution.slices}
    for part in resolution.slices or (SliceResolution((), resolution.ending),):
        here, ending = fans(resolution.layout, resolution.shape, part.rows), part.ending
        made = Facts(
            param=resolution.param,
            kind="weight",
            shape=resolution.shape,
            weight_shape=resolution.shape,
            op=resolution.op,
            rows=part.rows,
            layout=resolution.layout,
            fan_in=here.fan_in,
            fan_out=here.fan_out,
            reason=str(ending.reason),
            nonlinearity=ending.nonlinearity,
            normalised=ending.normalised or standardised,
            standardised=standardised,
            runtime_gain=gain,
            gate=_gate(slot, part, resolution.slices),
            of_state=slot is not None and slot.of_state,
            low_rank=next((factors[op] for op in ops if op in factors), ""),
            is_style=is_style(dataflow, resolution, ending),
            is_router=is_router(dataflow, resolution, ending),
            modulates=reasons == {"gate", "add"},
            tied=resolution.param in tables,
            reads_input=reads_input,
            is_last=all(op in last for op in ops),
            **_branch(place),
        )
        role = attention_role(dataflow, resolution, ending, part.rows)
        width = head_width(dataflow, resolution, ending, made.features, role) if made.reason == "attention" else 0
        yield replace(made, attention=role, head_width=width)


def _bias(parts: Sequence[Facts], name: str, shape: tuple[int, ...]) -> Iterator[Facts]:
    """The facts of a bias that is added to what a weight's parts give."""
    if len(parts) == 1 and parts[0].gates and shape == (parts[0].features,):
        parts = [replace(parts[0], rows=rows, gate=name, gates=()) for rows, name in parts[0].gates]
    by_rows = len(parts) > 1 and shape == (sum(part.features for part in parts),)
    for part in parts if by_rows else parts[:1]:
        yield replace(part, param=name, kind="bias", shape=shape, rows=part.rows if by_rows else ())


def _slot(ops: Sequence[Op], param: str) -> WeightSlot | None:
    """How a weight enters the first operation that uses it."""
    use = next((use for op in ops[:1] for use in op.params if use.name == param and use.layout is not None), None)
    return slot_of(ops[0], use) if use is not None else None


def _gate(slot: WeightSlot | None, part: SliceResolution, parts: Sequence[SliceResolution]) -> str:
    """What the gate is called that these rows of a recurrent weight make."""
    names = slot.named_gates if slot is not None else ()
    return names[parts.index(part) if parts else 0] if names else ""


def _place(ops: Sequence[Op], places: Mapping[Op, PlaceOnBranch]) -> PlaceOnBranch | None:
    """The place of a parameter that several operations may use: the last of them on a branch."""
    return next((places[op] for op in reversed(ops) if op in places), None)


def _branch(place: PlaceOnBranch | None) -> dict[str, Any]:
    """The fields of `Facts` about a branch."""
    if place is None:
        return {}
    return {
        "branch": place.number,
        "branches": place.count,
        "ends_branch": place.ends,
        "last_on_branch": place.last,
        "branch_weights": place.weights,
        "branch_attends": place.attends,
        "width": place.width,
    }


def _last(dataflow: Dataflow) -> set[Op]:
    """The operations behind which no weight comes."""
    followed: set[Op] = set()
    for op in reversed(list(dataflow.graph.nodes)):
        after = dataflow.graph.successors(op)
        if any(each in followed or each.role is Role.WEIGHT for each in after):
            followed.add(op)
    return set(dataflow.graph.nodes) - followed
