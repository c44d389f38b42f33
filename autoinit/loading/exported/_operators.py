"""What a node calls: operations that the table knows, arithmetic on sizes, and names of all else."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

import torch

from autoinit.ops import REGISTRY, NamedOperator

_OPERATOR = re.compile(r"torch\.ops\.([A-Za-z_]\w*)\.([A-Za-z_]\w*)(?:\.([A-Za-z_]\w*))?", re.ASCII)
_ARITHMETIC = (
    "eq", "ne", "le", "ge", "lt", "gt", "neg", "pos", "mul", "add", "sub", "floordiv", "mod", "pow", "truediv",
    "and_", "or_", "lshift", "rshift",
)  # fmt: skip
_ON_SIZES: dict[str, Callable[..., Any]] = {
    **{f"_operator.{name}": getattr(operator, name) for name in _ARITHMETIC},
    "math.trunc": math.trunc,
    "math.ceil": math.ceil,
    "math.floor": math.floor,
    **{
        f"torch.{name}": getattr(torch, name)
        for name in ("sym_not", "sym_int", "sym_float", "sym_ite", "sym_max", "sym_min", "sym_sum")
        if hasattr(torch, name)
    },
}


def operator_named(target: str) -> Callable[..., Any]:
    """The function that a file names, if it is one of the table's; else a name that cannot be called.

    Nothing is imported. An operator of the table that this process has not registered stays a name, which the table
    knows all the same.
    """
    if target in _ON_SIZES:
        return _ON_SIZES[target]
    found = _OPERATOR.fullmatch(target)
    if found is None:
        module, _, name = target.rpartition(".")
        return NamedOperator(module.rpartition(".")[2], name, "")
    space, name, overload = found[1], found[2], found[3] or "default"
    known = REGISTRY.of_operator(space, name)
    if known is not None:
        held = getattr(getattr(getattr(torch.ops, space, None), name, None), overload, None)
        if isinstance(held, torch._ops.OpOverload):
            return held
    return NamedOperator(space, name, overload)
