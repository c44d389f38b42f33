"""Which rows give queries, which keys, and which values; how wide one head is."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from autoinit.facts.parameter import Attention, Rows
from autoinit.ops import Role
from autoinit.resolving import Ending, Reason, Resolution
from autoinit.theory.activations import SOFTMAXES
from autoinit.theory.layouts import size
from autoinit.tracing.dataflow import Dataflow, Op

_OPERANDS: dict[str, Attention] = {"input": "query", "query": "query", "key": "key", "value": "value"}
_INSIDE: tuple[Attention, ...] = ("query", "key", "value")
_MATRICES = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
_FARTHEST = 24
"""Operations from logits to their softmax, at most."""


def attention_role(dataflow: Dataflow, resolution: Resolution, ending: Ending, rows: Rows) -> Attention:
    """What these rows give to attention; empty where they give nothing to it, or it cannot be told.

    Attention that is written as two products: the product that leads to a softmax has the queries on the side that the
    softmax does not sum over.
    """
    if ending.reason is not Reason.ATTENTION or not ending.path:
        return ""
    end = dataflow.by_name.get(ending.path[-1])
    if end is None:
        return ""
    if end.role is Role.WEIGHT:
        return _inside(resolution, rows)
    slots = operands_entered(end, ending.path, resolution.uses)
    if len(slots) != 1:
        return ""
    (slot,) = slots
    if end.op == "scaled_dot_product_attention":
        return _OPERANDS.get(slot, "")
    softmax = _softmax_behind(dataflow, end)
    if softmax is None:
        return "value"
    return "query" if (slot == _left(end)) == _sums_over_last(softmax) else "key"


def head_width(dataflow: Dataflow, resolution: Resolution, ending: Ending, features: int, role: Attention) -> int:
    """Features of one head of attention; 0 without shapes.

    Queries and keys: how many the product of both sums over. Values: how many their product leaves. Where it does not
    tell, what a view on the way leaves of the part's own.
    """
    ops = [dataflow.by_name[name] for name in (*resolution.uses, *ending.path) if name in dataflow.by_name]
    end = ops[-1]
    if end.role is Role.WEIGHT:
        heads = end.constants.get("num_heads")
        return features // heads if isinstance(heads, int) and heads > 0 else 0
    for slot in operands_entered(end, ending.path, resolution.uses):
        if width := _axis(end, slot, summed=role != "value"):
            return width
    widths = [op.shape[-1] for op in ops[:-1] if op.shape]
    return next((width for width in widths if width < features), features if widths else 0)


def _axis(product: Op, slot: str, *, summed: bool) -> int:
    """The size of the axis of an operand over which a product of signals sums, or of that which it alone leaves.

    0 where it is not known.
    """
    shape = product.operands[slot].shape
    if not shape or len(shape) < 2:
        return 0
    if product.op in ("matmul", "addmm"):
        return shape[-1 if (slot == _left(product)) is summed else -2]
    if product.op == "einsum":
        return _axis_by_letters(product, slot, shape, summed)
    return shape[-1] if product.op == "scaled_dot_product_attention" else 0


def _left(product: Op) -> str:
    """The operand on the left of a product of two; what is added to the product is none."""
    return next(name for name in product.operands if name != "bias")


def _axis_by_letters(product: Op, slot: str, shape: tuple[int, ...], summed: bool) -> int:
    equation = product.constants.get("equation")
    if not isinstance(equation, str) or "." in equation or "->" not in equation:
        return 0
    terms, _, kept = equation.replace(" ", "").partition("->")
    at = [*product.operands].index(slot)
    term, others = terms.split(",")[at], "".join(terms.split(",")[:at] + terms.split(",")[at + 1 :])
    sizes = [
        size
        for letter, size in zip(term, shape, strict=True)
        if (letter not in kept if summed else letter in kept and letter not in others)
    ]
    return sizes[0] if len(sizes) == 1 else 0


def _inside(resolution: Resolution, rows: Rows) -> Attention:
    """Of an operation that holds all three matrices: by the weight's own name, else by the thirds of its rows."""
    leaf = resolution.param.rpartition(".")[2]
    if leaf in _MATRICES:
        return _INSIDE[_MATRICES.index(leaf)]
    outputs = size(resolution.layout.axes, resolution.shape, "o")
    return _INSIDE[min(2, 3 * rows[0][0] // outputs)] if rows and outputs else ""


def operands_entered(end: Op, path: Sequence[str], uses: Sequence[str]) -> Collection[str]:
    """The operands as which a walk enters the operation where it ends."""
    before = {*path[:-1]} or {*uses}
    direct = {slot for slot, operand in end.operands.items() if operand.name in before}
    if direct:
        return direct
    return {slot for slot, operand in end.operands.items() if operand.name in uses}


def _softmax_behind(dataflow: Dataflow, product: Op) -> Op | None:
    """The softmax that a product's values go to, masks and bias tables added on the way."""
    waiting = [product]
    for op in waiting:
        if op.role is Role.NONLINEARITY and op.op in SOFTMAXES:
            return op
        if op is product or op.role in (Role.TRANSPARENT, Role.ADD):
            waiting += (each for each in dataflow.graph.successors(op) if each not in waiting)
        if len(waiting) > _FARTHEST:
            break
    return next((op for op in waiting if op.role is Role.NONLINEARITY and op.op in SOFTMAXES), None)


def _sums_over_last(softmax: Op) -> bool:
    """Whether a softmax's weights sum to 1 over the last axis, on which the right operand's places stand."""
    dim = softmax.constants.get("dim", -1)
    return dim in (-1, None) or (softmax.shape is not None and dim == len(softmax.shape) - 1) or dim == 3
