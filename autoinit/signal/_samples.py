"""Which axis of a model's input holds its samples."""

from __future__ import annotations

from torch import nn

from autoinit.models import ModelView
from autoinit.tracing.dataflow import Dataflow, Op

_MOVING = frozenset({"transpose", "permute"})


def sample_axis(dataflow: Dataflow, view: ModelView) -> int:
    """0; or 1, where the first module to read sequences takes them steps first (`batch_first=False`).

    Between the first input and that module the first two axes must stay where they are.
    """
    first = next((op for op in dataflow.graph.nodes if op.op == "input" and op.shape), None)
    if first is None or first.shape is None or len(first.shape) not in (2, 3) or not view.has_modules:
        return 0
    kept = {first}
    for op in dataflow.graph.nodes:
        if not any(each in kept for each in dataflow.graph.predecessors(op)):
            continue
        reads = _batch_first(op, view.module)
        if reads is not None:
            return 0 if reads else 1
        if (
            op.shape is not None
            and len(op.shape) in (2, 3)
            and op.shape[:2] == first.shape[:2]
            and op.op not in _MOVING
        ):
            kept.add(op)
    return 0


def _batch_first(op: Op, model: nn.Module) -> bool | None:
    """Of a module that reads batches of sequences; None of any other operation."""
    if not op.is_module or not op.params:
        return None
    said = getattr(model.get_submodule(op.module), "batch_first", None)
    x = op.operands.get("input", op.operands.get("query"))
    return said if isinstance(said, bool) and x is not None and len(x.shape or ()) == 3 else None
