"""Features of a weight in pairs of opposite sign: what reads or makes them is one matrix, repeated."""

from __future__ import annotations

from math import prod

import torch

from autoinit.tensors.elements import Index

_COMPARED = 64
"""Numbers of each feature that are compared first; only features that agree in these are compared as a whole."""


def without_partners(weight: torch.Tensor, axes: str) -> torch.Tensor:
    """The weight without the output and input features that are the exact negative of an earlier one.

    Args:
        weight: a weight.
        axes: one letter for each axis, as in `Layout`; features are told apart along a single `o` and a single `i`.

    Returns:
        The same tensor if no feature has a partner.
    """
    for letter in "oi":
        if axes.count(letter) == 1:
            axis = axes.index(letter)
            kept = _kept(weight.detach().movedim(axis, 0).unsqueeze(-1))
            if len(kept) < weight.shape[axis]:
                weight = weight.index_select(axis, torch.tensor(kept, device=weight.device))
    return weight


def has_single_taps(weight: torch.Tensor, axes: str) -> bool:
    """Whether a convolution has as many numbers that are not zero as one tap of its kernel has."""
    area = prod(size for size, axis in zip(weight.shape, axes, strict=True) if axis == "k")
    return area > 1 and int(torch.count_nonzero(weight)) * area == weight.numel()


def _first_may_have_partner(features: torch.Tensor) -> bool:
    """Whether some feature begins with the negative of the first one's first number.

    Where the first feature has no partner the others are not looked at. That is nearly always so, and one number of
    each feature shows it.
    """
    if not features.numel():
        return False
    index: Index = (slice(None), *[0] * (features.dim() - 1))
    firsts = features[index].to("cpu", torch.float64)
    return bool((firsts == -firsts[0]).any())


def _kept(features: torch.Tensor) -> list[int]:
    """The features, along the first axis, that are not the negative of an earlier one without a partner."""
    if not _first_may_have_partner(features):
        return list(range(len(features)))
    some = features[:, :: max(1, features.shape[1] // _COMPARED)].flatten(1)[:, :_COMPARED].to("cpu", torch.float64)
    if not bool((some == -some[0]).all(1).any()) or not bool(some[0].any()):
        return list(range(len(some)))
    waiting: dict[bytes, int] = {}
    kept: list[int] = []
    for index, (key, negative) in enumerate(zip(some + 0.0, 0.0 - some, strict=True)):
        partner = waiting.pop(negative.numpy().tobytes(), None) if bool(key.any()) else None
        if partner is not None and torch.equal(features[index], -features[partner]):
            continue
        waiting[key.numpy().tobytes()] = index
        kept.append(index)
    return kept
