"""The exported tier: the graph of a `torch.export.ExportedProgram`. Needs neither the model's class nor an input."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch.fx
from torch import nn

from autoinit.tracing.dataflow import SourceLine

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_LINE = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_TORCH = re.compile(r"[\\/](site|dist)-packages[\\/]torch[\\/]")
"""Files of torch itself, on whatever machine the program was exported."""


def is_exported(model: object) -> bool:
    """Whether this is a `torch.export.ExportedProgram`."""
    loaded = sys.modules.get("torch.export.exported_program")  # importing it takes a second
    return loaded is not None and isinstance(model, loaded.ExportedProgram)


def read_exported(program: ExportedProgram) -> tuple[torch.fx.Graph, nn.Module]:
    """The program's graph with lifted parameters put back as attributes, and a meta module that holds them."""
    holder = _holder(program)
    signature = program.graph_signature
    lifted: dict[str, str] = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **dict(signature.inputs_to_lifted_tensor_constants),
    }
    graph = torch.fx.Graph()
    made: dict[torch.fx.Node, torch.fx.Node] = {}
    outputs = set(signature.user_outputs)
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in lifted:
            made[node] = graph.create_node("get_attr", lifted[node.name], name=node.name)
        elif node.op == "output":
            kept = [made[each] for each in node.all_input_nodes if each.name in outputs]
            graph.output(kept)
            continue
        else:
            made[node] = graph.node_copy(node, lambda old: made[old])
        made[node].meta = _meta(node.meta)
        if node.name in lifted:
            made[node].meta["constant"] = program.constants.get(lifted[node.name])
    return graph, holder


def _meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    stack = meta.get("nn_module_stack") or {}
    path = next(reversed(list(stack.values())), ("",))[0] if stack else ""
    lines = [each for each in _LINE.findall(meta.get("stack_trace") or "") if not _TORCH.search(each[0])]
    kept: dict[str, Any] = {"module": re.sub(r"^L\['self'\]\.?", "", str(path))}
    if lines:
        file, line, function = lines[-1]
        kept["source"] = SourceLine(file, int(line), function)
    value = meta.get("val")
    if isinstance(value, torch.Tensor) and all(isinstance(size, int) for size in value.shape):
        kept["shape"], kept["dtype"] = tuple(value.shape), value.dtype
    return kept


def _holder(program: ExportedProgram) -> nn.Module:
    """A module tree on the meta device with the program's parameters and buffers under their names."""
    root = nn.Module()
    tensors: dict[int, Any] = {}
    for name, value in program.state_dict.items():
        if id(value) not in tensors:
            made = value.detach().to("meta")
            is_parameter = isinstance(value, nn.Parameter)
            tensors[id(value)] = nn.Parameter(made, requires_grad=value.requires_grad) if is_parameter else made
        _place(root, name, tensors[id(value)])
    return root


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
