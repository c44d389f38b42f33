"""Boxes of shards against torch's own: what `distribute_tensor` gives a process of an arange holds its indices."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.distributed.tensor.placement_types import _StridedShard

from autoinit import PlanError
from autoinit.tensors.boxes import Box
from autoinit.tensors.placing import _fitting, box_at, box_of
from autoinit.tensors.sharding import _gathered, local_piece
from tests.sharded.layouts import OLD
from tests.sharded.processes import stand_in_process

MESHES = [(2,), (3,), (2, 2), (2, 3), (4, 1), (2, 2, 2)]
placements = st.one_of(
    st.just(Replicate()),
    st.builds(Shard, st.integers(0, 2)),
    st.builds(lambda dim, split: _StridedShard(dim, split_factor=split), st.integers(0, 2), st.integers(2, 4)),
)


def numbered(*shape: int) -> torch.Tensor:
    """Each element is its own index in the flattened tensor."""
    return torch.arange(int(np.prod(shape))).view(shape)


def split(tensor: torch.Tensor, placement: object, processes: int, number: int) -> torch.Tensor:
    """One process's piece by torch's own splitting."""
    if isinstance(placement, Replicate):
        return tensor
    pieces, _ = placement._split_tensor(tensor, processes, with_padding=False, contiguous=False)
    return pieces[number]


@given(st.data(), st.sampled_from(MESHES), st.tuples(*[st.integers(1, 11)] * 3))
def test_a_box_is_what_torch_splits_off(data: st.DataObject, mesh: tuple[int, ...], shape: tuple[int, ...]) -> None:
    placed = [data.draw(placements) for _ in mesh]
    seen = np.zeros(shape, dtype=int)
    for place in itertools.product(*map(range, mesh)):
        expected = numbered(*shape)
        for placement, processes, number in zip(placed, mesh, place, strict=True):
            expected = split(expected, placement, processes, number)
        box = box_at(shape, mesh, place, placed)
        assert box.local_shape == tuple(expected.shape)
        assert torch.equal(box.take(numbered(*shape)), expected)
        seen.reshape(-1)[expected.flatten().numpy()] += 1
    copies = int(np.prod([size for size, each in zip(mesh, placed, strict=True) if isinstance(each, Replicate)] or [1]))
    assert (seen == copies).all()  # together they hold every element, as often as there are copies


@pytest.mark.parametrize("rank", range(8))
@pytest.mark.parametrize("shape", [(8, 6, 4), (9, 5, 3), (1, 7, 2), (0, 4, 4)])
def test_boxes_of_dtensors(rank: int, shape: tuple[int, ...]) -> None:
    with stand_in_process(rank, 8):
        mesh = init_device_mesh("cpu", (2, 2, 2))
        for placed in (
            [Shard(0), Shard(0), Shard(1)],
            [Replicate(), Shard(-1), Shard(0)],
            [Shard(2), Replicate(), Shard(2)],
        ):
            tensor = distribute_tensor(numbered(*shape), mesh, placed, src_data_rank=None)
            assert torch.equal(box_of(tensor).take(numbered(*shape)), local_piece(tensor))


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 9, 10, 101])
@pytest.mark.parametrize("mesh", [(2, 2), (4, 2), (2, 4), (3, 3)])
def test_fsdp_over_tensor_parallel_holds_a_chunk_of_the_tensor_parallel_chunk(rows: int, mesh: tuple[int, int]) -> None:
    """Row r of the weight is filled with r: by torch.chunk twice, first by the tensor-parallel axis."""
    data, tensor = mesh
    for rank in range(data * tensor):
        row, column = divmod(rank, tensor)
        mine = _chunk(_chunk(list(range(rows)), tensor, column), data, row)
        with stand_in_process(rank, data * tensor):
            made = init_device_mesh("cpu", mesh, mesh_dim_names=("data", "tensor"))
            layer = torch.nn.Linear(3, rows)
            parallelize_module(layer, made["tensor"], ColwiseParallel(), src_data_rank=None)
            fully_shard(layer, mesh=made["data"])
            weight, at = layer.weight, made.get_coordinate()
            held = tuple(local_piece(weight).shape)
        assert held == (len(mine), 3)
        box = _fitting((rows, 3), mesh, at, weight.placements, held)
        assert box.take(torch.arange(rows).view(-1, 1).expand(rows, 3))[:, 0].tolist() == mine


@pytest.mark.skipif(OLD, reason="torch 2.9 cuts otherwise: the next test")
def test_a_piece_that_may_be_one_of_two_is_refused() -> None:
    """27 rows: chunks of four are 7, 7, 7, 6, and the last third of each 1, 1, 1 and 2.

    The last process of three over the third of four holds row 20 if FSDP2 made the piece. Read left to right, it is the
    third of four chunks by two of the rows 6, 13, 20, 25, 26: row 26.
    """
    placed, mesh, place = [_StridedShard(0, split_factor=4), Shard(0)], (3, 4), (2, 2)
    assert box_at((27,), mesh, place, placed).axes == (slice(26, 27),)
    assert box_at((27,), mesh, place, placed, engine=True).axes == (slice(20, 21),)
    with pytest.raises(PlanError, match=r"does not divide evenly.*\[26:27\].*or.*\[20:21\].*layout="):
        _fitting((27,), mesh, place, placed, (1,))


@dataclass(frozen=True)
class CutInOne:
    """A packed shard as torch 2.9 cuts it: a chunk for each piece and process; of n processes each has every n-th."""

    dim: int
    split_factor: int

    def is_replicate(self) -> bool:
        return False

    def _split_tensor(self, tensor: torch.Tensor, processes: int, **_: bool) -> tuple[list[torch.Tensor], list[int]]:
        count = processes * self.split_factor
        chunks = [*torch.chunk(tensor, count), *[tensor[:0]] * count][:count]
        return [torch.cat(chunks[number::processes]) for number in range(processes)], []


def test_packed_shards_are_cut_as_this_torch_does() -> None:
    """8 rows for two pieces and three processes: 2.9 makes four chunks of two, of which the first has 0 and 3."""
    assert _fitting((8,), (3,), (0,), [CutInOne(0, 2)], (4,)).take(torch.arange(8)).tolist() == [0, 1, 6, 7]


def test_where_torch_reads_fsdp2_otherwise_fsdp2_is_right() -> None:
    """5 rows: tensor parallelism has 0 to 2 and 3 to 4, so the first process over the second holds 3; 2.9 says 4."""
    placed, mesh, place = [CutInOne(0, 2), Shard(0)], (2, 2), (0, 1)
    assert box_at((5,), mesh, place, placed).axes == (slice(4, 5),)
    assert _fitting((5,), mesh, place, placed, (1,)).axes == (slice(3, 4),)


@pytest.mark.parametrize("rows", [4, 5])
def test_what_torch_gathers_wrong_is_not_gathered(rows: int) -> None:
    tensor = mock.Mock(device_mesh=torch.zeros(2, 2), placements=(CutInOne(0, 2), Shard(0)), shape=(rows, 3))
    tensor.dim.return_value = 2
    if rows == 4:
        assert _gathered(tensor) is tensor.full_tensor().detach()
    else:
        with pytest.raises(PlanError, match=r"gathers a tensor of shape \(5, 3\).* wrong.*Use a later torch"):
            _gathered(tensor)


def test_a_packed_projection_is_read_as_it_stands() -> None:
    """Rows of q, k and v, two each, over two processes: the second holds the second of each."""
    box = _fitting((6, 1), (2,), (1,), [_StridedShard(0, split_factor=3)], (3, 1))
    assert box.take(numbered(6, 1)).flatten().tolist() == [1, 3, 5]


def _chunk(rows: list[int], count: int, number: int) -> list[int]:
    size = -(-len(rows) // count)
    return rows[number * size : (number + 1) * size]


def test_a_plain_tensor_is_a_whole_box() -> None:
    assert repr(box_of(torch.empty(3, 4))) == repr(Box.whole((3, 4)))


def test_a_process_outside_the_mesh_holds_nothing() -> None:
    with stand_in_process(3, 4):
        mesh = torch.distributed.device_mesh.DeviceMesh("cpu", [0, 1])
        tensor = DTensor.from_local(torch.empty(0), mesh, [Shard(0)], shape=(6, 4), stride=(4, 1), run_check=False)
        assert box_of(tensor).numel == 0


def test_partial_sums_are_refused() -> None:
    with stand_in_process(0, 2):
        tensor = DTensor.from_local(torch.ones(2, 2), init_device_mesh("cpu", (2,)), [Partial()], run_check=False)
        with pytest.raises(PlanError, match="expected a shard or a copy"):
            box_of(tensor)


def test_a_piece_of_another_shape_is_refused() -> None:
    with stand_in_process(0, 2):
        mesh = init_device_mesh("cpu", (2,))
        tensor = DTensor.from_local(torch.ones(3, 2), mesh, [Shard(0)], shape=(4, 2), stride=(2, 1), run_check=False)
        with pytest.raises(PlanError, match=r"holds a piece of shape \(3, 2\); expected \(2, 2\)"):
            box_of(tensor)
