"""Example inputs from the shapes that a command line or a configuration gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from autoinit.checking.toml_tables import DTYPES
from autoinit.errors import ArgumentError

MOST_ELEMENTS = 1 << 33
"""Of an example input: 32 GiB of float32."""


def example_inputs(shapes: Sequence[tuple[tuple[int, ...], str]]) -> Any:
    """One shape as it is, so that the model's first layer decides the dtype; otherwise tensors of zeros.

    Args:
        shapes: the sizes of each input, and the name of its dtype; empty for the default.

    Raises:
        ArgumentError: inputs have no such dtype, or are larger than any memory.
    """
    for shape, _ in shapes:
        if math.prod(shape) > MOST_ELEMENTS:
            raise ArgumentError(
                f"an input of {'x'.join(map(str, shape))} has {math.prod(shape):,} elements, expected up to "
                f"{MOST_ELEMENTS:,}"
            )
    if not shapes:
        return None
    if len(shapes) == 1 and not shapes[0][1]:
        return shapes[0][0]
    tensors = []
    for shape, name in shapes:
        if name and name not in DTYPES:
            raise ArgumentError(f"{name!r} is no dtype of an input; expected one of {', '.join(DTYPES)}")
        tensors.append(torch.zeros(shape, dtype=getattr(torch, name or "float32")))
    return tuple(tensors)
