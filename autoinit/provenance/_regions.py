"""StorageRegion: which bytes of a storage a tensor views, and how two of them lie to each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class StorageRegion:
    """The part of a storage that a tensor views.

    Attributes:
        start, stop: half-open run of bytes.
        sizes, strides: of the axes, strides in bytes.
        dense: no byte of the run is left out.
    """

    start: int
    stop: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dense: bool

    @classmethod
    def of(cls, tensor: torch.Tensor) -> StorageRegion:
        """The region of a tensor."""
        item = tensor.element_size()
        sizes = tuple(tensor.size())
        strides = tuple(stride * item for stride in tensor.stride())
        start = int(tensor.storage_offset()) * item
        span, distinct = item, item
        for size, stride in zip(sizes, strides, strict=True):
            span += (size - 1) * stride
            distinct *= size if stride else 1
        if 0 in sizes:
            return cls(start, start, sizes, strides, True)
        return cls(start, start + span, sizes, strides, distinct == span)

    def covers(self, other: StorageRegion) -> bool:
        """Whether every element of the other is one of this."""
        if self.dense and self.start <= other.start and other.stop <= self.stop:
            return True
        return self.same_elements(other)

    def same_elements(self, other: StorageRegion) -> bool:
        """Whether both are the same elements, in any order of axes."""
        if (self.start, self.stop, self.dense) != (other.start, other.stop, other.dense):
            return False
        return self.dense or self._axes() == other._axes()

    def _axes(self) -> list[tuple[int, int]]:
        return sorted((stride, size) for size, stride in zip(self.sizes, self.strides, strict=True) if size > 1)

    def overlaps(self, other: StorageRegion) -> bool:
        """Whether the runs of bytes meet."""
        return self.start < other.stop and other.start < self.stop

    def hull(self, other: StorageRegion, dense: bool = False) -> StorageRegion:
        """The run of bytes from the first of both to the last. `dense` says whether the two fill it."""
        return StorageRegion(min(self.start, other.start), max(self.stop, other.stop), (), (), dense)

    def within(self, whole: StorageRegion) -> str:
        """In words, which part of the whole this is: `row 3`, `rows 0:64`, `columns 2:4`, `a part`."""
        if not whole.sizes or self.start < whole.start or self.stop > whole.stop:
            return "a part"
        row, offset = whole.strides[0], self.start - whole.start
        noun = "element" if len(whole.sizes) == 1 else "row"
        if self.dense and row and offset % row == 0 and (self.stop - self.start) % row == 0:
            return _run(noun, offset // row, (self.stop - self.start) // row)
        if len(whole.sizes) == 2 and row and (whole.sizes[:1], (row,)) == (self.sizes[:1], self.strides[:1]):
            item = whole.strides[1]
            if self.strides[1:] == (item,) or len(self.sizes) == 1:
                return _run("column", offset // item, self.sizes[1] if len(self.sizes) == 2 else 1)
        return "a part"


def _run(noun: str, first: int, count: int) -> str:
    return f"{noun} {first}" if count == 1 else f"{noun}s {first}:{first + count}"
