"""Branches that the same weights end, again and again: how much they make a residual stream grow.

r branches of power 1 that point the same way have the power r^2; n independent ones n. A transformer whose two shared
sublayers run 12 times (ALBERT, Lan et al. 2020, with norms first) has 24 additions, and 2 * 12^2 = 288.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoinit import plan
from autoinit.resolving.residual import branch_counts, streams
from autoinit.tracing import trace
from tests.shared.written_nets import numbers

WIDTH = 128


class Block(nn.Module):
    """A sublayer, with its norm first or behind the sum."""

    def __init__(self, *, first: bool) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.first = first

    def forward(self, h: Tensor) -> Tensor:
        if not self.first:
            return self.norm(h + self.down(torch.relu(self.up(h))))
        return h + self.down(torch.relu(self.up(self.norm(h))))


class Stack(nn.Module):
    """Blocks, each run where its number stands in `order`."""

    def __init__(self, order: Sequence[int], *, first: bool = True) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(first=first) for _ in range(max(order) + 1))
        self.order, self.head = order, nn.Linear(WIDTH, 4)

    def stream(self, h: Tensor) -> Tensor:
        for number in self.order:
            h = self.blocks[number](h)
        return h

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stream(x))


ORDERS: dict[str, tuple[Sequence[int], int]] = {
    "all_different": (range(24), 24),
    "shared_pair": ((0, 1) * 12, 2 * 12**2),
    "shared_group": ((0, 1, 2) * 4, 3 * 4**2),
    "one_repeated": ((0, 0, 0, 1), 3**2 + 1),
    "blocks_in_turn": ((0, 0, 1, 1, 2, 2), 3 * 2**2),
}
TIERS: dict[str, Callable[[nn.Module], Any]] = {
    "symbolic": lambda model: trace(model),
    "recorded": lambda model: trace(model, (2, WIDTH)),
    "exported": lambda model: trace(torch.export.export(model, (numbers(2, WIDTH),))),
}


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("key", ORDERS)
def test_the_count_of_a_stream(key: str, tier: str):
    order, count = ORDERS[key]
    (stream,) = streams(TIERS[tier](Stack(order)))
    assert (len(stream.branches), stream.count) == (len(order), count)


def test_norms_behind_the_sums_leave_one_branch_each():
    """ALBERT itself: every sum is normalised at once, and nothing grows."""
    found = streams(trace(Stack((0, 1) * 12, first=False), (2, WIDTH)))
    assert [len(stream.branches) for stream in found] == [1] * 24
    assert branch_counts(trace(Stack((0, 1) * 12, first=False), (2, WIDTH))) == {}


def test_the_plan_says_how_often_it_ends_a_branch():
    made = plan(Stack((0, 1) * 12), (2, WIDTH), residual="depth")
    layer = made["blocks.0.down"]
    assert layer.note == "ends 12 branches of its residual stream, which add up in step: std / sqrt(288)"
    assert layer.std == pytest.approx(1 / math.sqrt(WIDTH) / math.sqrt(288))
    told = plan(Stack(range(24)), (2, WIDTH), residual="depth")["blocks.7.down"].note
    assert told == "one of 24 branches of its residual stream: std / sqrt(24)"


@pytest.mark.parametrize("key", ["all_different", "shared_pair"])
def test_the_stream_about_doubles(key: str):
    """All branches together add the power 1. (By 1 / sqrt(24) the shared pair would add 4 and more.)"""
    model = Stack(ORDERS[key][0])
    made = plan(model, (2, WIDTH), residual="depth")
    x = numbers(256, WIDTH)
    found = []
    for seed in range(4):
        made.apply(model, seed=seed)
        with torch.no_grad():
            found.append(float(model.stream(x).square().mean()))
    assert sum(found) / len(found) == pytest.approx(1 + float(x.square().mean()), rel=0.25)


@pytest.mark.parametrize(
    "roll",
    [lambda h: torch.roll(h, 1, 1), lambda h: torch.cat([h[:, 1:], h[:, :1]], 1)],
    ids=["roll", "pieces of the stream"],
)
@pytest.mark.parametrize("inputs", [(2, 5, WIDTH), None], ids=["input", "no_input"])
def test_a_stream_goes_on_through_a_roll_however_it_is_written(
    roll: Callable[[Tensor], Tensor], inputs: tuple[int, ...] | None
):
    """Two branches, each of std 1 / sqrt(fan_in) times 1 / sqrt(2)."""

    class Rolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

        def forward(self, h: Tensor) -> Tensor:
            h = roll(h + self.first(h))
            return self.head(h + self.second(h))

    made = plan(Rolled(), inputs, residual="depth")
    assert [made[each].std for each in ("first", "second")] == [pytest.approx(1 / math.sqrt(2 * WIDTH))] * 2
