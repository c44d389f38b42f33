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


def direct(tensor: torch.Tensor) -> Floats | None:
    """The tensor's own memory as a flat array, where it can be had: contiguous float32 or float64 on the CPU."""
    if tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64) and tensor.is_contiguous():
        array: Floats = tensor.detach().reshape(-1).numpy()
        return array
    return None


def read(tensor: torch.Tensor, start: int, stop: int) -> Floats:
    """Elements start:stop as float32 (float64 from a float64 tensor): a view where possible, else a copy."""
    array = direct(tensor)
    if array is not None:
        return array[start:stop]
    dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    copy = torch.empty(stop - start, dtype=dtype)
    for index, begin, end in boxes(tuple(tensor.shape), start, stop):
        box = tensor.detach()[index]
        copy[begin - start : end - start].view(box.shape).copy_(box)
    values: Floats = copy.numpy()
    return values


def write(tensor: torch.Tensor, start: int, values: Floats) -> None:
    """Copies values into the elements from start on, cast to the tensor's dtype and sent to its device."""
    source = torch.from_numpy(values)
    target = tensor.detach()
    for index, begin, end in boxes(tuple(tensor.shape), start, start + values.size):
        box = target[index]
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
