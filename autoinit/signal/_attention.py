"""`nn.MultiheadAttention` opened: torch's own forward, with each linear map in it handed out."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Linear = Callable[..., torch.Tensor]
Probe = Callable[[Linear, tuple[Any, ...]], torch.Tensor]
"""Is given `functional.linear` and its arguments (input, weight, bias), and returns the result."""


def is_attention(module: nn.Module) -> bool:
    """Whether a module can be opened: torch's own, with the forward that torch gives it."""
    return isinstance(module, nn.MultiheadAttention) and type(module).forward is nn.MultiheadAttention.forward


def probing(module: nn.Module, probe: Probe) -> Callable[..., Any]:
    """The forward of `nn.MultiheadAttention` with each `linear` in it handed to `probe`.

    The functions are torch's own, under a name space of their own, so that nothing outside sees the difference.
    """

    def linear(*args: Any) -> torch.Tensor:
        return probe(functional.linear, args)

    inner: dict[str, Any] = {**vars(functional), "linear": linear}
    for name in ("_in_projection_packed", "_in_projection", "multi_head_attention_forward"):
        inner[name] = _within(vars(functional)[name], inner)
    forward = nn.MultiheadAttention.forward
    outer = {**forward.__globals__, "F": types.SimpleNamespace(**inner)}
    return types.MethodType(_within(forward, outer), module)


def row_in(part: torch.Tensor, whole: torch.Tensor) -> int | None:
    """The row of a matrix at which a view of some of its rows begins; None if it is no view of it."""
    if part.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr():
        return None
    return int(part.storage_offset() - whole.storage_offset()) // whole.stride(0)


def _within(function: Any, names: dict[str, Any]) -> Any:
    """A function that looks up its globals in `names`."""
    made = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    made.__kwdefaults__ = function.__kwdefaults__
    return made
