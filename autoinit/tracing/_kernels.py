"""What common calls give on meta, without torch's own kernels there.

Only shapes and types come out. Torch works many of them out in Python, from a decomposition: a bicubic resampling takes
a tenth of a second, a sum of two tensors half a millisecond. What does not fit is run by torch, so that it fails as it
would. None of this is used while gradients are taken: what is made here has no history.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

_IMAGE = 4  # dimensions
_SHAPE_KEEPING = frozenset(
    {nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Hardswish, nn.ReLU6, nn.Dropout}
)
_ALIKE = frozenset({"exp", "neg", "sigmoid", "tanh", "relu", "rsqrt", "sqrt", "square", "cos", "sin", "abs", "log"})
_COMBINED = frozenset({"add", "sub", "mul", "div", "true_divide"})


def called_on_meta(module: nn.Module, args: tuple[Any, ...]) -> torch.Tensor | None:
    """What a common module returns for a meta tensor, without running it; None where it has to be run."""
    x = args[0] if len(args) == 1 else None
    if not isinstance(x, torch.Tensor) or not x.is_meta or not x.is_floating_point() or torch.is_grad_enabled():
        return None
    if type(module) is nn.Linear:
        fits = x.dim() > 0 and x.shape[-1] == module.in_features and x.dtype == module.weight.dtype
        return x.new_empty((*x.shape[:-1], module.out_features)) if fits else None
    if type(module) is nn.BatchNorm2d:
        return torch.empty_like(x) if x.dim() == _IMAGE and x.shape[1] == module.num_features else None
    if type(module) is nn.LayerNorm:
        return torch.empty_like(x) if x.shape[-len(module.normalized_shape) :] == module.normalized_shape else None
    if type(module) in _SHAPE_KEEPING:
        return x if getattr(module, "inplace", False) else torch.empty_like(x)
    return None


def run(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call a torch function."""
    first = args[0] if args else None
    if not isinstance(first, torch.Tensor) or not first.is_meta:
        return func(*args, **kwargs)
    name = getattr(func, "__name__", "")
    if "grouped_mm" in name:  # bfloat16 is the only type that its kernel knows on meta
        held = [
            each.bfloat16() if isinstance(each, torch.Tensor) and each.is_floating_point() else each for each in args
        ]
        return func(*held, **kwargs).to(first.dtype)
    made = None
    if not torch.is_grad_enabled():
        if func is F.interpolate:
            made = _resized(*args, **kwargs)
        elif func is F.layer_norm:
            made = _normed(*args, **kwargs)
        elif name == "scaled_dot_product_attention":
            made = _attended(*args, **kwargs)
        elif not kwargs and first.is_floating_point():
            made = _elementwise(name, first, args[1:])
    return func(*args, **kwargs) if made is None else made


def _elementwise(name: str, x: torch.Tensor, others: tuple[Any, ...]) -> torch.Tensor | None:
    if name in _ALIKE and not others:
        return x.new_empty(x.shape)
    if name not in _COMBINED or len(others) != 1:
        return None
    other = others[0]
    if isinstance(other, (int, float)):
        return x.new_empty(x.shape)
    if not isinstance(other, torch.Tensor) or not other.is_meta or other.dtype != x.dtype:
        return None
    return x.new_empty(x.shape if x.shape == other.shape else np.broadcast_shapes(x.shape, other.shape))


def _normed(x: torch.Tensor, normalized_shape: Any, *scales: Any, **__: Any) -> torch.Tensor | None:
    shape = tuple(normalized_shape)
    given = [each for each in scales[:2] if isinstance(each, torch.Tensor)]
    fits = x.is_floating_point() and 0 < len(shape) <= x.dim() and x.shape[-len(shape) :] == shape
    fits = fits and all(each.shape == shape and each.dtype == x.dtype for each in given)
    return x.new_empty(x.shape) if fits else None


def _attended(
    query: torch.Tensor,
    key: Any = None,
    value: Any = None,
    attn_mask: Any = None,
    *_: Any,
    enable_gqa: bool = False,
    **__: Any,
) -> torch.Tensor | None:
    if not all(isinstance(each, torch.Tensor) and each.is_meta and each.dim() == _IMAGE for each in (key, value)):
        return None
    alike = query.dim() == _IMAGE and query.dtype == key.dtype == value.dtype and query.shape[0] == key.shape[0]
    heads = query.shape[1] % key.shape[1] if enable_gqa else query.shape[1] - key.shape[1]
    fits = alike and heads == 0 and query.shape[-1] == key.shape[-1] and key.shape[1:3] == value.shape[1:3]
    if not fits or (attn_mask is not None and attn_mask.shape[-2:] != (query.shape[-2], key.shape[-2])):
        return None
    return query.new_empty((*query.shape[:-1], value.shape[-1]))


def _resized(x: torch.Tensor, size: Any = None, *_: Any, mode: str = "nearest", **__: Any) -> torch.Tensor | None:
    if mode not in ("bicubic", "bilinear") or x.dim() != _IMAGE or size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    fits = len(sides) == _IMAGE - 2 and all(isinstance(side, int) and side > 0 for side in sides)
    return x.new_empty((*x.shape[:2], *sides)) if fits else None
