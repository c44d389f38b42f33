"""A call of torch: how a graph spells it, and which tensors it takes, gives and writes."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from autoinit.tracing._states import slots_of

SILENT = frozenset((
    "shape", "dtype", "device", "ndim", "requires_grad", "grad", "grad_fn", "is_leaf", "layout", "is_cuda",
    "is_meta", "is_sparse", "is_nested", "is_quantized", "itemsize", "nbytes", "names", "_version", "_base",
    "output_nr", "is_mkldnn", "is_cpu", "is_mps", "is_xpu", "is_vulkan", "volatile", "name",
))  # fmt: skip
"""Properties that are read of a tensor without a node of their own."""


def spelling(func: Any, args: tuple[Any, ...]) -> tuple[str, Any, tuple[Any, ...]]:
    """How an fx graph spells the call: kind, target and operands."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return "property", func.__self__.__name__, args
    if name == "__set__":
        return "call_function", operator.setitem, args
    qualified = getattr(func, "__qualname__", "")
    if qualified.startswith(("Tensor.", "TensorBase.", "_TensorBase.")) or hasattr(func, "__objclass__"):
        return "call_method", name, args
    return "call_function", func, args


def overwritten(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The operands that an operator writes to, as its schema says."""
    schema = getattr(getattr(func, "default", func), "_schema", None)
    if schema is None:
        return []
    held = zip(schema.arguments, args, strict=False)
    named = [(each, kwargs[each.name]) for each in schema.arguments if each.name in kwargs]
    return [
        value
        for argument, value in (*held, *named)
        if isinstance(value, torch.Tensor) and argument.alias_info is not None and argument.alias_info.is_write
    ]


def has_tensor(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return True
    if isinstance(value, (list, tuple)):
        return any(map(has_tensor, value))
    return isinstance(value, Mapping) and any(map(has_tensor, value.values()))


def is_placed(index: Any) -> bool:
    """Whether an index depends on values of tensors."""
    parts = index if isinstance(index, tuple) else (index,)
    bounds = [bound for each in parts if isinstance(each, slice) for bound in (each.start, each.stop, each.step)]
    return any(isinstance(each, torch.Tensor) for each in (*parts, *bounds))


def tensors_of(result: Any) -> Any:
    """The result with objects opened: attributes of dataclasses and the like become dicts."""
    if isinstance(result, torch.Tensor):
        return result
    if isinstance(result, (list, tuple, Iterator)):
        return [tensors_of(item) for item in result]
    if isinstance(result, Mapping):
        return {str(key): tensors_of(item) for key, item in result.items()}
    if isinstance(result, (type, nn.Module)):
        return None
    held = dict(getattr(result, "__dict__", {}))
    held |= {slot.__name__: value for slot, value in slots_of(result)}
    return {key: tensors_of(item) for key, item in held.items() if not key.startswith("__")} or None
