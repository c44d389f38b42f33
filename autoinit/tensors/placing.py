"""Which box of a tensor a process holds, from a DTensor's mesh and placements.

Placements are read left to right: each parts what the one before has left, as `torch.chunk` does: equal pieces of
ceil(n / processes) indices, the last ones short or empty. `_StridedShard(axis, split_factor)` cuts what is left into
`split_factor` pieces, parts each, and holds its part of every one: so FSDP2 says that tensor parallelism came first.
Where sizes do not divide, torch 2.9 cuts another way than later ones: torch itself is asked.

There the two ways of saying it can part company, too: FSDP2 really chunks the tensor-parallel piece, whatever the
left-to-right reading says. The piece at hand tells which it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from autoinit.errors import PlanError
from autoinit.tensors.boxes import Box, Positions, Region
from autoinit.tensors.sharding import is_sharded, local_piece, packed_part, reads_fsdp2, split_factor

LocalLayout = Callable[[str, torch.Tensor], Region | tuple[torch.Tensor, Region] | None]
"""Tells of a parameter, by its name and as the model holds it, what of it is here: a region of the whole tensor, or
a tensor in which it lies and the region; None for what can be seen (all of a plain tensor, a DTensor's box)."""


def box_of(tensor: torch.Tensor) -> Box:
    """The box of a parameter or buffer that this process holds; the whole one of a plain tensor.

    Raises:
        PlanError: it holds partial sums, or its piece has another shape than its placements say.
    """
    if not is_sharded(tensor):
        return Box.whole(tensor.shape)
    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
    here = mesh.get_coordinate()
    if here is None:  # of a mesh that this process is not in
        return Box(tensor.shape, [slice(0, 0)] * tensor.dim())
    return _fitting(tuple(tensor.shape), tuple(mesh.shape), here, placements, tuple(local_piece(tensor).shape))


def _fitting(
    shape: tuple[int, ...], mesh: tuple[int, ...], here: Sequence[int], placements: Sequence[Any], held: tuple[int, ...]
) -> Box:
    """The box of a piece of the shape `held`."""
    ways = [box_at(shape, mesh, here, placements)]
    if any(_says_order(at, mesh, placements) for at in range(len(mesh))):
        ways.append(box_at(shape, mesh, here, placements, engine=True))
    fitting = [each for each in ways if each.local_shape == held]
    of = f"a tensor of shape {shape} on a mesh of shape {mesh} with {placements}"
    if not fitting:
        expected = ways[0].local_shape
        raise PlanError(f"{of} holds a piece of shape {held}; expected {expected}. Tell what it holds by layout=.")
    if len(fitting) == 2 and repr(ways[0]) != repr(ways[1]):
        if not reads_fsdp2(placements):
            return fitting[1]
        raise PlanError(f"{of} does not divide evenly, and may hold {ways[0]} or {ways[1]}. Tell which by layout=.")
    return fitting[0]


def box_at(
    shape: tuple[int, ...],
    mesh: tuple[int, ...],
    coordinate: Sequence[int],
    placements: Sequence[Any],
    *,
    engine: bool = False,
) -> Box:
    """The box at one place of a mesh.

    Args:
        shape: of the whole tensor.
        mesh: sizes of the mesh's axes.
        coordinate: the place, one index for each.
        placements: one for each.
        engine: let packed shards part what the later ones leave, as FSDP2 really does beside tensor parallelism.

    Raises:
        PlanError: a placement is neither a shard nor a copy.
    """
    axes = [np.arange(size) for size in shape]
    later = [engine and _says_order(at, mesh, placements) for at in range(len(mesh))]
    for at in sorted(range(len(mesh)), key=later.__getitem__):
        placement = placements[at]
        if not _is_shard(placement):
            continue
        axis, packed = placement.dim % len(shape), not later[at] and split_factor(placement) > 1
        part = packed_part if packed else _chunk
        axes[axis] = part(axes[axis], placement, mesh[at], coordinate[at])
    return Box(shape, axes)


def _says_order(at: int, mesh: tuple[int, ...], placements: Sequence[Any]) -> bool:
    """Whether a packed shard only says that later axes of the mesh parted the tensor before: it has their pieces."""
    factor = split_factor(placements[at])
    later = [each for each in range(at + 1, len(mesh)) if factor > 1 and _is_shard(placements[each])]
    before = math.prod(mesh[each] for each in later if placements[each].dim == placements[at].dim)
    return 1 < factor == before


def _is_shard(placement: Any) -> bool:
    """Whether a placement is a shard, packed or not; False for a copy."""
    if placement.is_replicate():
        return False
    if not isinstance(getattr(placement, "dim", None), int):
        raise PlanError(f"a parameter has the placement {placement}; expected a shard or a copy: it has no values yet.")
    return True


def _chunk(indices: Positions, placement: object, processes: int, number: int) -> Positions:  # noqa: ARG001 - alike
    """The part of one process of several, as `torch.chunk` cuts."""
    size = -(-indices.size // processes)
    return indices[number * size : (number + 1) * size]
