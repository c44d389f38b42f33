"""Operations in place: which calls write to an operand, and what becomes of the tensors that it is a view of."""

from __future__ import annotations

import operator
from collections.abc import Mapping

import torch
import torch.fx
from torch import nn

from autoinit.ops import REGISTRY, Acts, NamedOperator, Role
from autoinit.tracing.dataflow import Call, Op

_INPLACE = frozenset(
    {operator.iadd, operator.imul, operator.isub, operator.itruediv, operator.ipow, operator.iand, operator.ior}
)


def writes(node: torch.fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether the call writes to its first operand. `modules` by path: those that are called."""
    if node.op == "call_module":
        return getattr(modules[str(node.target)], "inplace", False) is True
    if node.kwargs.get("inplace") is True or node.target in _INPLACE or node.target is operator.setitem:
        return True
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if isinstance(node.target, torch._ops.OpOverload):
        name = node.target.overloadpacket.__name__
    elif isinstance(node.target, NamedOperator):
        name = node.target.name
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


def viewed(op: Op) -> tuple[Op, tuple[Op, ...]]:
    """The tensor that `op` is a view of, and the operations that take the view; `op` and none if it is no view."""
    chain: tuple[Op, ...] = ()
    while (op.acts == Acts.REARRANGING.value and not _copies(op)) or _shares(op):
        before = op.call.args[0] if op.call and op.call.args else None
        if not isinstance(before, Op):
            break
        chain, op = (op, *chain), before
    return op, chain


def _copies(op: Op) -> bool:
    """Whether it takes elements at places that a tensor names, which makes a copy."""
    return op.role is Role.SPLIT and len(op.operands) > 1


_DATA = operator.attrgetter("data").__reduce__()


def _shares(op: Op) -> bool:
    """Whether it is a tensor's `data` or the tensor detached, which share its numbers."""
    target = op.call.target if op.call is not None else None
    return target == "detach" or (isinstance(target, operator.attrgetter) and target.__reduce__() == _DATA)


def overwritten(root: Op, chain: tuple[Op, ...], op: Op) -> Op:
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
        made=root.made or op.made,
        shape=root.shape,
        operands={"input": root, "value": op} if parted else {"input": op},
        call=Call(None, (root, chain, op), {}, REGISTRY.specs["setitem"]) if parted else None,
    )
