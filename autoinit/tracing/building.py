"""fx graph -> Dataflow: canonical names, roles as they are here, parameters, and what carries the signal."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.fx
from torch import nn

from autoinit.ops import REGISTRY, Acts, OpSpec, Role, WeightSlot
from autoinit.tracing.dataflow import Call, Dataflow, Op, ParamUse, Unsupported
from autoinit.tracing.operands import operand_layout

if TYPE_CHECKING:
    from autoinit.tracing.dataflow import OpGraph

_INTEGER = frozenset(
    {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64}
)


def _empty_graph() -> OpGraph:
    import networkx as nx  # a quarter of a second, paid by the first trace and not by `import autoinit`

    return nx.DiGraph()


@dataclass
class _Build:
    """The state of one building: fx node -> Op, and the latest version of tensors written in place."""

    fx: torch.fx.Graph
    module: nn.Module
    graph: OpGraph = field(default_factory=_empty_graph)
    ops: dict[torch.fx.Node, Op] = field(default_factory=dict)
    latest: dict[Op, Op] = field(default_factory=dict)
    unsupported: list[Unsupported] = field(default_factory=list)
    tier: str = ""
    called: set[str] = field(default_factory=set)
    names: dict[int, str] = field(default_factory=dict)


def build(
    fx: torch.fx.Graph, module: nn.Module, tier: str, notes: tuple[str, ...] = (),
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
    state = _Build(fx, module, tier=tier, names={id(parameter): name for name, parameter in module.named_parameters()})
    tensors = _named_tensors(module)
    slopes = values if values is not None else {name: tensor for name, (_, tensor) in tensors.items()}
    for node in fx.nodes:
        if node.op == "get_attr":
            op = _attribute(node, tensors, slopes)
        elif node.op == "placeholder":
            op = Op(node.name, "input", Role.SOURCE, signal=node.meta.get("dtype") not in _INTEGER, **_where(node))
        else:
            op = _operation(state, node, slopes)
        _enter(state, node, op)
    uncalled = tuple(
        name
        for name, parameter in module.named_parameters()
        if parameter.dim() >= 2 and name not in state.called
    )
    return Dataflow(state.graph, tier, fx, tuple(state.unsupported), uncalled, notes)


def _named_tensors(module: nn.Module) -> dict[str, tuple[str, torch.Tensor]]:
    """Every name of every parameter and buffer -> its first name, and the tensor."""
    first: dict[int, str] = {}
    found: dict[str, tuple[str, torch.Tensor]] = {}
    for named in (module.named_parameters, module.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            found[name] = (first.setdefault(id(tensor), name), tensor)
    return found


def _where(node: torch.fx.Node) -> dict[str, Any]:
    return {key: node.meta.get(key) for key in ("shape", "source")} | {"module": node.meta.get("module", "")}


def _attribute(
    node: torch.fx.Node,
    tensors: Mapping[str, tuple[str, torch.Tensor]],
    slopes: Mapping[str, torch.Tensor],
) -> Op:
    """A parameter, buffer or constant: carries no signal. Small ones bring their (mean) value along."""
    name, tensor = tensors.get(str(node.target), (str(node.target), node.meta.get("constant")))
    where = _where(node)
    if tensor is not None:
        where["shape"] = tuple(tensor.shape)
    constants: dict[str, Any] = {"name": name} | _mean_value(slopes.get(name, tensor))
    if isinstance(tensor, nn.Parameter):
        use = ParamUse("", name, tuple(tensor.shape))
        return Op(node.name, "parameter", Role.SOURCE, params=(use,), constants=constants, signal=False, **where)
    return Op(node.name, "buffer", Role.SOURCE, constants=constants, signal=False, **where)


def _mean_value(tensor: torch.Tensor | None) -> dict[str, float]:
    if tensor is None or tensor.is_meta or not 0 < tensor.numel() <= 4096 or tensor.is_complex():
        return {}
    return {"value": float(tensor.detach().double().mean())}


def _operation(state: _Build, node: torch.fx.Node, slopes: Mapping[str, torch.Tensor]) -> Op:
    """A call, or the output."""
    args, kwargs = (_resolved(state, value) for value in (node.args, node.kwargs))
    where = _where(node)
    if node.op == "output":
        return Op(node.name, "output", Role.SINK, call=Call(None, args, kwargs), **where)
    leaf = state.module.get_submodule(str(node.target)) if node.op == "call_module" else None
    spec, args = _spec(node, leaf, args)
    if spec is None:
        return _unknown(state, node, args, kwargs, leaf)
    bound = spec.bind(args, kwargs)
    if spec.variant is not None and (name := spec.variant(bound)) is not None:
        spec = REGISTRY.specs[name]
        bound = spec.bind(args, kwargs)
    params: tuple[ParamUse, ...] = ()
    if leaf is not None:
        bound |= {
            name: getattr(leaf, spec.attributes.get(name, name))
            for name, _ in spec.arguments
            if name not in ("input", "weight", "bias") and hasattr(leaf, spec.attributes.get(name, name))
        }
        params = tuple(_leaf_params(state, leaf))
    target: Any = None if leaf is not None else node.target
    if target is getattr:
        target = operator.attrgetter(str(node.args[1]))
    return _classified(state, node.name, spec, bound, params, Call(target, args, kwargs, spec), where, slopes)


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
    return REGISTRY.of_function(node.target), args


def _resolved(state: _Build, value: Any) -> Any:
    """fx arguments with each node replaced by the latest version of its Op."""
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
    where = _where(node)
    signal = any(op.signal for op in operands_of((args, kwargs)))
    if signal or leaf is not None:
        state.unsupported.append(Unsupported(name, node.name, where["module"], where["source"]))
    return Op(node.name, name, Role.UNKNOWN, signal=signal, call=Call(node.target, args, kwargs), **where)


def _spelled(target: Any) -> str:
    if isinstance(target, str):
        return f"Tensor.{target}"
    module = getattr(target, "__module__", "") or ""
    name = getattr(target, "__name__", str(target))
    return f"{module}.{name}" if module and not module.startswith("_") else name


def _leaf_params(state: _Build, leaf: nn.Module) -> Iterator[ParamUse]:
    """Parameters of a leaf module under their slots, reparametrised ones under the slot that they make."""
    local = leaf._parameters.items() if not leaf._modules else leaf.named_parameters()
    for slot_name, parameter in local:
        if parameter is None:
            continue
        name = state.names[id(parameter)]
        slot, transform = _slot_of(leaf, slot_name)
        if slot:
            yield ParamUse(slot, name, tuple(parameter.shape), transform=transform)
        state.called.add(name)


def _slot_of(leaf: nn.Module, local: str) -> tuple[str, tuple[str, ...]]:
    """Slot and transform of a leaf's parameter; an empty slot for what only scales another (weight norm's g)."""
    if local.startswith("parametrizations."):
        _, slot, original = local.split(".", 2)
        kinds = tuple(type(each).__name__.lstrip("_") for each in leaf.parametrizations[slot])  # type: ignore[index, union-attr]
        if kinds == ("WeightNorm",):
            return (slot, ("weight_norm",)) if original == "original1" else ("", ())
        return (slot, kinds) if original in ("original", "original0") else ("", ())
    if local.endswith("_v") and f"{local[:-2]}_g" in leaf._parameters:
        return local[:-2], ("weight_norm",)
    if local.endswith("_g") and f"{local[:-2]}_v" in leaf._parameters:
        return "", ()
    if local.endswith("_orig") and f"{local[:-5]}_u" in leaf._buffers:
        return local[:-5], ("spectral_norm",)
    return local.replace(".", "_"), ()


def operands_of(value: Any) -> Iterator[Op]:
    """All Ops inside nested arguments."""
    if isinstance(value, Op):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from operands_of(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from operands_of(item)
    elif isinstance(value, slice):
        yield from operands_of((value.start, value.stop, value.step))


def _slots(bound: Mapping[str, Any]) -> Iterator[tuple[str, Op]]:
    """Tensor operands by slot; those in lists are numbered (`tensors.0`)."""
    for name, value in bound.items():
        if isinstance(value, Op):
            yield name, value
        elif isinstance(value, (list, tuple)):
            for position, item in enumerate(value):
                for op in operands_of(item):
                    yield f"{name}.{position}", op
        else:
            for op in operands_of(value):
                yield name, op


def _classified(
    state: _Build,
    name: str,
    spec: OpSpec,
    bound: dict[str, Any],
    params: tuple[ParamUse, ...],
    call: Call,
    where: dict[str, Any],
    slopes: Mapping[str, torch.Tensor],
) -> Op:
    """Decide the role of the operation here, from which operands carry a signal and which are weights."""
    operands = dict(_slots(bound))
    constants = {key: value for key, value in bound.items() if not any(True for _ in operands_of(value))}
    carrying = [slot for slot, op in operands.items() if op.signal]
    role = spec.role
    weights: tuple[ParamUse, ...] = ()
    if spec.weights is not None:
        role, weights = _weight_role(spec, constants, operands, params, carrying)
    elif role in (Role.ADD, Role.PRODUCT) and len(carrying) < 2:
        role = Role.TRANSPARENT
        if spec.name == "div" and carrying and carrying[0] != "input":
            role = Role.NONLINEARITY  # constant / signal
    elif spec.name == "getitem" and isinstance(bound.get("input"), Op) and _gives_several(bound["input"]):
        role = Role.TRANSPARENT
    elif spec.name in ("setitem", "copy", "scatter") or spec.name == "where":
        role = Role.TRANSPARENT
    signal = spec.carries if spec.carries is not None else bool(carrying)
    if role is Role.WEIGHT:
        signal = True
    own = weights or tuple(use for use in params if role is not Role.WEIGHT)
    if spec.name in _SLOPED:
        constants |= _slope(spec.name, operands, params, slopes)
    return Op(
        name, spec.name, role, params=own, constants=constants, signal=signal, call=call,
        acts=spec.acts.value, operands=operands, **where,
    )  # fmt: skip


_SLOPED = frozenset({"prelu"})


def _slope(
    name: str, operands: Mapping[str, Op], params: tuple[ParamUse, ...], slopes: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    """A learned slope's present value: its root mean square over channels. 0.25, torch's default, on meta."""
    uses = [use for use in params if use.slot == "weight"]
    if not uses and "weight" in operands:
        uses = list(operands["weight"].params)
    if not uses or uses[0].name not in slopes:
        return {"weight": 0.25}
    value = slopes[uses[0].name]
    if value.is_meta:
        return {"weight": 0.25}
    return {"weight": float(value.detach().double().square().mean().sqrt())}


def _gives_several(op: Op) -> bool:
    return op.call is not None and op.call.spec is not None and op.call.spec.several


def _weight_role(
    spec: OpSpec,
    constants: Mapping[str, Any],
    operands: Mapping[str, Op],
    params: tuple[ParamUse, ...],
    carrying: list[str],
) -> tuple[Role, tuple[ParamUse, ...]]:
    """A weight operation, a product of signals, or a fixed linear map."""
    assert spec.weights is not None
    slots = spec.weights(constants)
    uses: list[ParamUse] = []
    for use in params:
        found = next((named for slot in slots if (named := slot.named(use.slot)) is not None), None)
        uses.append(_with_layout(use, found, constants) if found is not None and len(use.shape) >= 2 else use)
    for name, op in operands.items():
        if op.signal:
            continue
        found = next((named for slot in slots if (named := slot.named(name)) is not None), None)
        needed = spec.role is not Role.WEIGHT
        if found is not None and (carrying or not needed):
            uses += _operand_uses(op, found, constants)
        elif op.op == "parameter":
            uses += [ParamUse(name, use.name, use.shape) for use in op.params]
    if any(use.layout is not None for use in uses):
        return Role.WEIGHT, tuple(uses)
    return (Role.PRODUCT if len(carrying) > 1 else Role.TRANSPARENT), tuple(uses)


def _with_layout(use: ParamUse, slot: WeightSlot, constants: Mapping[str, Any]) -> ParamUse:
    return ParamUse(use.slot, use.name, use.shape, slot.layout(constants, use.shape), use.transform)


def _operand_uses(op: Op, slot: WeightSlot, constants: Mapping[str, Any]) -> Iterator[ParamUse]:
    """The parameters behind a weight operand, each with the layout of its own axes."""
    for use in operand_layout(op, lambda shape: slot.layout(constants, shape)):
        if len(use.shape) >= 2:
            yield replace(use, slot=slot.slot)


_INPLACE = frozenset({operator.iadd, operator.imul, operator.isub, operator.itruediv, operator.ipow, operator.iand, operator.ior})


def _writes(node: torch.fx.Node, module: nn.Module) -> bool:
    """Whether the call writes to its first operand."""
    if node.op == "call_module":
        return getattr(module.get_submodule(str(node.target)), "inplace", False) is True
    if node.kwargs.get("inplace") is True or node.target in _INPLACE or node.target is operator.setitem:
        return True
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if isinstance(node.target, torch._ops.OpOverload):
        name = node.target.overloadpacket.__name__
    if name == "__setitem__" or (name.startswith("__i") and name not in ("__invert__", "__int__", "__index__")):
        return True
    if name.endswith("_") and not name.endswith("__"):
        return True
    return _inplace_position(node)


def _inplace_position(node: torch.fx.Node) -> bool:
    """`F.relu(x, True)`: in place by position."""
    if node.op != "call_function":
        return False
    spec = REGISTRY.of_function(node.target)
    if spec is None:
        return False
    names = [name for name, _ in spec.arguments]
    return "inplace" in names and spec.bind(node.args, node.kwargs).get("inplace") is True


def _enter(state: _Build, node: torch.fx.Node, op: Op) -> None:
    """Put the operation into the graph, with an edge from each operand."""
    state.ops[node] = op
    state.graph.add_node(op)
    for name, operand in op.operands.items() if op.operands else _slots({"input": (op.call.args, op.call.kwargs)}) if op.call else ():
        if state.graph.has_edge(operand, op):
            state.graph.edges[operand, op]["slots"] += (name,)
        else:
            state.graph.add_edge(operand, op, slots=(name,))
        state.called.update(use.name for use in operand.params if operand.op == "parameter")
    if node.op not in ("placeholder", "get_attr", "output") and _writes(node, state.module):
        _overwrite(state, node, op)


def _overwrite(state: _Build, node: torch.fx.Node, op: Op) -> None:
    """Later uses of the tensor that the call wrote to are uses of its result; of its base, if it is a view."""
    target = op.call.args[0] if op.call and op.call.args else None
    if not isinstance(target, Op) or target is op:
        return
    state.latest[target] = op
    if state.tier == "recorded":
        return  # the recorder has followed views itself
    chain: list[Op] = []
    root = target
    while root.acts == Acts.REARRANGING.value and root.call and root.call.args and isinstance(root.call.args[0], Op):
        chain.insert(0, root)
        root = root.call.args[0]
    if chain:
        written = _written(root, tuple(chain), op)
        state.graph.add_node(written)
        for slot, operand in written.operands.items():
            state.graph.add_edge(operand, written, slots=(slot,))
        state.latest[root] = written


def _written(root: Op, chain: tuple[Op, ...], op: Op) -> Op:
    """`root` after `op` has written to the view that `chain` takes of it.

    These are the view's values, with the rest of the root's where the view is a part.
    """
    parted = any(each.role is Role.SPLIT for each in chain)
    return Op(
        name=f"{root.name}_written_by_{op.name}",
        op="setitem" if parted else "identity",
        role=Role.TRANSPARENT,
        module=op.module,
        source=op.source,
        signal=root.signal or op.signal,
        shape=root.shape,
        operands={"input": root, "value": op} if parted else {"input": op},
        call=Call(None, (root, chain, op), {}, REGISTRY.specs["setitem"]) if parted else None,
    )
