"""Elements of tensors that share a place in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


def within(tensor: torch.Tensor) -> bool:
    """Whether two elements of a tensor share a place in memory."""
    axes = sorted((stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1)
    reach = 0  # of the axes so far, in elements
    for stride, size in axes:
        if stride <= reach:
            return _repeats(tensor)
        reach += stride * (size - 1)
    return False


def _repeats(tensor: torch.Tensor) -> bool:
    """`within`, by counting: for strides that interlock, as (2, 3) over two by two elements at 0, 2, 3 and 5."""
    places = np.zeros(1, dtype=np.int64)
    for stride, size in zip(tensor.stride(), tensor.shape, strict=True):
        places = np.unique(np.add.outer(places, stride * np.arange(size)))
    return places.size < tensor.numel()


def between(tensors: Mapping[str, torch.Tensor]) -> tuple[str, str] | None:
    """The names of two tensors that share a place in memory, the one that begins first before the other."""
    order = sorted((str(each.device), each.data_ptr(), name) for name, each in tensors.items() if each.numel())
    reaching: list[tuple[str, int, str]] = []  # (device, end, name) of those before that end after this one begins
    for device, start, name in order:
        reaching = [each for each in reaching if each[0] == device and each[1] > start]
        for _, _, other in reaching:
            if np.shares_memory(_outline(tensors[other]), _outline(tensors[name])):
                return other, name
        reaching.append((device, _end(tensors[name]), name))
    return None


def _end(tensor: torch.Tensor) -> int:
    last = sum(stride * (size - 1) for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
    return tensor.data_ptr() + (last + 1) * tensor.element_size()


class _Outline:
    """Where a tensor's elements are, as numpy asks for it; of any dtype and on any device, for nothing is read."""

    def __init__(self, tensor: torch.Tensor) -> None:
        size = tensor.element_size()
        self.__array_interface__ = {
            "version": 3,
            "data": (tensor.data_ptr(), True),
            "shape": tuple(tensor.shape),
            "strides": tuple(stride * size for stride in tensor.stride()),
            "typestr": f"|V{size}",
        }


def _outline(tensor: torch.Tensor) -> npt.NDArray[Any]:
    return np.asarray(_Outline(tensor))
