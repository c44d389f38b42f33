"""Calls that a trace without shapes cannot tell the meaning of."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch.fx
from torch import nn

from autoinit.ops import REGISTRY, OpSpec, Role, Trait
from autoinit.tracing._weighted_sums import SUMS
from autoinit.tracing.dataflow import bare_name

_FARTHEST = 24
"""Calls that are looked at on the way back from an operand."""


def is_open(kind: str, target: Any, operands: Any, root: nn.Module) -> bool:
    """Whether a call's meaning depends on shapes, or the table does not know it."""
    if kind not in ("call_function", "call_method") or target is getattr or isinstance(target, type):
        return False
    if target is operator.getitem and isinstance(operands[1], str):  # of a mapping
        return False
    spec = REGISTRY.of_name(str(target)) if kind == "call_method" else REGISTRY.of_function(target)
    if spec is not None and spec.role is Role.SPLIT:
        return not _is_plain_pick(operands[0] if operands else None, root)
    return (
        spec is None
        or _scales_by_unknown(spec, operands)
        or _sums_products(spec, target, operands)
        or _takes_changed_weight(spec, operands)
    )


def _scales_by_unknown(spec: OpSpec, operands: Any) -> bool:
    """Whether it multiplies by a size, or by a tensor that was computed on meta: a recording knows them."""
    if Trait.SCALING not in spec.traits:
        return False
    return any(_lacks_value(each) for each in _flat(operands))


def _lacks_value(node: torch.fx.Node) -> bool:
    """Whether a node is a tensor on meta that no module holds, or is computed from a size alone."""
    if node.op == "get_attr":
        return "constant" in node.meta and bool(node.meta["constant"].is_meta)
    here: torch.fx.Node | None = node
    while here is not None and len(here.all_input_nodes) == 1:
        if here.target in ("size", "numel") or (here.target is getattr and here.args[1] == "shape"):
            return True
        here = here.all_input_nodes[0] if here.op == "call_function" else None
    return False


def _is_plain_pick(operand: Any, root: nn.Module) -> bool:
    """Whether an item is taken of a shape, or of the several results of a module."""
    if not isinstance(operand, torch.fx.Node):
        return False
    if operand.op == "call_module":
        spec = REGISTRY.of_module(root.get_submodule(str(operand.target)))
        return spec is not None and spec.several
    return operand.target == "size" or (operand.target is getattr and operand.args[1] == "shape")


def _sums_products(spec: OpSpec, target: Any, operands: Any) -> bool:
    """Whether it sums products with what parameters make: over which of their axes, shapes tell."""
    nodes = [each for each in operands if isinstance(each, torch.fx.Node)]
    if spec.name in ("sum", "mean") and bare_name(target) in SUMS:
        while len(nodes) == 1 and nodes[0].op in ("call_function", "call_method"):
            if _is_weight(nodes[0]):
                return False
            nodes = nodes[0].all_input_nodes
    elif spec.name != "vecdot":
        return False
    return len(nodes) == 2 and any(map(_is_of_parameters, nodes))


def _takes_changed_weight(spec: OpSpec, operands: Any) -> bool:
    """Whether a weight may come in that a signal has changed: how its axes go in, shapes tell."""
    if spec.weights is None:
        return False
    nodes = [each for each in _flat(operands) if each.op in ("call_function", "call_method")]
    if spec.role is Role.WEIGHT:
        return any(_scaled_parameter(each) or not _is_of_parameters(each) for each in nodes if each is not operands[0])
    return any(map(_scaled_parameter, nodes))


def _flat(operands: Any) -> Iterator[torch.fx.Node]:
    for each in operands:
        if isinstance(each, torch.fx.Node):
            yield each
        elif isinstance(each, (list, tuple)):
            yield from _flat(each)


def _scaled_parameter(node: torch.fx.Node) -> bool:
    """Whether a signal multiplies what parameters make, on the way to a node."""
    waiting = [node]
    for here in waiting:
        if here.op not in ("call_function", "call_method"):
            continue
        if bare_name(here.target).strip("_") in ("mul", "multiply", "div", "truediv"):
            of_parameters = [_is_of_parameters(each) for each in here.all_input_nodes]
            if any(of_parameters) and not all(of_parameters):
                return True
        if len(waiting) < _FARTHEST and not _is_weight(here):
            waiting += here.all_input_nodes
    return False


def _is_weight(node: torch.fx.Node) -> bool:
    spec = REGISTRY.of_name(str(node.target)) if node.op == "call_method" else REGISTRY.of_function(node.target)
    return spec is not None and spec.weights is not None


def _is_of_parameters(node: torch.fx.Node) -> bool:
    """Whether a node is computed from a parameter, and from no input and no module."""
    waiting, seen = [node], {node}
    for here in waiting:
        if here.op in ("placeholder", "call_module"):
            return False
        fresh = [each for each in here.all_input_nodes if each not in seen]
        waiting += fresh
        seen.update(fresh)
    return any(each.op == "get_attr" for each in seen)
