"""Tensors as flat runs of numbers, whatever their dtype, device, strides or memory format.

Element k of a tensor is the k-th in logical (row-major) order, also where memory holds it elsewhere. So what is read
or written under an index does not depend on the memory format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.floating[Any]]
Index = tuple[int | slice, ...]


def boxes(shape: tuple[int, ...], start: int, stop: int) -> Iterator[tuple[Index, int, int]]:
    """Cuts the run start:stop of the flattened shape into boxes.

    Yields (index, begin, end): `tensor[index]` holds exactly the elements begin:end of the flattened tensor, in
    order. A run needs at most 2 * len(shape) - 1 boxes.
    """
    if start >= stop:
        return
    if len(shape) <= 1:
        yield (slice(start, stop),) if shape else (), start, stop
        return
    inner = math.prod(shape[1:])
    row, head = divmod(start, inner)
    last, tail = divmod(stop, inner)
    if head:
        end = min(stop, (row + 1) * inner)
        yield from _row_boxes(shape, row, head, end - row * inner)
        row += 1
    if row < last:
        yield (slice(row, last),), row * inner, last * inner
    if tail and row <= last:
        yield from _row_boxes(shape, last, 0, tail)


def _row_boxes(shape: tuple[int, ...], row: int, start: int, stop: int) -> Iterator[tuple[Index, int, int]]:
    offset = row * math.prod(shape[1:])
    for index, begin, end in boxes(shape[1:], start, stop):
        yield (row, *index), offset + begin, offset + end


class Elements:
    """A tensor as a flat run of numbers.

    Attributes:
        tensor: without its gradient.
        memory: its own memory as a flat array, where it can be had: contiguous float32 or float64 on the CPU.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        """Looks for its memory."""
        self.tensor = tensor.detach()
        self.memory: Floats | None = None
        if tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64) and tensor.is_contiguous():
            self.memory = self.tensor.view(-1).numpy()

    def read(self, start: int, stop: int) -> Floats:
        """Elements start:stop as float32 (float64 from a float64 tensor): a view where possible, else a copy.

        Of complex numbers the absolute value.
        """
        if self.memory is not None:
            return self.memory[start:stop]
        dtype = torch.float64 if self.tensor.dtype == torch.float64 else torch.float32
        copy = torch.empty(stop - start, dtype=dtype)
        for index, begin, end in boxes(tuple(self.tensor.shape), start, stop):
            box = self.tensor[index]
            copy[begin - start : end - start].view(box.shape).copy_(box.abs() if box.is_complex() else box)
        values: Floats = copy.numpy()
        return values

    def write(self, start: int, values: Floats) -> None:
        """Copies values into the elements from start on, cast to the tensor's dtype and sent to its device."""
        source = torch.from_numpy(values)
        for index, begin, end in boxes(tuple(self.tensor.shape), start, start + values.size):
            box = self.tensor[index]
            box.copy_(source[begin - start : end - start].view(box.shape))


def stored(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor without what `expand` repeats: one of each run of elements that are one place in memory."""
    found = tensor.detach()
    if found.layout is not torch.strided:
        return found
    for axis, (size, stride) in enumerate(zip(found.shape, found.stride(), strict=True)):
        if stride == 0 and size > 1:
            found = found.narrow(axis, 0, 1)
    return found


def any_order(tensor: torch.Tensor) -> torch.Tensor:
    """The same elements, with dimensions in order of memory where they fill it: for reductions, that ask no order."""
    strides = tensor.stride()
    order = sorted(range(tensor.dim()), key=lambda axis: -strides[axis])
    turned = tensor.detach().permute(order)
    return turned if turned.is_contiguous() else tensor.detach()


def products(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Every row times every row.

    By torch: after each product numpy's own library keeps its threads spinning for a while, on the cores that what
    comes next would have.
    """
    held = torch.from_numpy(np.ascontiguousarray(rows))
    made: npt.NDArray[Any] = (held @ held.T).numpy()
    return made
