"""How likely it is that independently drawn values come out equal."""

from __future__ import annotations

import math

import torch

NEVER = 1e-9
"""Coincidences that are less likely than this are none."""
_COARSE = (torch.bfloat16, torch.float16, torch.float32)


def grain(values: torch.Tensor) -> float:
    """An upper bound on the probability that two independent draws from a continuous distribution are equal.

    Of two draws from a density f, kept to a relative precision eps, this is at most the integral of f(x)^2 |x| eps:
    eps / (2 pi) for a normal distribution, eps / 4 for a uniform one about zero; eps bounds both. The precision is that
    of the coarsest dtype that holds all the values, so that weights which were bfloat16 once count as such.
    """
    coarsest = next((dtype for dtype in _COARSE if torch.equal(values.to(dtype).to(values.dtype), values)), None)
    return torch.finfo(coarsest or values.dtype).eps


def repetition(values: torch.Tensor) -> float:
    """The share of pairs of elements that are equal."""
    size = values.numel()
    if size < 2:
        return 0.0
    counts = torch.unique(values, return_counts=True)[1].double()
    return float((counts * (counts - 1)).sum()) / (size * (size - 1))


def coincidence(values: torch.Tensor, pairs: int) -> float:
    """The expected number of equal pairs, of so many pairs of independent rows like this one.

    Two elements are equal with the probability that the values' precision gives, or as often as elements of the row
    itself are (ternary weights, rows of mostly zeros), whichever is more.
    """
    chance = max(grain(values), repetition(values))
    return math.exp(min(0.0, math.log(pairs) + values.numel() * math.log(chance))) if pairs and chance else 0.0
