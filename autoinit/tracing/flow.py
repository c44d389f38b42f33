"""Flow: a dataflow as a plain value, to be kept with a plan and drawn; it holds neither the model nor its graph."""

from __future__ import annotations

from dataclasses import dataclass

from autoinit.ops.roles import Role
from autoinit.tracing.dataflow import Dataflow, Op


@dataclass(frozen=True)
class FlowOp:
    """One operation that carries the signal.

    Attributes:
        name, op, module: as in `Op`.
        role: its role here.
        reads: places, in `Flow.ops`, of the operations whose outputs it takes.
        params: names of the parameters that enter it.
    """

    name: str
    op: str
    role: str
    module: str
    reads: tuple[int, ...] = ()
    params: tuple[str, ...] = ()


@dataclass(frozen=True)
class Flow:
    """The operations that carry a model's signal, in order of call.

    Attributes:
        ops: each reads only what stands before it.
        hidden: how many operations carry none (masks, sizes, tables of positions) and are left out.
    """

    ops: tuple[FlowOp, ...] = ()
    hidden: int = 0


def flow_of(dataflow: Dataflow) -> Flow:
    """What there is to draw of a dataflow: inputs, what carries the signal, outputs.

    The tuple that an operation with weights gives, and the choice of one of its tensors, are one operation.
    """
    places: dict[Op, int] = {}
    ops: list[FlowOp] = []
    hidden = 0
    for op in dataflow.graph.nodes:
        before = list(dataflow.graph.predecessors(op))
        if not op.signal:
            hidden += 1
        elif len(before) == 1 and before[0] in places and _unpacks(op, before[0]):
            places[op] = places[before[0]]
        else:
            reads = dict.fromkeys(places[each] for each in before if each in places)
            places[op] = len(ops)
            params = tuple(use.name for use in op.params)
            ops.append(FlowOp(op.name, op.op, str(op.role), op.module, tuple(reads), params))
    return Flow(tuple(ops), hidden)


def _unpacks(op: Op, before: Op) -> bool:
    return op.op == "getitem" and before.role is Role.WEIGHT and op.module == before.module
