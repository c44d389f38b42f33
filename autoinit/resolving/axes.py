"""Along which axes a weight's operation reads its input features, and gives its output features."""

from __future__ import annotations

from dataclasses import dataclass

from autoinit.resolving._starting import features
from autoinit.tracing.dataflow import Op, ParamUse


@dataclass(frozen=True)
class InputAxis:
    """How a weight operation reads features: `operand` holds them along `axis`, counted from the end."""

    operand: Op
    axis: int


def output_axis(op: Op, param: str) -> int:
    """The axis of an operation's output that holds the features of one of its weights, counted from the end."""
    found = features(op, _use(op, param))
    assert found is not None
    axes, _ = found
    return axes[0]


def input_axis(op: Op, param: str) -> InputAxis | None:
    """Where an operation reads the features that one of its weights sums over; None where that is not known."""
    use = _use(op, param)
    found = features(op, use)
    signals = {slot: each for slot, each in op.operands.items() if slot not in ("bias", use.slot)}
    if found is None or len(found[0]) != 1 or len(signals) != 1 or use.layout is None:
        return None
    ((slot, operand),) = signals.items()
    if op.op != "einsum":
        return InputAxis(operand, found[0][0])
    letters = str(op.constants["equation"]).replace(" ", "").partition("->")[0].split(",")
    summed = letters[int(use.slot.rpartition(".")[2])][use.layout.axes.index("i")]
    there = letters[int(slot.rpartition(".")[2])]
    return InputAxis(operand, there.index(summed) - len(there)) if there.count(summed) == 1 else None


def _use(op: Op, param: str) -> ParamUse:
    return next(use for use in op.params if use.name == param and use.layout is not None)
