"""Which weights are routers: they choose among experts, or say how much each counts (Shazeer et al. 2017)."""

from __future__ import annotations

from autoinit.ops import Role, Trait
from autoinit.resolving import Ending, Reason, Resolution
from autoinit.theory.activations import SOFTMAXES
from autoinit.tracing.dataflow import Dataflow, Op, only_steers

_MANY = 200
"""Operations that are looked at behind a weight, at most."""
_SHARES = (*SOFTMAXES, "sigmoid")


def is_router(dataflow: Dataflow, resolution: Resolution, ending: Ending) -> bool:
    """Whether a weight's softmax, or the largest of its numbers, multiply or choose what other weights make.

    A softmax over its own features, that is: over places it is attention. Sigmoids alone are gates of features; a
    router's are ranked.
    """
    if ending.reason is not Reason.SOFTMAX and ending.nonlinearity != "sigmoid":
        return False
    waiting = [(dataflow.by_name[use], False) for use in resolution.uses[:1]]
    for op, shares in waiting:
        for after in dataflow.graph.successors(op):
            slots = dataflow.graph.edges[op, after]["slots"]
            ranks = Trait.RANKING in after.traits
            chooses = after.role is Role.PRODUCT or any(only_steers(after, slot) for slot in slots)
            if shares and chooses and after.made and not ranks:
                return True
            if after.role in (Role.TRANSPARENT, Role.SPLIT, Role.SINK) or ranks or after.op in _SHARES:
                here = (after, shares or ranks or _over_features(after))
                waiting += [here] if here not in waiting else []
        if len(waiting) > _MANY:
            break
    return False


def _over_features(op: Op) -> bool:
    """Whether an operation is a softmax over the last axis."""
    dim = op.constants.get("dim", -1)
    return op.op in SOFTMAXES and (dim in (-1, None) or (op.shape is not None and dim == len(op.shape) - 1))
