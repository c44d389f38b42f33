"""What is assumed of values that depend on weights, where a forward cannot go on without them.

On meta no layer's output has values. Where only the size of a result hangs on them, the largest honest one is taken:
every mask is true, so that each expert of a mixture is called and each box of a detector is kept. Every assumption that
was needed is named in a note.
"""

from __future__ import annotations

import math
import os.path
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
import torch.fx

from autoinit.tracing.dataflow import SourceLine


class Standing(IntEnum):
    """What it takes to tell a value; each level includes those before it."""

    KNOWN = 0
    """Nothing: it follows from the inputs, or from parameters, or from neither."""
    MASKED = 1
    """Masks taken as all true."""
    PLACED = 2
    """Indices taken as spread evenly, values as all distinct."""
    COUNTED = 3
    """Single numbers taken as 1."""
    OPEN = 4
    """It would have to be invented."""


@dataclass(frozen=True)
class Assumption:
    """A value taken for granted.

    Attributes:
        words: taken as what.
        result: makes it from the node; or operand: makes the first operand of the call.
    """

    standing: Standing
    words: str
    result: Callable[[torch.fx.Node], torch.Tensor] | None = None
    operand: Callable[[torch.fx.Node], torch.Tensor] | None = None


class Assumed:
    """The assumptions that were made."""

    def __init__(self) -> None:
        self._made: dict[tuple[SourceLine | None, str], set[str]] = {}

    def add(self, node: torch.fx.Node, words: str) -> None:
        """Note one; places that run several times are noted once."""
        self._made.setdefault((node.meta["source"], words), set()).add(called(node).rpartition(".")[2])

    def notes(self) -> tuple[str, ...]:
        """One for each place."""
        return tuple(
            f"no value while tracing: {', '.join(sorted(what))}{_at(source)}, taken as {words}"
            for (source, words), what in self._made.items()
        )


def _at(source: SourceLine | None) -> str:
    return f" at {os.path.basename(source.file)}:{source.line}" if source else ""


def called(node: torch.fx.Node) -> str:
    """The bare name of what a node calls."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        target = target.overloadpacket
    return target if isinstance(target, str) else str(getattr(target, "__name__", ""))


def assumption(node: torch.fx.Node, standing: Standing) -> Assumption | None:
    """What may be assumed of a node, if that makes it stand better than its operands do."""
    name = called(node)
    if standing is Standing.OPEN and name == "where" and len(node.args) == 1 and not node.kwargs:
        return _PLACES
    if standing >= Standing.PLACED and node.meta.get("dtype") is torch.bool and node.meta["shape"]:
        return _NONE if name in _EXCEPTIONAL else _ALL
    if standing is Standing.OPEN and (name in _ORDERS or _is_place_of_best(node)):
        return _SPREAD
    if standing is Standing.OPEN and name not in _BY_NAME and node.meta.get("shape") == ():
        return _ONE if node.meta["dtype"] is not torch.bool else None
    return _BY_NAME.get(name) if standing is Standing.OPEN else None


def filled(node: torch.fx.Node, value: float) -> torch.Tensor:
    """A tensor of the node's shape and type with one value throughout; it takes no memory."""
    return torch.full((), value, dtype=node.meta["dtype"], device="cpu").expand(node.meta["shape"])


def _first(node: torch.fx.Node) -> torch.fx.Node:
    operand = node.args[0] if node.args else node.kwargs["input"]
    assert isinstance(operand, torch.fx.Node)
    return operand


def _is_place_of_best(node: torch.fx.Node) -> bool:
    """Whether these are the places that `topk`, `sort`, `max` or `min` give beside the values."""
    if called(node) != "getitem" or node.args[1] != 1:
        return False
    return called(_first(node)) in _BEST


def _spread(node: torch.fx.Node) -> torch.Tensor:
    """Places counted on through all that there are: different ones in each row, and each if there are rows enough."""
    call = _first(node) if called(node) == "getitem" else node
    ordered, shape = _first(call).meta["shape"], node.meta["shape"]
    dim = _dim(call)
    if dim is None:
        return _counted(shape, math.prod(ordered))
    if len(ordered) != len(shape) or not shape:
        return _counted(shape, ordered[dim] if ordered else 1)
    swapped = list(shape)
    swapped[dim], swapped[-1] = swapped[-1], swapped[dim]
    return _counted(swapped, ordered[dim]).transpose(dim, -1)


def _counted(shape: Any, below: int) -> torch.Tensor:
    return (torch.arange(math.prod(shape), device="cpu") % max(below, 1)).reshape(tuple(shape))


def _dim(call: torch.fx.Node) -> int | None:
    """The dimension that a call looks along; None for all of them."""
    position = 2 if called(call) in ("topk", "kthvalue") else 1
    dim: Any = call.kwargs.get("dim", call.args[position] if len(call.args) > position else None)
    if isinstance(dim, int) and not isinstance(dim, bool):
        return dim
    return None if called(call) in ("argmax", "argmin") else -1


def _distinct(node: torch.fx.Node) -> torch.Tensor:
    shape = _first(node).meta["shape"]
    return _counted(shape, math.prod(shape))


def _true(node: torch.fx.Node) -> torch.Tensor:
    return torch.ones((), dtype=torch.bool, device="cpu").expand(_first(node).meta["shape"])


_BEST = frozenset({"topk", "sort", "max", "min", "kthvalue"})
_ORDERS = frozenset({"argsort", "argmax", "argmin"})
_EXCEPTIONAL = frozenset({"isnan", "isinf", "isposinf", "isneginf"})
_ALL = Assumption(Standing.MASKED, "all true", result=lambda node: filled(node, True))
_NONE = Assumption(Standing.MASKED, "nowhere true", result=lambda node: filled(node, False))
_ONE = Assumption(Standing.COUNTED, "1", result=lambda node: filled(node, 1))
_PLACES = Assumption(Standing.MASKED, "all true", operand=_true)
_SPREAD = Assumption(Standing.PLACED, "spread evenly", result=_spread)
_DISTINCT = Assumption(Standing.PLACED, "all distinct", operand=_distinct)
_KEPT = Assumption(
    Standing.PLACED, "all kept", result=lambda node: torch.arange(_first(node).meta["shape"][0], device="cpu")
)
_BY_NAME = {
    "nonzero": _PLACES,
    "argwhere": _PLACES,
    "unique": _DISTINCT,
    "unique_consecutive": _DISTINCT,
    "nms": _KEPT,
}
