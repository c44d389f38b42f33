"""Likely shapes of what a weight operation gives, where tracing knows none: samples first, then what must be there."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from autoinit.resolving._starting import likely_shapes


@pytest.mark.parametrize(
    ("axes", "sizes", "ranks"),
    [((-1,), [8], [2, 3]), ((-2,), [8], [3]), ((-3,), [8], [4]), ((-4,), [8], [5]), ((-3, -1), [8, 6], [])],
    ids=["linear", "convolution", "of images", "of volumes", "two axes of features"],
)
def test_features_stand_where_the_operation_has_them(axes: Sequence[int], sizes: list[int], ranks: list[int]):
    """A linear layer takes samples, or sequences; a convolution has as many axes of positions as its kernel."""
    found = likely_shapes(axes, sizes)
    assert [len(shape) for shape in found] == ranks
    assert all(shape[axes[0]] == sizes[0] for shape in found)
    others = [size for shape in found for axis, size in enumerate(shape) if axis != len(shape) + axes[0]]
    assert all(size > 1 and size != sizes[0] for size in others)
