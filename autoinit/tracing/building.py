"""fx graph -> Dataflow: canonical names, roles as they are here, parameters, and what carries the signal."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import networkx as nx
import torch
import torch.fx
from torch import nn

from autoinit.errors.calling import calling
from autoinit.models.walking import modules_by_path
from autoinit.ops import REGISTRY, OpSpec, Role, Trait
from autoinit.ops.registry import Acts
from autoinit.tracing._classifying import classified, operands_of, slots
from autoinit.tracing._demodulating import Demodulations, demodulations
from autoinit.tracing._hidden_calls import ScriptCall
from autoinit.tracing._leaves import leaf_params
from autoinit.tracing._overwriting import overwritten, viewed, writes
from autoinit.tracing.dataflow import TIERS, Call, Dataflow, Op, OpGraph, ParamUse, Tier, Unsupported

_INTEGER = frozenset(
    {
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.uint16,
        torch.uint32,
        torch.uint64,
    }
)


@dataclass
class _Build:
    """The state of one building: fx node -> Op, and the latest version of tensors written in place."""

    fx: torch.fx.Graph
    modules: Mapping[str, nn.Module]
    tier: Tier
    graph: OpGraph = field(default_factory=nx.DiGraph)
    ops: dict[torch.fx.Node, Op] = field(default_factory=dict)
    latest: dict[Op, Op] = field(default_factory=dict)
    unsupported: list[Unsupported] = field(default_factory=list)
    called: set[str] = field(default_factory=set)
    names: dict[int, str] = field(default_factory=dict)
    known: dict[Any, Any] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    demodulations: Demodulations = field(default_factory=lambda: Demodulations({}, {}))


def build(
    fx: torch.fx.Graph,
    module: nn.Module,
    tier: Tier,
    notes: tuple[str, ...] = (),
    values: Mapping[str, torch.Tensor] | None = None,
) -> Dataflow:
    """Read an fx graph of the module.

    Args:
        fx: as a tier wrote it; node.meta may hold `module`, `source`, `shape`, `dtype`.
        module: gives the leaves, and the shapes of parameters and buffers.
        tier: for the Dataflow.
        notes: for the Dataflow.
        values: the real values by name, for learned slopes; `module`'s own by default.
    """
    modules = modules_by_path(module)
    tensors = _named_tensors(modules)
    parameters = {
        name: held for name, (first, held) in tensors.items() if first == name and isinstance(held, nn.Parameter)
    }
    state = _Build(fx, modules, tier=tier, names={id(parameter): name for name, parameter in parameters.items()})
    slopes = values if values is not None else {name: tensor for name, (_, tensor) in tensors.items()}
    _read(state, tensors, slopes)
    found = demodulations(state.graph)
    if found.slots:
        state = _Build(fx, modules, tier=tier, names=state.names, known=state.known, demodulations=found)
        _read(state, tensors, slopes)
    uncalled = tuple(
        name for name, parameter in parameters.items() if parameter.dim() >= 2 and name not in state.called
    )
    return Dataflow(state.graph, tier, fx, tuple(state.unsupported), uncalled, notes)


def _read(state: _Build, tensors: Mapping[str, tuple[str, torch.Tensor]], slopes: Mapping[str, torch.Tensor]) -> None:
    """Every node, in order."""
    for node in state.fx.nodes:
        if node.op == "get_attr":
            op = _attribute(node, _name(state, node), tensors, slopes)
        elif node.op == "placeholder":
            op = Op(_name(state, node), "input", Role.SOURCE, signal=_is_data(node), **_where(node))
        else:
            op = _operation(state, node, slopes)
        _enter(state, node, op)


def _is_data(placeholder: torch.fx.Node) -> bool:
    """Whether an input carries the signal: whole numbers do not, nor sparse matrices, which say what is joined."""
    return placeholder.meta.get("dtype") not in _INTEGER and not placeholder.meta.get("sparse", False)


def _named_tensors(modules: Mapping[str, nn.Module]) -> dict[str, tuple[str, torch.Tensor]]:
    """Every name of every parameter and buffer -> its first name, and the tensor."""
    first: dict[int, str] = {}
    found: dict[str, tuple[str, torch.Tensor]] = {}
    for kind in ("_parameters", "_buffers"):
        for path, module in modules.items():
            for leaf, tensor in module.__dict__[kind].items():
                if tensor is not None:
                    name = f"{path}.{leaf}" if path else leaf
                    found[name] = (first.setdefault(id(tensor), name), tensor)
    return found


def _where(node: torch.fx.Node) -> dict[str, Any]:
    return {key: node.meta.get(key) for key in ("shape", "source")} | {"module": node.meta.get("module", "")}


def _attribute(
    node: torch.fx.Node,
    unique: str,
    tensors: Mapping[str, tuple[str, torch.Tensor]],
    slopes: Mapping[str, torch.Tensor],
) -> Op:
    """A parameter, buffer or constant: carries no signal. Small ones bring their mean and root mean square along."""
    name, tensor = tensors.get(str(node.target), (str(node.target), node.meta.get("constant")))
    where = _where(node)
    if tensor is not None:
        where["shape"] = tuple(tensor.shape)
    constants: dict[str, Any] = {"name": name} | _mean_value(slopes.get(name, tensor))
    if isinstance(tensor, nn.Parameter):
        use = ParamUse("", name, tuple(tensor.shape))
        return Op(unique, "parameter", Role.SOURCE, params=(use,), constants=constants, signal=False, **where)
    return Op(unique, "buffer", Role.SOURCE, constants=constants, signal=False, **where)


_SMALL = 4096
_MOST_MASKED = 1 << 22


def _mean_value(tensor: torch.Tensor | None) -> dict[str, float]:
    """Mean and root mean square of a small tensor; of a large one, if it is a mask of zeros and ones, the latter."""
    if tensor is None or tensor.is_meta or tensor.layout is not torch.strided or tensor.is_complex():
        return {}
    if not 0 < tensor.numel() <= _MOST_MASKED:
        return {}
    held = tensor.detach()
    if tensor.numel() <= _SMALL:
        values = held.double()
        return {"value": float(values.mean()), "rms": float(values.square().mean().sqrt())}
    if isinstance(tensor, nn.Parameter) or not bool(((held == 0) | (held == 1)).all()):
        return {}
    return {"rms": math.sqrt(int(torch.count_nonzero(held)) / held.numel())}


def _operation(state: _Build, node: torch.fx.Node, slopes: Mapping[str, torch.Tensor]) -> Op:
    """A call, or the output."""
    args, kwargs = (_resolved(state, value) for value in (node.args, node.kwargs))
    where = _where(node)
    if node.op == "output":
        return Op(_name(state, node), "output", Role.SINK, call=Call(None, args, kwargs), **where)
    leaf = state.modules[str(node.target)] if node.op == "call_module" else None
    spec, args = _spec(node, leaf, args)
    if spec is None:
        return _unknown(state, node, args, kwargs, leaf)
    bound = spec.bind(args, kwargs)
    if spec.variant is not None:
        with calling(f"variant= of operation {spec.name!r}"):
            name = spec.variant(bound)
            spec = spec if name is None else REGISTRY.specs[name]
        bound = spec.bind(args, kwargs)
    params: tuple[ParamUse, ...] = ()
    if leaf is not None:
        bound |= {
            name: getattr(leaf, spec.attributes.get(name, name))
            for name, _ in spec.arguments
            if name not in ("input", "weight", "bias") and hasattr(leaf, spec.attributes.get(name, name))
        }
        held = tuple(leaf_params(leaf, state.names))
        state.called.update(use.name for use in held)
        params = tuple(use for use in held if use.slot)
    target: Any = None if leaf is not None else node.target
    if target is getattr:
        target = operator.attrgetter(str(node.args[1]))
    name, changed = _name(state, node), state.demodulations
    op = classified(
        name,
        spec,
        bound,
        params,
        Call(target, args, kwargs, spec),
        where,
        slopes,
        state.known,
        may_weigh=spec.name not in ("sum", "mean") or not _meets_again(state, node),
        aside=changed.slots.get(name, ""),
    )
    return replace(op, params=changed.uses[name]) if name in changed.uses else op


def _meets_again(state: _Build, node: torch.fx.Node) -> bool:
    """Whether what a sum takes, back to a product, meets the sum itself: `x - x.mean(-1)`, as in norms."""
    results = [node]
    for each in results:
        results += (user for user in each.users if _moves(user))
    later = {user for each in results for user in each.users}
    here = next(iter(node.all_input_nodes), None)
    while here is not None:
        if not later.isdisjoint(here.users):
            return True
        op = state.ops[here]
        passes = Trait.NEUTRAL in op.traits or (Trait.SCALING in op.traits and len(op.operands) == 1)
        here = next(iter(here.all_input_nodes), None) if passes else None
    return False


def _moves(node: torch.fx.Node) -> bool:
    """Whether a call gives what it takes in another shape, or times a number."""
    spec = None if node.op in ("call_module", "output") else _spec(node, None, node.args)[0]
    if spec is None or len(node.all_input_nodes) != 1:
        return False
    return spec.acts is Acts.REARRANGING or bool((Trait.NEUTRAL | Trait.SCALING) & spec.traits)


def _name(state: _Build, node: torch.fx.Node) -> str:
    """The module's path for the call of a module, as the user knows it; else the node's name. Unique either way."""
    wanted = str(node.target) if node.op == "call_module" else node.name
    name, count = wanted, 1
    while name in state.taken:
        name, count = f"{wanted}_{count}", count + 1
    state.taken.add(name)
    return name


def _spec(node: torch.fx.Node, leaf: nn.Module | None, args: tuple[Any, ...]) -> tuple[OpSpec | None, tuple[Any, ...]]:
    """The entry of the table for a call; attribute reads are looked up as the attribute's name."""
    if leaf is not None:
        return REGISTRY.of_module(leaf), args
    if node.op == "call_method":
        return REGISTRY.of_name(str(node.target)), args
    if node.target is getattr:
        return REGISTRY.of_name(str(args[1])), args[:1]
    if isinstance(node.target, type):
        return REGISTRY.specs["group"], args
    return REGISTRY.of_function(node.target.script if isinstance(node.target, ScriptCall) else node.target), args


