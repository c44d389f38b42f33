"""Which weights of a report have no row, and why: none is left out in silence."""

from __future__ import annotations

from collections.abc import Mapping

from autoinit.signal._metering import Meter
from autoinit.tracing.dataflow import Dataflow, Op


def notes_on_rowless(names: Mapping[str, str], meter: Meter, dataflow: Dataflow, failed: Mapping[Op, str]) -> list[str]:
    """One note for each reason, which names the layers that it holds for.

    names: of layers, by parameter. failed: operations that could not be computed.
    """
    uses: dict[str, Op] = {}
    for op in dataflow.graph.nodes:
        for use in op.params:
            if use.layout is not None:
                uses.setdefault(use.name, op)
    by_reason: dict[str, list[str]] = {}
    for param, layer in names.items():
        if param not in meter.layers:
            reason = meter.without_moments.get(param) or _reason(uses.get(param), meter, failed)
            by_reason.setdefault(reason, []).append(layer)
    return [f"no row for {', '.join(layers)}: {reason}" for reason, layers in by_reason.items()]


def _reason(op: Op | None, meter: Meter, failed: Mapping[Op, str]) -> str:
    if op is None:
        return "no operation takes it"
    if op in failed:
        return f"{op.name} could not be computed" + ("" if failed[op] else ", since what it takes could not")
    if op in meter.operations:
        return f"what it makes inside {op.op} ({op.name}) is not seen"
    return f"the forward gave nothing for {op.op} ({op.name})"
