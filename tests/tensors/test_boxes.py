"""Boxes against numpy's own indexing of a tensor that holds the place of each of its elements."""

import itertools

import numpy as np
import pytest
import torch

from autoinit.tensors.boxes import Box, FlatRun, Region

SHAPE = (4, 5, 3, 6)
AXES = [slice(None), slice(1, 3), slice(2, 2), slice(None, None, 2), [1], [2, 0], [0, 1, 2]]


def positions(region: Region) -> list[int]:
    """The places in the flattened whole tensor that the spans of a region name."""
    spans = region.spans(0, region.numel)
    return [at for start, size in zip(spans.starts, spans.lengths, strict=True) for at in range(start, start + size)]


@pytest.mark.parametrize("first", range(len(AXES)))
def test_spans_are_the_places_of_the_elements(first: int):
    whole = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    for axes in itertools.product([AXES[first]], AXES, AXES, AXES[:4]):
        indices = [np.arange(size)[axis] for size, axis in zip(SHAPE, axes, strict=True)]
        expected = whole[np.ix_(*indices)]
        box = Box(SHAPE, axes)
        assert box.local_shape == expected.shape
        assert box.numel == expected.size
        assert positions(box) == expected.ravel().tolist()
        assert np.array_equal(box.take(torch.from_numpy(whole)).numpy(), expected)
        assert box.is_whole == (expected.size == whole.size)


def test_part_of_a_box_is_part_of_its_places():
    box = Box(SHAPE, [[3, 1], slice(1, 4), slice(None), [0, 1, 3, 5]])
    whole = positions(box)
    assert len(whole) == box.numel == 72
    for start, stop in itertools.combinations(range(0, 73, 3), 2):
        spans = box.spans(start, stop)
        found = np.concatenate([np.arange(at, at + n) for at, n in zip(spans.starts, spans.lengths, strict=True)])
        assert found.tolist() == whole[start:stop]


def test_spans_are_as_long_as_they_can_be():
    """Rows 1:3 of 4 lie together; columns 2:4 of 6 make one run a row; all of it is one."""
    for axes, expected in (
        ([slice(1, 3), slice(None)], [(6, 12)]),
        ([slice(1, 3), slice(2, 4)], [(8, 2), (14, 2)]),
        ([slice(None), slice(None)], [(0, 24)]),
        ([[0, 2, 3], slice(None)], [(0, 6), (12, 12)]),
    ):
        box = Box((4, 6), axes)
        spans = box.spans(0, box.numel)
        assert list(zip(spans.starts.tolist(), spans.lengths.tolist(), strict=True)) == expected


def test_a_run_of_the_flattened_tensor():
    whole = torch.arange(24).view(4, 6)
    run = FlatRun((4, 6), 5, 17)
    assert run.local_shape == (12,)
    assert positions(run) == list(range(5, 17))
    assert run.take(whole).tolist() == list(range(5, 17))
    assert run.spans(2, 4).starts.tolist() == [7]
    assert not run.is_whole
    assert not FlatRun((4, 6), 0, 24).is_whole  # its tensor has another shape
    assert FlatRun((24,), 0, 24).is_whole
    assert positions(FlatRun((4, 6), 3, 3)) == []


def test_a_scalar_and_an_empty_tensor():
    assert positions(Box.whole(())) == [0]
    assert Box.whole((3, 0)).numel == 0
    assert positions(Box.whole((3, 0))) == []


def test_take_leaves_axes_of_one_alone():
    scales = torch.arange(5.0).view(1, 5, 1, 1)
    assert Box(SHAPE, [slice(0, 2), [4, 1], slice(1, 2), slice(None)]).take(scales).flatten().tolist() == [4.0, 1.0]


def test_it_says_what_it_holds():
    assert repr(Box((4, 6), [slice(None), [0, 1, 5]])) == "Box((4, 6), [0:4, (0, 1, 5)])"


def test_what_is_no_box_is_refused():
    with pytest.raises(IndexError, match="indices 2 to 4 of an axis of size 4"):
        Box((4,), [[2, 4]])
    with pytest.raises(IndexError, match="indices -1 to 2 of an axis of size 4"):
        Box((4,), [[2, -1]])
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        Box((4, 3), [slice(None)])
    with pytest.raises(IndexError, match="3:9 is no run of the 8 elements"):
        FlatRun((4, 2), 3, 9)
