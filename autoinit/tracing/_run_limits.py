"""How much a real run may cost: it is given up before it takes minutes, or all of the memory."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

_MOST_PRODUCTS = 1 << 38
_MOST_ELEMENTS = 1 << 28
_PRODUCTS = frozenset({"matmul", "__matmul__", "__rmatmul__", "bmm", "mm"})
_MATRIX = 2  # dimensions


class TooMuchError(Exception):
    """The run would take too long, or too much memory."""


class RunCost:
    """Counts the multiplications of a run."""

    def __init__(self) -> None:
        self._products = 0

    def before(self, name: str, args: tuple[Any, ...]) -> None:
        """Count a product of two tensors before it is made.

        Raises:
            TooMuchError: it is too large, or there were too many.
        """
        if len(args) < _MATRIX or not all(isinstance(each, torch.Tensor) for each in args[:2]):
            return
        left, right = args[:2]
        if name == "scaled_dot_product_attention":
            self._add(left.numel() * right.shape[-2], math.prod(left.shape[:-1]) * right.shape[-2])
        elif name in _PRODUCTS and left.dim() >= _MATRIX and right.dim() >= _MATRIX:
            self._add(left.numel() * right.shape[-1], math.prod(left.shape[:-1]) * right.shape[-1])

    def after(self, module: nn.Module, result: Any) -> None:
        """Count what a layer has done.

        Raises:
            TooMuchError: there was too much.
        """
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.Tensor) and weight.dim() >= _MATRIX and isinstance(result, torch.Tensor):
            self._add(result.numel() * weight[0].numel(), result.numel())

    def _add(self, products: int, elements: int) -> None:
        self._products += products
        if self._products > _MOST_PRODUCTS:
            raise TooMuchError(
                f"a real run takes more than {_MOST_PRODUCTS:.0e} multiplications, the most that is tried"
            )
        if elements > _MOST_ELEMENTS:
            raise TooMuchError(
                f"a real run makes a tensor of {elements:.0e} elements; up to {_MOST_ELEMENTS:.0e} are made"
            )
