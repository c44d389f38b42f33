"""Places that elements share, by strides alone: every answer follows from the list of places in the test."""

from __future__ import annotations

import pytest
import torch

from autoinit.tensors import overlaps


def strided(shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0, dtype: torch.dtype = torch.float32):
    return torch.zeros(64, dtype=dtype).as_strided(shape, strides, offset)


@pytest.mark.parametrize(
    ("shape", "strides", "shared"),
    [
        ((2, 3), (3, 1), False),
        ((2, 3), (1, 2), False),
        ((2, 3), (2, 1), True),  # 0 1 2, 2 3 4
        ((3, 2), (1, 2), True),  # 0 2, 1 3, 2 4
        ((2, 3), (8, 2), False),  # 0 2 4, 8 10 12
        ((2, 2), (2, 3), False),  # 0 3, 2 5
        ((3, 3), (2, 3), False),  # 0 3 6, 2 5 8, 4 7 10
        ((4, 3), (2, 3), True),  # 0 3 6, 2 5 8, 4 7 10, 6 ...
        ((4,), (0,), True),
        ((1, 4), (0, 1), False),
        ((0, 4), (1, 1), False),
        ((), (), False),
    ],
)
def test_within(shape, strides, shared):
    assert overlaps.within(strided(shape, strides)) is shared


def pair(dtype: torch.dtype, *views: tuple[tuple[int, ...], tuple[int, ...], int]) -> dict[str, torch.Tensor]:
    memory = torch.zeros(64, dtype=dtype)
    return {name: memory.as_strided(*view) for name, view in zip("abc", views, strict=False)}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("views", "shared"),
    [
        ([((8,), (1,), 0), ((8,), (1,), 8)], None),
        ([((8,), (1,), 0), ((8,), (1,), 7)], ("a", "b")),
        ([((4, 4), (8, 1), 0), ((4, 4), (8, 1), 4)], None),  # the two halves of a matrix's columns
        ([((4, 5), (8, 1), 0), ((4, 4), (8, 1), 4)], ("a", "b")),
        ([((4,), (2,), 0), ((4,), (2,), 1)], None),  # even and odd places
        ([((4,), (2,), 0), ((4,), (3,), 1)], ("a", "b")),  # 0 2 4 6 and 1 4 7 10
        ([((2,), (20,), 0), ((2,), (1,), 5), ((1,), (1,), 20)], ("a", "c")),  # 0 20, 5 6 and 20
        ([((8,), (1,), 9), ((2,), (1,), 8)], ("b", "a")),
    ],
)
def test_between(dtype, views, shared):
    assert overlaps.between(pair(dtype, *views)) == shared
