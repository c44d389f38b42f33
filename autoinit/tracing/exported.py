"""The exported tier: a graph and its tensors. Needs neither the model's class nor an input."""

from __future__ import annotations

import copy
import operator
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.fx
from torch import nn

from autoinit.tracing.dataflow import SourceLine

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_LINE = re.compile(r'File "([^"]+)", line (\d{1,9}), in (\S+)')
_TORCH = re.compile(r"[\\/](site|dist)-packages[\\/]torch[\\/]")
"""Files of torch itself, on whatever machine the program was exported."""


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """A model as `torch.export` saw it: what it computes, and the tensors that it holds.

    Attributes:
        graph: each parameter, buffer and constant is an attribute by its name in the model; node.meta may hold
            `module`, `source`, `shape` and `dtype`, and `constant`, a tensor that no state dict holds.
        state_dict: parameters (`nn.Parameter`) and buffers by name; a tied parameter under each of its names.
        parameters: their names, each parameter once, in the model's order.
    """

    graph: torch.fx.Graph = field(repr=False)
    state_dict: Mapping[str, torch.Tensor] = field(repr=False)
    parameters: tuple[str, ...]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter once, by its name in the model."""
        for name in self.parameters:
            parameter = self.state_dict[name]
            assert isinstance(parameter, nn.Parameter)
            yield name, parameter

    def holder(self) -> nn.Module:
        """A module tree on the meta device with the parameters and buffers under their names."""
        root = nn.Module()
        tensors: dict[int, torch.Tensor] = {}
        for name, value in self.state_dict.items():
            if id(value) not in tensors:
                made = value.detach().to("meta")
                is_parameter = isinstance(value, nn.Parameter)
                tensors[id(value)] = nn.Parameter(made, requires_grad=value.requires_grad) if is_parameter else made
            _place(root, name, tensors[id(value)])
        return root

    def graph_to_change(self) -> torch.fx.Graph:
        """A copy of the graph."""
        return copy.deepcopy(self.graph)


def is_exported(model: object) -> bool:
    """Whether this is an `ExportedModel` or a `torch.export.ExportedProgram`."""
    loaded = sys.modules.get("torch.export.exported_program")  # importing it takes a second
    return isinstance(model, ExportedModel) or (loaded is not None and isinstance(model, loaded.ExportedProgram))


def exported_model(program: ExportedModel | ExportedProgram) -> ExportedModel:
    """A program of torch's with lifted tensors put back as attributes. Shares the program's tensors."""
    if isinstance(program, ExportedModel):
        return program
    signature = program.graph_signature
    lifted: dict[str, str] = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **dict(signature.inputs_to_lifted_tensor_constants),
    }
    graph = torch.fx.Graph()
    made: _Made = {}
    outputs = set(signature.user_outputs)
    for node in program.graph.nodes:
        constant = None
        if node.op == "placeholder" and node.name in lifted:
            made[node] = graph.create_node("get_attr", lifted[node.name], name=node.name)
            constant = program.constants.get(lifted[node.name])
        elif node.op == "output":
            graph.output([made[each] for each in node.all_input_nodes if each.name in outputs])
            continue
        else:
            _copied(node, program.graph_module, graph, made)
            continue
        made[node].meta = _meta(node.meta)
        if isinstance(constant, torch.Tensor):
            made[node].meta["constant"] = constant
    return ExportedModel(graph, program.state_dict, tuple(dict.fromkeys(signature.parameters)))


_Made: TypeAlias = dict[torch.fx.Node, Any]
"""The copies of nodes; of a block, the tuple of what it gives."""
_BLOCKS = frozenset({"wrap_with_set_grad_enabled", "wrap_with_autocast"})
"""What `torch.no_grad()` and `torch.autocast(...)` in a forward become."""


def is_block(operator: str) -> bool:
    """Whether an operator does no more than run the graph that it is given, on what follows that in its arguments."""
    return operator in _BLOCKS


def _copied(node: torch.fx.Node, module: torch.fx.GraphModule, graph: torch.fx.Graph, made: _Made) -> None:
    """Copy a node of the module's graph into another graph; a block under `no_grad` or `autocast` node by node."""
    if node.target is operator.getitem and isinstance(made[node.args[0]], tuple):  # type: ignore[index]
        made[node] = made[node.args[0]][node.args[1]]  # type: ignore[index]
        return
    if not is_block(getattr(node.target, "__name__", "")):
        made[node] = graph.node_copy(node, lambda old: made[old])
        made[node].meta = _meta(node.meta)
        return
    at = next(at for at, each in enumerate(node.args) if isinstance(each, torch.fx.Node))
    block = module.get_submodule(str(node.args[at].target))  # type: ignore[union-attr]
    assert isinstance(block, torch.fx.GraphModule)
    *nodes, output = block.graph.nodes
    inside: _Made = {}
    operands = iter(node.args[at + 1 :])
    for each in nodes:
        if each.op == "placeholder":
            inside[each] = made[next(operands)]  # type: ignore[index]
        else:
            _copied(each, block, graph, inside)
    made[node] = tuple(inside[each] for each in output.args[0])


def place_of(path: str, stack_trace: str | None) -> dict[str, Any]:
    """Where a node was called: the path of its module, and the line of the user's code if the trace tells."""
    place: dict[str, Any] = {"module": re.sub(r"^L\['self'\]\.?", "", path)}
    lines = [each for each in _LINE.findall(stack_trace or "") if not _TORCH.search(each[0])]
    if lines:
        file, line, function = lines[-1]
        place["source"] = SourceLine(file, int(line), function)
    return place


def _meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    stack = meta.get("nn_module_stack") or {}
    kept = place_of(str(next(reversed(list(stack.values())), ("",))[0] if stack else ""), meta.get("stack_trace"))
    value = meta.get("val")
    if isinstance(value, torch.Tensor) and all(isinstance(size, int) for size in value.shape):
        kept["shape"], kept["dtype"] = tuple(value.shape), value.dtype
    return kept


def _place(root: nn.Module, name: str, tensor: torch.Tensor) -> None:
    *path, last = name.split(".")
    here = root
    for part in path:
        if part not in here._modules:
            here._modules[part] = nn.Module()
        here = here._modules[part]  # type: ignore[assignment]
    if isinstance(tensor, nn.Parameter):
        here._parameters[last] = tensor
    else:
        here._buffers[last] = tensor
