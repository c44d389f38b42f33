"""Tensors that are parted among processes (DTensor), and what stands for them where one tensor is read.

The class is looked up and not imported: a program that shards nothing does not load torch's engine for it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from autoinit.errors import PlanError
from autoinit.tensors.boxes import Positions


def is_sharded(tensor: object) -> bool:
    """Whether a tensor is a DTensor: a piece of it is held here, or a copy among several."""
    kind = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)
    return isinstance(kind, type) and isinstance(tensor, kind)


def local_piece(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor, sharing its memory; a plain tensor itself."""
    if not is_sharded(tensor):
        return tensor.detach()
    with torch.no_grad():
        piece: torch.Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return piece.detach()


def stand_in(tensor: torch.Tensor, *, gathered: bool = False) -> torch.Tensor:
    """A plain tensor of the global shape in place of a DTensor; a plain one itself.

    It is on the meta device, but for two cases that this process can tell alone: a copy that is whole here is that
    copy, and of a piece that is all zero the whole is taken to be zero (an expanded zero, which takes no memory).

    Args:
        tensor: a parameter or buffer.
        gathered: give the values, brought here from all processes. Each must ask for the same tensors in one order.

    Raises:
        PlanError: this version of torch gathers such shards wrong.
    """
    if not is_sharded(tensor):
        return tensor
    piece = local_piece(tensor)
    if all(each.is_replicate() for each in tensor.placements):  # type: ignore[attr-defined]
        made = piece
    elif gathered and not piece.is_meta:
        made = _gathered(tensor)
    elif not piece.is_meta and piece.numel() and not bool(piece.any()):
        made = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
    else:
        made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(made, requires_grad=tensor.requires_grad)
    return made


def _gathered(tensor: Any) -> torch.Tensor:
    """The whole tensor, brought here from all processes."""
    mesh, placements = tuple(tensor.device_mesh.shape), tensor.placements
    if any(split_factor(each) > 1 for each in placements) and not reads_fsdp2(placements):
        parts = [1] * tensor.dim()
        for size, each in zip(mesh, placements, strict=True):
            parts[getattr(each, "dim", 0)] *= 1 if each.is_replicate() else size
        if any(size % part for size, part in zip(tensor.shape, parts, strict=True)):
            raise PlanError(
                f"torch {torch.__version__} gathers a tensor of shape {tuple(tensor.shape)} with {placements} on a "
                f"mesh of shape {mesh} wrong, for it does not divide evenly. Use a later torch, or read the model "
                "before it is sharded."
            )
    with torch.no_grad():
        whole: torch.Tensor = tensor.full_tensor().detach()
    return whole


def split_factor(placement: object) -> int:
    """In how many pieces a packed shard (`_StridedShard`) cuts before it parts each; 1 of any other placement."""
    return int(getattr(placement, "split_factor", 1))


def packed_part(indices: Positions, placement: Any, processes: int, number: int) -> Positions:
    """The part of one process of several that a packed shard of some indices has, as this version of torch cuts."""
    along = type(placement)(0, split_factor=placement.split_factor)
    parts, _ = along._split_tensor(torch.from_numpy(indices), processes, with_padding=False, contiguous=False)
    return np.asarray(parts[number].numpy(), dtype=np.int64)


def reads_fsdp2(placements: Sequence[Any]) -> bool:
    """Whether this version of torch reads FSDP2's shards over tensor parallelism as FSDP2 cuts them.

    Torch 2.9 does so only where sizes divide, and gathers others wrong. Five rows over 2 x 2 processes tell: FSDP2 cuts
    rows 0 to 2 and 3 to 4 again, so its first two processes hold 0, 1 and 3.
    """
    packed = next(each for each in placements if split_factor(each) > 1)
    held = packed_part(np.arange(5), type(packed)(0, split_factor=2), 2, 0)
    return np.array_equal(held, [0, 1, 3])
