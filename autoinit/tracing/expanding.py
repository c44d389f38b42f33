"""Operations that are shorthand for several others, written out in the fx graph."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.fx
from torch import nn

from autoinit.ops import REGISTRY, OpSpec
from autoinit.ops.combining import output_in_place


def expand(graph: torch.fx.Graph, module: nn.Module) -> torch.fx.Graph:
    """Write out what is several things at once, so that each has its own walk.

    `glu(x, dim)` becomes `a * sigmoid(b)`, `a, b = chunk(x, 2, dim)`. Of `broadcast_tensors(a, b)` and the like each
    output becomes an operation of its own, on its own operand. `slice_scatter(x, y, ...)` writes `y` into a copy of x.
    """
    for node in list(graph.nodes):
        spec = _spec(node, module)
        if spec is None:
            continue
        if spec.name == "glu":
            dim = getattr(module.get_submodule(str(node.target)), "dim", -1) if node.op == "call_module" else None
            bound = spec.bind(node.args, node.kwargs)
            _write_out_glu(graph, node, bound["input"], bound["dim"] if dim is None else dim)
        elif spec.name in _PLACES:
            _write_out_scatter(graph, node, spec.bind(node.args, node.kwargs), _PLACES[spec.name])
        elif spec.each and callable(node.target):
            _write_out_each(graph, node, spec.bind(node.args, {})[spec.variadic])
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
        _placed(made, node)
    for made in (value, gate, opened, product):
        _shaped(made, node)
    node.replace_all_uses_with(product)
    graph.erase_node(node)


_PLACES: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "slice_scatter": lambda bound: slice(bound["start"], bound["end"], bound["step"]),
    "select_scatter": lambda bound: bound["index"],
}
"""What is written to along `dim`, of the functional forms of writing to a part."""


def _write_out_scatter(
    graph: torch.fx.Graph, node: torch.fx.Node, bound: Mapping[str, Any], place: Callable[[Mapping[str, Any]], Any]
) -> None:
    dim, here = bound["dim"], place(bound)
    every = slice(None)
    index = (*(every,) * dim, here) if dim >= 0 else (..., here, *(every,) * (-dim - 1))
    with graph.inserting_before(node):
        copied = graph.call_function(torch.clone, (bound["input"],))
        written = graph.call_function(operator.setitem, (copied, index, bound["src"]))
    for made in (copied, written):
        _placed(made, node)
        _shaped(made, node)
    node.replace_all_uses_with(written)
    graph.erase_node(node)


def _write_out_each(graph: torch.fx.Graph, node: torch.fx.Node, operands: Any) -> None:
    """Each output that is taken by its number as a call of its own; all of them where all go on together."""
    if not isinstance(operands, (list, tuple)) or not all(isinstance(each, torch.fx.Node) for each in operands):
        return
    made: dict[int, torch.fx.Node] = {}

    def output(position: int) -> torch.fx.Node:
        if position not in made:
            others = [*operands[:position], *operands[position + 1 :]]
            with graph.inserting_before(node):
                args: Any = (operands[position], _called(node), position, others, dict(node.kwargs))
                made[position] = graph.call_function(output_in_place, args)
            _placed(made[position], node)
        return made[position]

    for user in list(node.users):
        if user.target is operator.getitem and user.args[0] is node and isinstance(user.args[1], int):
            taken = output(user.args[1] % len(operands))
            _shaped(taken, user)
            user.replace_all_uses_with(taken)
            graph.erase_node(user)
        elif len(operands) > 1:
            together = tuple(map(output, range(len(operands))))
            user.args = torch.fx.map_arg(user.args, lambda each: together if each is node else each)  # noqa: B023
    if not node.users:
        graph.erase_node(node)


def _called(node: torch.fx.Node) -> Callable[..., Any]:
    """The function of a call, on tensors one by one, whether they came so or in a list."""
    listed = isinstance(node.args[0], (list, tuple))
    target: Callable[..., Any] = node.target  # type: ignore[assignment]
    return (lambda *tensors, **others: target(tensors, **others)) if listed else target


def _placed(made: torch.fx.Node, node: torch.fx.Node) -> None:
    made.meta.update({key: node.meta[key] for key in ("module", "source") if key in node.meta})


def _shaped(made: torch.fx.Node, node: torch.fx.Node) -> None:
    made.meta.update({key: node.meta[key] for key in ("shape", "dtype") if key in node.meta})
