"""When the report of another method recommends `mirrored`."""

from __future__ import annotations

from dataclasses import dataclass

from autoinit.ops import Role
from autoinit.plans.layers import LayerPlan
from autoinit.plans.plan import Plan
from autoinit.resolving import Reason
from autoinit.tracing import Dataflow, Op

DEEP = 20
"""Nonlinearities in a row from which on most directions are lost at any width: of a product of L independent square
Gaussian matrices half of the singular values are below 2^(-L / 2) of their typical size."""
NARROW, FEW = 0.5, 8
"""Depth over width from which on, from so many nonlinearities in a row, chance takes the signal itself: the logarithm
of its power is a random walk of variance 5 / width a layer of ReLU, whatever the scale of the weights."""


@dataclass(frozen=True)
class _Chain:
    """Nonlinearities in a row: how many, and the sum of one over the number of inputs of each one's weight."""

    count: int = 0
    crowding: float = 0.0


def advice(dataflow: Dataflow, plan: Plan) -> str:
    """Where a plan by another method loses signal or rank: many nonlinearities in a row without norm or skip."""
    if any(op.role is Role.NORM for op in dataflow.graph.nodes) or any(layer.normalised for layer in plan.layers):
        return ""
    row = _longest(dataflow, plan)
    if row.count < DEEP and (row.count < FEW or row.crowding < NARROW):
        return ""
    width = f", about {row.count / row.crowding:.0f} inputs wide," if row.count < DEEP else ""
    return (
        f"{row.count} nonlinearities in a row{width} without a norm or a skip connection: over such a depth "
        f"independent weights lose most directions of the signal, whatever their scale; method='mirrored' keeps them"
    )


def _longest(dataflow: Dataflow, plan: Plan) -> _Chain:
    """The longest row on one way through the graph."""
    bent = {name: layer for layer in plan.layers if layer.reason == Reason.ACTIVATION for name in layer.uses}
    layers = {name: layer for layer in plan.layers for name in layer.uses}
    rows: dict[Op, _Chain] = {}
    for op in dataflow.graph.nodes:
        fed = [rows[each] for each in op.operands.values()]
        row = _Chain() if _skips(op) else max(fed, key=lambda each: each.count, default=_Chain())
        layer = bent.get(op.name) or _summed(op, dataflow, layers)
        rows[op] = _Chain(row.count + 1, row.crowding + 1 / layer.fan_in) if layer is not None else row
    return max(rows.values(), key=lambda each: each.count, default=_Chain())


def _skips(op: Op) -> bool:
    """Whether a sum brings in what has not come through a weight just before it, as a skip connection does."""
    return op.role is Role.ADD and not all(each.role is Role.WEIGHT for each in op.operands.values() if each.signal)


def _summed(op: Op, dataflow: Dataflow, layers: dict[str, LayerPlan]) -> LayerPlan | None:
    """The widest of the layers whose outputs are added up in front of a nonlinearity."""
    if op.role is not Role.ADD or _skips(op):
        return None
    if not any(each.role is Role.NONLINEARITY for each in dataflow.graph.successors(op)):
        return None
    added = [layers[each.name] for each in op.operands.values() if each.name in layers]
    return max(added, key=lambda layer: layer.fan_in, default=None)
