"""Weights that follow from a pattern, and near misses: what each is can be read off its few numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autoinit.tensors.fixed_patterns import fixed_pattern, is_one_number

EYE, BLUR = torch.eye(3), torch.tensor([1.0, 2.0, 1.0]) / 4
IDENTITY, DIRAC = "an identity", "a Dirac kernel"
AVERAGING, INTERPOLATING = "an averaging kernel", "an interpolating kernel, the same for each channel"


def at(shape: tuple[int, ...], *places: tuple[int, ...], value: float | Tensor = 1.0) -> Tensor:
    """Zeros but at these places."""
    made = torch.zeros(shape)
    for place in places:
        made[place] = value
    return made


PATTERNS: dict[str, tuple[Tensor, str, int, str]] = {
    "scaled": (3 * EYE, "oi", 1, IDENTITY),
    "permuted": (EYE[[2, 0, 1]], "oi", 1, IDENTITY),
    "two values": (torch.diag(torch.tensor([1.0, 2.0, 1.0])), "oi", 1, ""),
    "two in a row": (EYE + at((3, 3), (1, 0)), "oi", 1, ""),
    "one output": (torch.tensor([[0.0, 1.0]]), "oi", 1, ""),
    "outputs that repeat inputs in turn": (torch.cat([EYE, EYE]), "oi", 1, IDENTITY),
    "outputs that repeat one input": (at((4, 4), (0, 0), (1, 0), (2, 1), (3, 2)), "oi", 1, ""),
    "fewer than inputs": (EYE[:2], "oi", 1, IDENTITY),
    "too few of the outputs": (at((3, 3), (0, 0), (1, 1)), "oi", 1, ""),
    "delta": (at((2, 2, 3), (0, 0, 1), (1, 1, 1)), "oik", 1, DIRAC),
    "average of each channel": (torch.full((4, 1, 3), 1 / 3), "oik", 4, AVERAGING),
    "blur of each channel": (BLUR.expand(4, 1, 3), "oik", 4, INTERPOLATING),
    "blurs of one input": (BLUR.expand(4, 1, 3), "oik", 1, ""),
    "another blur": (torch.stack([BLUR, 2 * BLUR])[:, None], "oik", 2, ""),
    "blur of each of several inputs": (at((3, 3, 3), (0, 0), (1, 1), (2, 2), value=BLUR), "oik", 1, INTERPOLATING),
    "blurs of two inputs": (at((3, 3, 3), (0, 0), (1, 1), (2, 2), (2, 0), value=BLUR), "oik", 1, ""),
    "two blurs of one input": (at((3, 3, 3), (0, 0), (1, 1), (2, 1), value=BLUR), "oik", 1, ""),
    "an output without": (at((3, 3, 3), (0, 0), (1, 1), value=BLUR), "oik", 1, ""),
    "one blur": (BLUR.view(1, 1, 3), "oik", 1, INTERPOLATING),
    "one that leans": (torch.tensor([[[1.0, 2.0, 3.0]]]), "oik", 1, ""),
    "one that changes its sign": (torch.tensor([[[-1.0, 2.0, -1.0]]]), "oik", 1, ""),
    "mean": (torch.full((1, 4), 0.25), "oi", 1, "an average"),
    "sum": (torch.ones(1, 4), "oi", 1, ""),
    "weighted mean": (torch.tensor([[0.5, 0.25, 0.25]]), "oi", 1, ""),
    "mean, inputs first": (torch.full((4, 1), 0.25), "io", 1, "an average"),
    "means": (torch.full((2, 4), 0.25), "oi", 1, ""),
    "mean of each half": (torch.eye(2).repeat_interleave(2, 1) / 2, "oi", 1, "an average"),
    "mean of every other": (torch.eye(2).repeat(1, 2) / 2, "oi", 1, "an average"),
    "mean of each pixel's channels": (torch.eye(2).repeat_interleave(2, 1)[..., None] / 2, "oik", 1, "an average"),
    "sum of each half": (torch.eye(2).repeat_interleave(2, 1), "oi", 1, ""),
    "means that share an input": (torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]), "oi", 1, ""),
    "a mean beside nothing": (torch.tensor([[0.5, 0.5], [0.0, 0.0]]), "oi", 1, ""),
    "transposed, of each channel": (BLUR.expand(4, 1, 3), "iok", 4, INTERPOLATING),
    "one element": (torch.ones(1, 1), "oi", 1, ""),
    "whole numbers": (torch.eye(3, dtype=torch.long), "oi", 1, ""),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_what_a_weight_follows_from(name: str):
    weight, axes, groups, expected = PATTERNS[name]
    assert fixed_pattern(weight, axes, groups) == expected


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (torch.full((2,), 0.5), True),
        (torch.full((2,), -0.5), True),
        (torch.tensor([0.5, -0.5]), False),
        (torch.ones(1), False),
        (torch.zeros(3), False),
        (torch.ones(3, dtype=torch.long), False),
        (torch.ones(3, device="meta"), False),
    ],
    ids=["two", "negative", "opposite", "one", "zeros", "whole numbers", "meta"],
)
def test_one_number_everywhere(weight: Tensor, expected: bool):
    assert is_one_number(weight) == expected
