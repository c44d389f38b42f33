"""Heads of attention that no moment needs: some stand for all, for over the draw of the weights they are alike."""

from __future__ import annotations

import math
from typing import Any

import torch

from autoinit.signal.predicting._fewer_features import FEWEST, MOST_ELEMENTS
from autoinit.signal.predicting.replaying import Runner
from autoinit.tracing.dataflow import Op


def attended(op: Op, run: Runner) -> Any:
    """Attention, of every n-th head alone where they are many; what these give stands in all their places.

    So does the gradient: a head gets the sum of n independent ones, the others none, n times the second moment in one
    of n places.
    """
    (query, key, value, *others), options = run.arguments(op)
    mask = options.get("attn_mask", others[0] if others else None)
    every = _every(query, key, value, mask)
    if every == 1:
        return run.call(op)
    assert op.call is not None
    assert callable(op.call.target)
    some = (_some(each, key.shape[1], every) for each in (query, key, value))
    made = op.call.target(*some, *others, **options)
    kept = key.shape[1] // every
    return made.unflatten(1, (kept, -1)).repeat_interleave(every, dim=1).flatten(1, 2)


def _some(heads: torch.Tensor, groups: int, every: int) -> torch.Tensor:
    batch, _, *rest = heads.shape
    return heads.reshape(batch, groups, -1, *rest)[:, ::every].flatten(1, 2)


def _every(query: Any, key: Any, value: Any, mask: Any) -> int:
    """Of how many groups of heads that share keys one is enough; 1 where all are needed."""
    four = all(isinstance(each, torch.Tensor) and each.dim() == 4 for each in (query, key, value))
    if not four or key.shape[1] != value.shape[1] or query.shape[1] % key.shape[1]:
        return 1
    if mask is not None and mask.dim() > 2 and mask.shape[-3] > 1:  # a mask, or a bias, of each head
        return 1
    groups, scores = key.shape[1], math.prod(query.shape[:-1]) * key.shape[-2]
    features = min(key.shape[-1], value.shape[-1])
    divisors = [every for every in range(1, groups + 1) if groups % every == 0]
    return max((n for n in divisors if scores >= n * MOST_ELEMENTS and groups // n * features >= FEWEST), default=1)
