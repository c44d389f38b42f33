"""A small transformer and the ways in which torch's engine parts it: each gives the same model another layout.

Sizes divide by nothing, so that shards are uneven, and some are empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel, parallelize_module
from torch.nn import functional as F

VOCABULARY, HIDDEN, HEADS = 101, 24, 3
OLD = torch.__version__.startswith("2.9.")
"""This torch cuts packed shards of uneven sizes otherwise than FSDP2 does, and gathers FSDP2's wrong."""


class Block(nn.Module):
    """Pre-norm attention with a fused projection, and a gated feed-forward."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(HIDDEN)
        self.qkv = nn.Linear(HIDDEN, 3 * HIDDEN)
        self.out = nn.Linear(HIDDEN, HIDDEN)
        self.norm2 = nn.LayerNorm(HIDDEN)
        self.up = nn.Linear(HIDDEN, 50)
        self.down = nn.Linear(50, HIDDEN)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        parts = self.qkv(self.norm(x)).chunk(3, dim=-1)
        q, k, v = (each.view(batch, tokens, HEADS, -1).transpose(1, 2) for each in parts)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Two blocks between an embedding and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, HIDDEN)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(HIDDEN)
        self.head = nn.Linear(HIDDEN, VOCABULARY, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


Layout = Callable[[nn.Module], nn.Module]


def line() -> DeviceMesh:
    """All processes in one row."""
    return init_device_mesh("cpu", (torch.distributed.get_world_size(),))


def grid() -> DeviceMesh:
    """Two rows of processes: the first axis parts or copies the data, the second the layers."""
    return init_device_mesh("cpu", (2, torch.distributed.get_world_size() // 2), mesh_dim_names=("data", "tensor"))


def fsdp(model: nn.Module, mesh: DeviceMesh | None = None, **options: object) -> nn.Module:
    """FSDP2, block by block."""
    mesh = line() if mesh is None else mesh
    for block in getattr(model, "blocks", ()):
        fully_shard(block, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def second_axis(model: nn.Module) -> nn.Module:
    """FSDP2 over the second axis of every weight in which it divides evenly, as torch asks for."""
    processes = torch.distributed.get_world_size()
    return fsdp(model, shard_placement_fn=lambda each: Shard(int(each.dim() > 1 and each.shape[1] % processes == 0)))


def hybrid(model: nn.Module) -> nn.Module:
    """FSDP2 inside each row of processes, copies between rows (HSDP)."""
    return fsdp(model, grid())


def tensor_parallel(model: nn.Module, mesh: DeviceMesh | None = None) -> nn.Module:
    """Column- and row-wise layers, sequence-parallel norms."""
    mesh = line() if mesh is None else mesh
    split = {"qkv": ColwiseParallel(), "out": RowwiseParallel(), "up": ColwiseParallel(), "down": RowwiseParallel()}
    for block in model.blocks:
        parallelize_module(block, mesh, {**split, "norm": SequenceParallel(), "norm2": SequenceParallel()})
    ends = {"embedding": RowwiseParallel(input_layouts=Replicate()), "head": ColwiseParallel()}
    return parallelize_module(model, mesh, ends)


def both(model: nn.Module) -> nn.Module:
    """Tensor parallel within rows, FSDP2 over them: weights of packed shards."""
    mesh = grid()
    return fsdp(tensor_parallel(model, mesh["tensor"]), mesh["data"])


def checkpointed(model: nn.Module) -> nn.Module:
    """Activation checkpointing around each block."""
    for index, block in enumerate(model.blocks):
        model.blocks[index] = checkpoint_wrapper(block)
    return model


def compiled(model: nn.Module) -> nn.Module:
    """`torch.compile` around each block, and in place on the model."""
    for index, block in enumerate(model.blocks):
        model.blocks[index] = torch.compile(block)
    model.compile()
    return model


LAYOUTS: Mapping[str, Layout] = {
    "fsdp": fsdp,
    "second_axis": second_axis,
    "hybrid": hybrid,
    "tensor_parallel": tensor_parallel,
    "both": both,
    "checkpointed": lambda model: fsdp(checkpointed(model)),
    "compiled": lambda model: fsdp(compiled(model)),
    "everything": lambda model: torch.compile(
        fsdp(compiled(checkpointed(tensor_parallel(model, grid()["tensor"]))), grid()["data"])
    ),
}
