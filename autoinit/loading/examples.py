"""Example inputs from the shapes that a command line or a configuration gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from autoinit.errors import ArgumentError


def example_inputs(shapes: Sequence[tuple[tuple[int, ...], str]]) -> Any:
    """One shape as it is, so that the model's first layer decides the dtype; otherwise tensors of zeros.

    Args:
        shapes: the sizes of each input, and the name of its dtype; empty for the default.

    Raises:
        ArgumentError: torch has no such dtype.
    """
    if not shapes:
        return None
    if len(shapes) == 1 and not shapes[0][1]:
        return shapes[0][0]
    tensors = []
    for shape, name in shapes:
        dtype = getattr(torch, name, None) if name else torch.float32
        if not isinstance(dtype, torch.dtype):
            raise ArgumentError(f"torch has no dtype {name!r}; try float32 or int64")
        tensors.append(torch.zeros(shape, dtype=dtype))
    return tuple(tensors)
