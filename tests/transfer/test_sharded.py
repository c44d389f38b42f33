"""FSDP2 in two processes trains with the groups as one process does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F

from autoinit import scaling
from tests.sharded.processes import run_in_processes
from tests.transfer.families import MLP

STEPS = 8


def trained(model: MLP, groups: list[dict[str, object]]) -> list[float]:
    """The losses of some steps on the same batch."""
    optimizer = torch.optim.AdamW(groups)
    inputs = torch.randn(16, 12, generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(STEPS):
        loss = F.cross_entropy(model(inputs), torch.arange(16) % 5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def started() -> tuple[MLP, object]:
    model = MLP(64)
    scaled = scaling(model, base=MLP(16))
    scaled.apply(model, seed=5)
    return model, scaled


def one_of_two(_rank: int) -> list[float]:
    model, scaled = started()
    for layer in (model.first, model.second, model.third):
        fully_shard(layer)
    fully_shard(model)
    return trained(model, scaled.groups(model, lr=2e-2, weight_decay=0.1))


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    model, scaled = started()
    alone = trained(model, scaled.groups(model, lr=2e-2, weight_decay=0.1))
    losses = run_in_processes({"trained": one_of_two}, 2, tmp_path)["trained"]
    assert alone[0] - alone[-1] > 0.5
    assert losses == [pytest.approx(alone, rel=1e-5)] * 2
