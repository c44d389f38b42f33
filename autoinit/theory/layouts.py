"""Layouts: what each axis of a weight tensor means to the operation that uses it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoinit.errors.arguments import require


@dataclass(frozen=True)
class Layout:
    """The geometry of one use of a weight.

    Attributes:
        axes: one letter for each dimension of the weight: `o` output features, `i` input features, `k` kernel
            positions, `b` independent copies (experts, heads with matrices of their own). A linear weight is `oi`, a
            2-d convolution `oikk`, a transposed one `iokk`, `x @ W` is `io`, stacked experts `bio` and `nn.Bilinear`
            `oii`.
        groups: groups of a convolution. The tensor holds in / groups (transposed: out / groups) features on its `i`
            (`o`) axis.
        stride_area: product of the strides of a convolution.
        transposed: whether the operation is a transposed convolution.
    """

    axes: str
    groups: int = 1
    stride_area: int = 1
    transposed: bool = False


def size(axes: str, shape: Sequence[int], letter: str) -> int:
    """The product of the sizes of a weight's axes of one letter; 1 where it has none."""
    require("letter", letter, str, "a letter of axes, such as 'o'")
    return math.prod(each for each, axis in zip(shape, axes, strict=True) if axis == letter)
