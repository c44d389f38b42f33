"""Operations that are shorthand for several others, written out in the fx graph."""

from __future__ import annotations

import operator

import torch
import torch.fx
from torch import nn

from autoinit.ops import REGISTRY, OpSpec


def expand(graph: torch.fx.Graph, module: nn.Module) -> torch.fx.Graph:
    """Write out `glu(x, dim)` as `a * sigmoid(b)`, `a, b = chunk(x, 2, dim)`, so that each half has its own walk."""
    for node in list(graph.nodes):
        spec = _spec(node, module)
        if spec is not None and spec.name == "glu":
            dim = getattr(module.get_submodule(str(node.target)), "dim", -1) if node.op == "call_module" else None
            bound = spec.bind(node.args, node.kwargs)
            _write_out_glu(graph, node, bound["input"], bound["dim"] if dim is None else dim)
    return graph


def _spec(node: torch.fx.Node, module: nn.Module) -> OpSpec | None:
    if node.op == "call_module":
        return REGISTRY.of_module(module.get_submodule(str(node.target)))
    if node.op == "call_function":
        return REGISTRY.of_function(node.target)
    return REGISTRY.of_name(str(node.target)) if node.op == "call_method" else None


def _write_out_glu(graph: torch.fx.Graph, node: torch.fx.Node, operand: torch.fx.Node, dim: int) -> None:
    with graph.inserting_before(node):
        halves = graph.call_function(torch.chunk, (operand, 2, dim))
        value = graph.call_function(operator.getitem, (halves, 0))
        gate = graph.call_function(operator.getitem, (halves, 1))
        opened = graph.call_function(torch.sigmoid, (gate,))
        product = graph.call_function(torch.mul, (value, opened))
    for made in (halves, value, gate, opened, product):
        made.meta.update({key: node.meta[key] for key in ("module", "source") if key in node.meta})
    for made in (value, gate, opened, product):
        made.meta.update({key: node.meta[key] for key in ("shape", "dtype") if key in node.meta})
    node.replace_all_uses_with(product)
    graph.erase_node(node)
