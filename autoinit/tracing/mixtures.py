"""Mixtures of weights: shares that a softmax or a sigmoid gives, times a stack of weights.

CondConv (Yang et al. 2019) and dynamic convolution (Chen et al. 2020) make one kernel of several for each sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from autoinit.ops import Fact, Role
from autoinit.tracing.dataflow import Op
from autoinit.tracing.rerunning import execute


def is_mixture(op: Op) -> bool:
    """Whether an operation adds up what a parameter holds, each entry times a share that depends on the signal."""
    return op.role is Role.WEIGHT and op.spec is not None and op.spec.role is Role.PRODUCT and _shares(op) is not None


def mixed(op: Op, operands: Mapping[Op, Any]) -> torch.Tensor | None:
    """What becomes of index tensors in a mixture of equal shares; None where they have no value."""
    shares = _shares(op)
    if shares is None or shares.shape is None:
        return None
    held = {each: value for each, value in operands.items() if each is not shares}
    if not all(isinstance(value, torch.Tensor) for value in held.values()):
        return None
    equal = {shares: torch.ones(shares.shape)}
    total = execute(op, {each: torch.ones_like(value) for each, value in held.items()} | equal)
    mean: torch.Tensor = execute(op, held | equal) / total
    return mean.round()


def _shares(op: Op) -> Op | None:
    """The one signal that a product takes, if it comes from a function that gives shares."""
    signals = [each for each in op.operands.values() if each.signal]
    if len(signals) != 1:
        return None
    here = signals[0]
    while here.role is Role.TRANSPARENT or here.role is Role.SPLIT:
        before = [each for each in here.operands.values() if each.signal]
        if len(before) != 1:
            return None
        here = before[0]
    return signals[0] if Fact.SHARE in here.facts else None
