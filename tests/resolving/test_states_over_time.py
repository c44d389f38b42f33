"""A state that the same weights add into at each step is no residual stream of as many branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit.resolving.residual import branch_counts, streams
from autoinit.tracing import trace
from tests.shared.written_nets import Many

WIDTH, STEPS = 6, 7


def zoneout(net: Any, x: Tensor) -> Tensor:
    """Tacotron 2's LSTM: of the new state, as much as dropout leaves is added to the old one."""
    h = c = x.new_zeros(x.shape[1], WIDTH)
    for step in x:
        new, c = net.cell(step, (h, c))
        h = h + F.dropout(new - h, 0.1)
    return net.head(h)


def mixed_in(net: Any, x: Tensor) -> Tensor:
    """Zoneout with a mask."""
    h = c = x.new_zeros(x.shape[1], WIDTH)
    mask = torch.rand(x.shape[1], WIDTH)
    for step in x:
        new, c = net.cell(step, (h, c))
        h = mask * h + (1 - mask) * new
    return net.head(h)


def leaky(net: Any, x: Tensor) -> Tensor:
    """A reservoir: nine tenths of the state stay."""
    h = net.embed(x[0])
    for step in x:
        h = 0.9 * h + 0.1 * net.linear(torch.tanh(h + step))
    return net.head(h)


def summed(net: Any, x: Tensor) -> Tensor:
    h = net.embed(x[0])
    for _ in range(STEPS):
        h = h + net.linear(torch.relu(h))
    return net.head(h)


def model(forward: Callable[[Any, Tensor], Tensor]) -> nn.Module:
    return Many(
        forward,
        cell=nn.LSTMCell(WIDTH, WIDTH),
        embed=nn.Linear(WIDTH, WIDTH),
        linear=nn.Linear(WIDTH, WIDTH),
        other=nn.Linear(WIDTH, WIDTH),
        head=nn.Linear(WIDTH, 3),
    )


@pytest.mark.parametrize("forward", [zoneout, mixed_in, leaky, summed])
def test_a_state_is_no_stream(forward: Callable[[Any, Tensor], Tensor]):
    dataflow = trace(model(forward), (STEPS, 2, WIDTH))
    assert [len(stream.branches) for stream in streams(dataflow) if len(stream.branches) > 2] == []
    assert not branch_counts(dataflow).keys() & {"linear/linear.weight", "cell/cell.weight_ih"}


def test_different_weights_are_branches():
    """Two layers that add into a stream, one after the other: two branches, whoever else is called again."""

    def forward(net: Any, x: Tensor) -> Tensor:
        h = net.embed(x)
        h = h + net.linear(torch.relu(h))
        h = h + net.other(torch.relu(h))
        return net.head(h)

    counts = branch_counts(trace(model(forward), (2, WIDTH)))
    assert counts == {"linear/linear.weight": 2, "other/other.weight": 2}
