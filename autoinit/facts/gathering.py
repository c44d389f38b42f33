"""`gather`: the facts of every parameter, from the dataflow and what each weight feeds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from autoinit.facts._attention import attention_role, head_width
from autoinit.facts._branches import PlaceOnBranch, branch_places
from autoinit.facts._low_rank import low_rank_factors
from autoinit.facts._roles import looked_up, parameter_roles
from autoinit.facts.parameter import Facts, LowRank
from autoinit.ops import Role
from autoinit.resolving import Resolution, SliceResolution
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
    found: list[Facts] = []
    firsts: list[tuple[Resolution, Facts]] = []
    told: set[str] = set()
    for resolution in resolutions:
        parts = tuple(_parts(dataflow, resolution, places, tables, last, factors))
        found += parts
        firsts.append((resolution, parts[0]))
        found += (_bias(parts[0], bias, shapes[bias]) for bias in resolution.biases if bias not in told)
        told.update((resolution.param, *resolution.biases))
    weights = {use: part for resolution, part in firsts for use in resolution.uses}
    for name, role in parameter_roles(dataflow).items():
        if name in told:
            continue
        place = _branch(_place([role.at], places))
        made = Facts(name, role.kind, shapes[name], op=role.at.op, neutral=role.neutral, order=role.order, **place)
        weight = weights.get(role.at.name) if role.kind == "bias" else None
        found.append(made if weight is None else _bias(weight, name, shapes[name]))
    return tuple(found)


def _parts(
    dataflow: Dataflow,
    resolution: Resolution,
    places: Mapping[Op, PlaceOnBranch],
    tables: Collection[str],
    last: Collection[Op],
    factors: Mapping[Op, LowRank],
) -> Iterator[Facts]:
    ops = [dataflow.by_name[name] for name in resolution.uses]
    place = _place(ops, places)
    reads_input = all(op.role is Role.WEIGHT and not any(each.made for each in op.operands.values()) for op in ops)
    standardised = resolution.factor == 0
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
            low_rank=next((factors[op] for op in ops if op in factors), ""),
            modulates=reasons == {"gate", "add"},
            tied=resolution.param in tables,
            reads_input=reads_input,
            is_last=all(op in last for op in ops),
            **_branch(place),
        )
        role = attention_role(dataflow, resolution, ending, part.rows)
        width = head_width(dataflow, ending, made.features) if made.reason == "attention" else 0
        yield replace(made, attention=role, head_width=width)


def _bias(weight: Facts, name: str, shape: tuple[int, ...]) -> Facts:
    """The facts of a bias that is added to what a weight gives."""
    return replace(weight, param=name, kind="bias", shape=shape, rows=())


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
