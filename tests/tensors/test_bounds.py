"""Memory is looked at before it is taken: bytes counted by hand, 4 for a float32, 8 for an int64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from autoinit.errors import MemoryLimitError
from autoinit.tensors.bounds import room_for, within

ROW = torch.arange(10.0)
ONES = torch.ones(10, dtype=torch.long)
SPARSE = torch.eye(100).to_sparse()

MADE: dict[str, tuple[Callable[[], Any], int]] = {
    "a factory": (lambda: torch.zeros(100, 100), 40_000),
    "a range": (lambda: torch.arange(100_000), 800_000),
    "a fine range": (lambda: torch.arange(0, 1, 1e-5), 400_000),
    "copies": (lambda: ROW.repeat(1000), 40_000),
    "a sum that is spread": (lambda: ROW.repeat(20)[:, None] + ROW.repeat(20), 160_000),
    "an outer product": (lambda: torch.mm(ROW.repeat(20)[:, None], ROW.repeat(20)[None]), 160_000),
    "padding": (lambda: nn.functional.pad(ROW[None], (5_000, 5_000)), 40_040),
    "a larger image": (lambda: nn.Upsample(scale_factor=100)(ROW[None, None]), 4_000),
    "places of a window": (lambda: ROW.expand(1000, 10).clone(), 40_000),
    "classes": (lambda: nn.functional.one_hot(ONES * 999), 80_000),
    "counts of a value": (lambda: torch.bincount(ONES * 9_999), 80_000),
    "counts at least": (lambda: torch.bincount(ONES, minlength=10_000), 80_000),
    "repeats": (lambda: torch.repeat_interleave(ONES * 1000), 80_000),
    "places by number": (lambda: ROW[torch.zeros(5_000, dtype=torch.int8).long()], 20_000),
    "places by mask": (lambda: ROW.expand(2_000, 10)[torch.ones(1, dtype=torch.bool).expand(2_000)], 80_000),
    "a new size": (lambda: torch.empty(0).resize_(20_000), 80_000),
    "a result given": (lambda: torch.add(ROW.repeat(30)[:, None], ROW, out=torch.empty(0)), 12_000),
    "a dense copy": (lambda: SPARSE.to_dense(), 40_000),
}  # fmt: skip
"""What makes a tensor, and of how many bytes."""


@pytest.mark.parametrize("case", MADE)
def test_what_an_operation_takes_is_told_before_it_is_run(case):
    """All of it fits, and a byte less does not; what leads to it is smaller than a quarter."""
    make, size = MADE[case]
    with within(3 * size, "x.pt"):
        make()
    refused = pytest.raises(MemoryLimitError, match=r"^x\.pt: \w+\.\w+ would take [\d,]+ bytes beside")
    with within(size - 1, "x.pt"), refused as caught:
        make()
    assert f"expected up to {size - 1:,} in all; if that is right, say --max-size " in str(caught.value)


def test_exactly_what_there_is_room_for_is_made():
    """Two tensors of 400 bytes are held, and a third one of 200 is the last; then the first is let go."""
    with within(1000, "x.pt"):
        first = torch.zeros(100)
        second = torch.ones(100)
        third = torch.zeros(50)
        said = r"would take 4 bytes beside 1,000 that are held, expected up to 1,000 in all; .* --max-size 1004$"
        with pytest.raises(MemoryLimitError, match=said):
            torch.zeros(1)
        del first
        fourth = torch.zeros(100)
    assert second.sum() + third.sum() + fourth.sum() == 100


def test_a_factory_that_names_no_device_is_not_run_first():
    """4 * 10^14 bytes, which no machine has."""
    with within(64, "x.pt"), pytest.raises(MemoryLimitError, match="would take 400,000,000,000,000 bytes"):
        torch.ops.aten.full([10**14], 1.0)


def test_views_and_tensors_from_before_take_nothing():
    large = torch.zeros(1000, 1000)
    with within(64, "x.pt"):
        assert large.t()[3:5].expand(2, 1000).shape == (2, 1000)
        large.add_(1)
    assert large.min() == 1


def test_what_a_backward_pass_keeps_counts():
    """exp keeps its result: 400 bytes each, which nobody names."""
    start = torch.zeros(100, requires_grad=True)
    with within(1000, "x.pt"):
        kept = start.exp().exp()
        with pytest.raises(MemoryLimitError, match="beside 800 that are held"):
            kept.exp()


def test_meta_tensors_take_nothing():
    with within(64, "x.pt"):
        assert torch.zeros(10**6, 10**6, device="meta").exp().repeat(10, 10).shape == (10**7, 10**7)


def test_an_error_of_an_operation_is_its_own():
    with within(64, "x.pt"), pytest.raises(RuntimeError, match="must match the size"):
        torch.zeros(3) + torch.zeros(2)


def test_no_limit_is_none():
    with within(None, "x.pt"):
        assert torch.zeros(1000).sum() == 0
    assert (room_for(10, None), room_for(1 << 40, None), room_for(10, 99)) == (1 << 30, 1 << 42, 99)
