"""Operations that are shorthand for several others, written out in the fx graph."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.fx
from torch import nn

from autoinit.models.walking import modules_by_path
from autoinit.ops import REGISTRY, Acts, OpSpec
from autoinit.ops.combining import output_in_place
from autoinit.tracing._overwriting import writes
from autoinit.tracing.dataflow import bare_name

STANDS_FOR = "stands_for"
"""In the meta of an operation that was made here: the call that it was written out of, one of several or alone."""


def expand(graph: torch.fx.Graph, module: nn.Module) -> torch.fx.Graph:
    """Write out what is several things at once, so that each has its own walk.

    `glu(x, dim)` becomes `a * sigmoid(b)`, `a, b = chunk(x, 2, dim)`. Of `broadcast_tensors(a, b)` and the like each
    output becomes an operation of its own, on its own operand. `slice_scatter(x, y, ...)` writes `y` into a copy of x,
    as `index_copy` and its like do, `index_copy_` into x itself.
    """
    modules = modules_by_path(module)
    for node in list(graph.nodes):
        spec = _spec(node, modules)
        if spec is None:
            continue
        if spec.name in ("getitem", "setitem") and (mask := _mask_of(node.args[1])) is not None:
            node.args = (node.args[0], mask, *node.args[2:])
        if spec.name == "glu":
            dim = getattr(modules[str(node.target)], "dim", -1) if node.op == "call_module" else None
            bound = spec.bind(node.args, node.kwargs)
            _write_out_glu(graph, node, bound["input"], bound["dim"] if dim is None else dim)
        elif spec.name in _WRITTEN:
            bound = spec.bind(node.args, node.kwargs)
            value, place = bound.get(_WRITTEN[spec.name]), _place(spec.name, bound)
            if place is not None and isinstance(value, torch.fx.Node):
                _write_out_scatter(graph, node, bound["input"], place, value, inside=writes(node, modules))
        elif spec.each and callable(node.target):
            _write_out_each(graph, node, spec.bind(node.args, {})[spec.variadic])
    return graph


def _spec(node: torch.fx.Node, modules: Mapping[str, nn.Module]) -> OpSpec | None:
    if node.op == "call_module":
        return REGISTRY.of_module(modules[str(node.target)])
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


_WRITTEN: Mapping[str, str] = {
    "slice_scatter": "src",
    "select_scatter": "src",
    "index_copy": "source",
    "index_put": "values",
    "scatter_copy": "src",
}
"""The functional forms of writing to a part, and what of their arguments is written."""


def _place(name: str, bound: Mapping[str, Any]) -> Any:
    """The index of the part that is written to; None where it is none, or something else happens to it."""
    every = slice(None)
    if name == "index_put":
        index = tuple(every if each is None else each for each in bound["indices"])
        return None if bound["accumulate"] else _mask_of(index) or (index[0] if len(index) == 1 else index)
    if name == "slice_scatter":
        here: Any = slice(bound["start"], bound["end"], bound["step"])
    elif name == "scatter_copy":
        here = _along_one_axis(bound["index"]) if bound["reduce"] is None else None
    else:
        here = bound["index"]
    dim = bound["dim"]
    if here is None or not isinstance(dim, int):
        return None
    return (*(every,) * dim, here) if dim >= 0 else (..., here, *(every,) * (-dim - 1))


def _mask_of(index: Any) -> torch.fx.Node | None:
    """The condition, where an index lists all the places at which it holds: `x[condition.nonzero(as_tuple=True)]`."""
    places = index if isinstance(index, (tuple, list)) else (index,)
    if not places or not all(isinstance(each, torch.fx.Node) for each in places):
        return None
    found = places[0]
    if found.target is operator.getitem:
        found = found.args[0]
        if [each.args for each in places] != [(found, axis) for axis in range(len(places))]:
            return None
    elif len(places) > 1:
        return None
    name = bare_name(found.target) if isinstance(found, torch.fx.Node) else ""
    lists = name == "nonzero_numpy" or (name == "nonzero" and found.kwargs.get("as_tuple") is True)
    return found.args[0] if lists or (name == "where" and len(found.args) == 1) else None


def _along_one_axis(index: Any) -> torch.fx.Node | None:
    """The list of places that an index repeats along all other axes (`even.expand_as(x)`)."""
    while isinstance(index, torch.fx.Node) and len(index.meta.get("shape") or ()) != 1:
        spec = REGISTRY.of_name(str(index.target)) if index.op == "call_method" else REGISTRY.of_function(index.target)
        if spec is None or spec.acts is not Acts.REARRANGING or not index.args:
            return None
        index = index.args[0]
    return index if isinstance(index, torch.fx.Node) else None


def _write_out_scatter(
    graph: torch.fx.Graph, node: torch.fx.Node, target: Any, place: Any, value: torch.fx.Node, *, inside: bool
) -> None:
    """`target[place] = value`, in place or on a copy."""
    with graph.inserting_before(node):
        made = [] if inside else [graph.call_function(torch.clone, (target,))]
        made.append(graph.call_function(operator.setitem, (made[0] if made else target, place, value)))
    for each in made:
        _placed(each, node)
        _shaped(each, node)
    node.replace_all_uses_with(made[-1])
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
    made.meta[STANDS_FOR] = node
    made.meta.update({key: node.meta[key] for key in ("module", "source") if key in node.meta})


def _shaped(made: torch.fx.Node, node: torch.fx.Node) -> None:
    made.meta.update({key: node.meta[key] for key in ("shape", "dtype") if key in node.meta})
