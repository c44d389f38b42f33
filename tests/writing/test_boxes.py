"""Parts of a weight against the whole of it, bit for bit."""

import itertools
import math

import numpy as np
import pytest
import torch

from autoinit.plans.distributions import RECIPE_DISTRIBUTIONS
from autoinit.tensors.boxes import Box, FlatRun, Region
from autoinit.writing.sampling import BLOCK, CHUNK, Draw, fill, fill_all_of
from tests.shared.plan_builders import slice_plan

SHAPE, AXES = (12, 10, 3, 2), "oikk"
REGIONS = {
    "first rows": Box(SHAPE, [slice(0, 4), *[slice(None)] * 3]),
    "last rows": Box(SHAPE, [slice(9, 12), *[slice(None)] * 3]),
    "one row": Box(SHAPE, [slice(7, 8), *[slice(None)] * 3]),
    "rows of three parts": Box(SHAPE, [[0, 1, 4, 5, 8, 9], *[slice(None)] * 3]),
    "rows backwards": Box(SHAPE, [slice(None, None, -1), *[slice(None)] * 3]),
    "inputs": Box(SHAPE, [slice(None), slice(3, 7), slice(None), slice(None)]),
    "both": Box(SHAPE, [slice(6, 12), slice(5, 10), slice(None), slice(None)]),
    "one tap": Box(SHAPE, [slice(None), slice(None), slice(1, 2), slice(1, 2)]),
    "scattered": Box(SHAPE, [[2, 11, 5], [9, 0], [0, 2], [1]]),
    "nothing": Box(SHAPE, [slice(4, 4), *[slice(None)] * 3]),
    "everything": Box.whole(SHAPE),
    "a run": FlatRun(SHAPE, 101, 517),
    "an odd element": FlatRun(SHAPE, 333, 334),
    "an empty run": FlatRun(SHAPE, 720, 720),
}


def both(region: Region, shape=SHAPE, dtype=torch.float32, **arguments) -> tuple[torch.Tensor, torch.Tensor]:
    """What a part is filled with, and that part of the whole."""
    known = {"distribution": "normal", "std": 0.05, "seed": 3, "name": "layer.weight"} | arguments
    whole, part = torch.full(shape, math.nan, dtype=dtype), torch.full(region.local_shape, math.nan, dtype=dtype)
    fill(whole, **known)
    fill(part, box=region, **known)
    return part, region.take(whole)


@pytest.mark.parametrize("distribution", RECIPE_DISTRIBUTIONS)
@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS)
def test_a_part_is_that_part_of_the_whole(region: Region, distribution: str):
    part, expected = both(region, distribution=distribution, axes=AXES)
    assert torch.equal(part, expected)


@pytest.mark.parametrize("distribution", ["normal", "orthogonal"])
@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS)
def test_with_slices_of_its_outputs(region: Region, distribution: str):
    slices = (slice_plan(((1, 3), (6, 7)), 0.2), slice_plan(((8, 12),), 1.5))
    part, expected = both(region, distribution=distribution, axes=AXES, slices=slices)
    assert torch.equal(part, expected)


@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_in_other_dtypes(region: Region, dtype: torch.dtype):
    part, expected = both(region, dtype=dtype, axes=AXES)
    assert torch.equal(part, expected)


def test_outputs_on_two_axes_and_last():
    """Heads of an attention projection: rows are both last axes together."""
    slices = (slice_plan(((3, 8),), 0.4),)
    for axes in ([slice(0, 3), slice(1, 4), slice(2, 5)], [slice(None), [3, 0], slice(None)]):
        part, expected = both(Box((6, 4, 5), axes), (6, 4, 5), axes="ioo", slices=slices)
        assert torch.equal(part, expected)


@pytest.mark.parametrize("shards", [2, 3, 7])
@pytest.mark.parametrize("axis", [0, 1])
def test_shards_of_a_weight_of_many_blocks(axis: int, shards: int):
    """Sizes that divide by nothing, more elements than one task fills."""
    shape = (1031, 1021)
    assert math.prod(shape) > CHUNK > BLOCK
    whole, edges = torch.empty(shape), np.linspace(0, shape[axis], shards + 1).astype(int)
    fill(whole, distribution="normal", std=1.0, seed=0, name="w")
    parts = []
    for start, stop in itertools.pairwise(edges):
        box = Box(shape, [slice(start, stop), slice(None)] if axis == 0 else [slice(None), slice(start, stop)])
        part = torch.empty(box.local_shape)
        fill(part, distribution="normal", std=1.0, seed=0, name="w", box=box)
        parts.append(part)
    assert torch.equal(torch.cat(parts, axis), whole)


def test_a_local_tensor_of_another_memory_format():
    region = Box(SHAPE, [slice(0, 6), slice(2, 8), slice(None), slice(None)])
    expected = both(region, axes=AXES)[1]
    other = torch.empty(region.local_shape).to(memory_format=torch.channels_last)
    assert not other.is_contiguous()
    fill(other, distribution="normal", std=0.05, seed=3, name="layer.weight", axes=AXES, box=region)
    assert torch.equal(other, expected)


def test_a_tensor_too_large_to_be_made_is_filled_in_part():
    """2^50 elements; its last ones differ from its first, and are there at once."""
    shape = (2**25, 2**25)
    ends = []
    for start in (0, 2**25 - 2):
        box, part = Box(shape, [slice(start, start + 2), slice(-3, None)]), torch.empty(2, 3)
        fill_all_of(part, Draw("normal", 1.0, 0, "w", shape, box=box))
        ends.append(part)
    assert not torch.equal(*ends)
    assert torch.isfinite(torch.stack(ends)).all()
