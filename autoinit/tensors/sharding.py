"""Tensors that are parted among processes (DTensor), and what stands for them where one tensor is read.

The class is looked up and not imported: a program that shards nothing does not load torch's engine for it.
"""

from __future__ import annotations

import sys

import torch
from torch import nn


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
    """
    if not is_sharded(tensor):
        return tensor
    piece = local_piece(tensor)
    if all(each.is_replicate() for each in tensor.placements):  # type: ignore[attr-defined]
        made = piece
    elif gathered and not piece.is_meta:
        with torch.no_grad():
            made = tensor.full_tensor().detach()  # type: ignore[attr-defined]
    elif not piece.is_meta and piece.numel() and not bool(piece.any()):
        made = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
    else:
        made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(made, requires_grad=tensor.requires_grad)
    return made
