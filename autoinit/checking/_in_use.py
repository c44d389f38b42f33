"""The values that operations see: weights and biases as they arrive where they are used, mixed with what comes between.

A parameter may be one thing and the weight in use another: NoisyLinear's is mu + sigma * eps.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from autoinit.checking._subject import Subject
from autoinit.ops import Role, Trait
from autoinit.plans.layers import LayerPlan
from autoinit.tracing.dataflow import Op
from autoinit.tracing.rerunning import NOT_RUN, execute
from autoinit.tracing.rng import untouched_generators


def mixed_weights(subject: Subject, layer: LayerPlan) -> Iterator[torch.Tensor | None]:
    """A layer's weight as its uses see it, one for each; None where no other tensor comes in, or it is not known.

    Of reparametrised weights there are none: their portraits show what the forward reads.
    """
    for name in layer.uses if not layer.reparam else ():
        op = subject.dataflow.by_name[name]
        for use in op.params:
            if use.name == layer.param and use.slot in op.operands:
                arriving = op.operands[use.slot]
                yield _value(subject, arriving) if _is_mixed(arriving, layer.param) else None


def shifts(subject: Subject, layer: LayerPlan) -> Iterator[torch.Tensor]:
    """What is added to a layer's outputs, one value each: its biases, and what an addition behind it brings."""
    for name in layer.uses:
        op = subject.dataflow.by_name[name]
        held = [use.name for use in op.params if use.slot == "bias" and "bias" not in op.operands]
        yield from (subject.parameters[each].detach() for each in held)
        added = [op.operands["bias"]] if "bias" in op.operands else []
        added += _added_behind(subject, op)
        yield from (value.flatten() for each in added if (value := _value(subject, each)) is not None)


def _added_behind(subject: Subject, op: Op) -> Iterator[Op]:
    """What is added to an operation's output before anything else is done with it than to pass it on."""
    waiting, seen = [op], {op}
    while waiting:
        for after in subject.dataflow.graph.successors(waiting.pop()):
            if after in seen or after.role is not Role.TRANSPARENT or not after.signal:
                continue
            seen.add(after)
            waiting.append(after)
            if Trait.ADDING in after.traits:
                yield from (each for each in after.operands.values() if not each.signal)


def _is_mixed(op: Op, param: str) -> bool:
    """Whether an operation's value depends on more than one parameter: on another tensor, or on chance."""
    if op.op == "parameter":
        return bool(op.constants["name"] != param)
    return not op.operands or op.op == "random" or any(_is_mixed(each, param) for each in op.operands.values())


def _value(subject: Subject, op: Op) -> torch.Tensor | None:
    """What an operation gives that no signal enters; None if one does, or if it cannot be computed here."""
    try:
        with torch.no_grad(), untouched_generators():
            value = _computed(subject, op)
    except NOT_RUN:
        return None
    return value if isinstance(value, torch.Tensor) and not value.is_meta else None


def _computed(subject: Subject, op: Op) -> object:
    """The same, of copies, since the operations may write in place. Raises what they raise, KeyError at a signal."""
    if op.op in ("parameter", "buffer"):
        held = subject.parameters if op.op == "parameter" else subject.view.buffers
        return held[op.constants["name"]].detach().clone()
    if op.signal:
        raise KeyError(op.name)
    return execute(op, {each: _computed(subject, each) for each in op.operands.values()})
