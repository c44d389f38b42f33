"""What functions and containers hold, as far as it may lead to a module."""

from __future__ import annotations

import enum
import functools
import itertools
import logging
import re
import types
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
import torch.fx
from torch import nn

from autoinit.ops import REGISTRY

_ENGINE: tuple[type, ...] = ()
"""What is shared by all processes, and leads to none of a model's modules."""
if torch.distributed.is_available():
    _ENGINE = (torch.distributed.ProcessGroup, torch.distributed.device_mesh.DeviceMesh)
ATOMIC: tuple[type, ...] = (
    type(None), type(...), type(NotImplemented), bool, int, float, complex, str, bytes, type, range, slice, property,
    enum.Enum, logging.Logger, re.Pattern, types.ModuleType, types.CodeType, torch.dtype, torch.device, torch.layout,
    torch.memory_format, torch.Size, torch.fx.Graph, torch.jit.ScriptFunction, torch._ops.OpOverload,
    torch._ops.OpOverloadPacket, *_ENGINE,
)  # fmt: skip
"""Types of what never changes, or leads to no module."""
_FAR = 3
"""Containers in containers, where what a global name stands for is searched for modules."""
_MOST_ITEMS = 1000
_INSTALLED = re.compile(r"[\\/](site|dist)-packages[\\/]")


def global_names(function: types.FunctionType) -> Iterator[str]:
    """The global names that a function and those defined in it may use."""
    waiting = [function.__code__]
    while waiting:
        code = waiting.pop()
        yield from code.co_names
        waiting += [each for each in code.co_consts if isinstance(each, types.CodeType)]


def held_by(function: types.FunctionType) -> Iterator[Any]:
    """What a function, and the user's functions that it uses, close over, have as defaults, or know as globals."""
    waiting, seen = [function], {function}
    for each in waiting:
        found = [*contents(each), *(each.__defaults__ or ()), *(each.__kwdefaults__ or {}).values()]
        found += [each.__globals__[name] for name in global_names(each) if name in each.__globals__]
        for value in found:
            if not isinstance(value, types.FunctionType):
                yield value
            elif value not in seen and not is_torchs(value) and not is_installed(value.__code__):
                waiting.append(value)
                seen.add(value)


def contents(function: types.FunctionType) -> Iterator[Any]:
    """What a function closes over."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it is empty
            continue


def leads_to_module(value: Any, far: int = _FAR) -> bool:
    """Whether a value is a module or a bound method, or holds one."""
    kind = type(value)
    if issubclass(kind, nn.Module) or kind in (types.MethodType, functools.partial):
        return True
    if issubclass(kind, (*ATOMIC, torch.Tensor)) or kind is types.FunctionType or not far:
        return False
    if issubclass(kind, dict):
        items = list(dict.values(value))
    elif issubclass(kind, (list, tuple, set, deque)):
        items = list(value)
    else:
        items = list(vars(value).values()) if isinstance(getattr(value, "__dict__", None), dict) else []
    return any(leads_to_module(each, far - 1) for each in itertools.islice(items, _MOST_ITEMS))


def is_torchs(function: types.FunctionType) -> bool:
    """Whether a function is part of torch, or one that the table of operations knows."""
    home = str(function.__globals__.get("__name__")).partition(".")[0]
    return home in ("torch", "autoinit") or REGISTRY.of_function(function) is not None


def is_installed(code: types.CodeType) -> bool:
    """Whether code belongs to an installed package."""
    return _INSTALLED.search(code.co_filename) is not None