def _resolved(state: _Build, value: Any) -> Any:
    """Fx arguments with each node replaced by the latest version of its Op."""
    if isinstance(value, torch.fx.Node):
        op = state.ops[value]
        while op in state.latest:
            op = state.latest[op]
        return op
    if isinstance(value, slice):
        return slice(*(_resolved(state, part) for part in (value.start, value.stop, value.step)))
    if isinstance(value, dict):
        return {key: _resolved(state, item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_resolved(state, item) for item in value)
    if isinstance(value, list):
        return [_resolved(state, item) for item in value]
    return value


def _unknown(state: _Build, node: torch.fx.Node, args: Any, kwargs: Any, leaf: nn.Module | None) -> Op:
    name = type(leaf).__name__ if leaf is not None else _spelled(node.target)
    place = _name(state, node)
    where = _where(node)
    operands = list(operands_of((args, kwargs)))
    signal, made = any(op.signal for op in operands), any(op.made for op in operands)
    if signal or leaf is not None:
        state.unsupported.append(Unsupported(name, place, where["module"], where["source"]))
    return Op(place, name, Role.UNKNOWN, signal=signal, made=made, call=Call(node.target, args, kwargs), **where)


def _spelled(target: Any) -> str:
    if isinstance(target, str):
        return f"Tensor.{target}"
    if isinstance(target, ScriptCall):
        return str(target)
    module = getattr(target, "__module__", "") or ""
    name = getattr(target, "__name__", str(target))
    return f"{module}.{name}" if module and not module.startswith("_") else name


def _enter(state: _Build, node: torch.fx.Node, op: Op) -> None:
    """Put the operation into the graph, with an edge from each operand."""
    state.ops[node] = op
    call = (op.call.args, op.call.kwargs) if op.call else ()
    _connect(state, op, op.operands.items() if op.operands else slots({"input": call}))
    if node.op not in ("placeholder", "get_attr", "output") and writes(node, state.modules):
        _overwrite(state, op, op.call.args[0] if op.call and op.call.args else None)
    elif isinstance(node.kwargs.get("out"), torch.fx.Node) and op.call:
        _overwrite(state, op, op.call.kwargs["out"])


def _connect(state: _Build, op: Op, operands: Iterable[tuple[str, Op]]) -> None:
    state.graph.add_node(op)
    for name, operand in operands:
        if state.graph.has_edge(operand, op):
            state.graph.edges[operand, op]["slots"] += (name,)
        else:
            state.graph.add_edge(operand, op, slots=(name,))
        state.called.update(use.name for use in operand.params if operand.op == "parameter")


def _overwrite(state: _Build, op: Op, target: Any) -> None:
    """Later uses of the tensor that the call wrote to are uses of its result; of its base too, if it is a view."""
    if not isinstance(target, Op) or target is op:
        return
    state.latest[target] = op
    root, chain = viewed(target)
    if chain and not TIERS[state.tier].follows_views:
        written = overwritten(root, chain, op)
        _connect(state, written, written.operands.items())
        state.latest[root] = written
        for position, view in enumerate(chain[:-1], 1):
            changed = overwritten(view, chain[position:], op)
            _connect(state, changed, changed.operands.items())
            state.latest[view] = changed
