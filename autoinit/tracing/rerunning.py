"""Calling traced operations again, on values of our own choosing."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch

from autoinit.tracing.dataflow import Op

NOT_RUN = (RuntimeError, TypeError, KeyError, IndexError, ValueError, AttributeError)
"""What an operation that is called outside its model may raise: it has no result there."""


def with_item(base: torch.Tensor, index: Any, value: Any) -> torch.Tensor:
    """A copy of a tensor with some of its elements written: at an index, or in a view of it."""
    changed = base.clone()
    view = index.of(changed) if hasattr(index, "of") else None
    if view is not None:
        view.copy_(value)
    else:
        changed[index] = value
    return changed


def substitute(value: Any, values: Mapping[Op, Any]) -> Any:
    """Nested arguments with each Op replaced by its value. Raises KeyError for an Op without one."""
    if isinstance(value, Op):
        return values[value]
    if isinstance(value, slice):
        return slice(*(substitute(part, values) for part in (value.start, value.stop, value.step)))
    if isinstance(value, dict):
        return {key: substitute(item, values) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(substitute(item, values) for item in value)
    if isinstance(value, list):
        return [substitute(item, values) for item in value]
    return value


def execute(op: Op, values: Mapping[Op, Any]) -> Any:
    """The operation's result on the given operands, on their device, whichever the call named.

    Raises whatever the operation raises on them, and TypeError if it cannot be called again.
    """
    call = op.call
    if call is None:
        raise TypeError(f"{op!r} is not a call")
    args = substitute(call.args, values)
    kwargs = substitute({key: value for key, value in call.kwargs.items() if key != "device"}, values)
    if call.target in (operator.setitem, "__setitem__"):
        return with_item(*args)
    if isinstance(call.target, str):
        return getattr(args[0], call.target)(*args[1:], **kwargs)
    if callable(call.target):
        return call.target(*args, **kwargs)
    if call.spec is None or call.spec.function is None:
        raise TypeError(f"{op!r} cannot be computed outside its module")
    return call.spec.function(*args, **{**_usable(op), **kwargs})


def _usable(op: Op) -> dict[str, Any]:
    """The constants of a module that its function takes."""
    return {key: value for key, value in op.constants.items() if key not in ("input", "inplace", "assumed")}
