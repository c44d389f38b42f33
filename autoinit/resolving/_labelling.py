"""How operations move labels (`labels` says what these are).

Along an axis on which labels do not vary an operation may combine, choose or resize places as it likes: the labels stay
what they are, and only the size of the axis changes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F

from autoinit.ops import Role, Trait
from autoinit.resolving._labels import OTHER, each_once, filled, one_entry, thinned
from autoinit.resolving._regions import Region
from autoinit.resolving._starting import likely_outputs
from autoinit.resolving._walking import Step
from autoinit.tensors.elements import stored
from autoinit.tracing.dataflow import Op, only_steers
from autoinit.tracing.recording import Strided
from autoinit.tracing.rerunning import NOT_RUN, execute, substitute

_INDEXED = frozenset({"getitem", "gather", "take_along_dim"})


class LostError(Exception):
    """Labels could not be followed over an operation."""


NO_RESULT = (*NOT_RUN, LostError)
"""What calling a torch function on labels may raise."""


def moved(step: Step, op: Op, value: Any) -> Any:
    """The labels after a step; None if the features are mixed on it, so that what follows has all these rows.

    Raises:
        LostError: the step cannot be made on labels.
    """
    to = step.to
    assert to is not None
    try:
        if step.region is not None:
            return _moved_over(step.region, value)
        if to.op == "setitem":
            return _written_over(to, op, value)
        if to.acts == "rearranging" and not _ranks(to):
            return rearranged(to, {op: value})
        if not isinstance(value, torch.Tensor):
            return value
        return combined(to, op, value, known=step.normalised)
    except NO_RESULT:
        raise LostError from None


def combined(to: Op, op: Op, labels: torch.Tensor, known: bool) -> Any:
    """Labels after an operation that is more than a rearrangement. known: whether it keeps the shape in any case."""
    if _ranks(to):
        return _ranked(to, op, labels)
    if to.acts == "reducing":
        return _reduced(to, labels)
    if to.op == "pad":
        return _padded(to, labels)
    if one_entry(labels, _summed(to, op, labels)) is None:
        return None
    if to.shape is None:  # sizes of axes without features are not known in any case, and stay as they were taken
        return labels if known or to.acts == "elementwise" or Trait.WINDOWED in to.traits else None
    return _resized(labels, to.shape, spread=to.acts == "elementwise")


def _summed(to: Op, op: Op, labels: torch.Tensor) -> list[int]:
    """Axes of an operand that a product with a fixed matrix sums over."""
    spec = to.call.spec if to.call is not None else None
    if spec is None or spec.weights is None:
        return []
    known = spec.weights(to.constants)
    slots = (named for slot, each in to.operands.items() if each is op for way in known if (named := way.named(slot)))
    layouts = [slot.layout(to.constants, tuple(labels.shape)) for slot in slots]
    return [axis for layout in layouts for axis, letter in enumerate(layout.axes) if letter == "i"]


def _resized(labels: torch.Tensor, shape: tuple[int, ...], *, spread: bool = False) -> torch.Tensor | None:
    """Labels in a shape of the same rank (spread: or as broadcasting has it); None if the axes of features changed."""
    shape = filled(shape)
    if tuple(labels.shape) == shape:
        return labels
    if spread:
        return labels.broadcast_to(shape)
    if labels.dim() != len(shape):
        return None
    changed = [axis for axis, size in enumerate(shape) if labels.shape[axis] != size]
    single = one_entry(labels, changed)
    return None if single is None else single.expand(shape)


def _moved_over(region: Region, value: Any) -> Any:
    """The labels after several operations: each that moves them is made; others pass a tensor of the same shape."""
    values = {region.start: value}
    if all(op.acts == "rearranging" and not _ranks(op) for op in region.ops):
        for op in region.ops:
            values[op] = rearranged(op, values)
        return values[region.end]
    if not isinstance(value, torch.Tensor):
        return None
    return value if region.end.shape is None or filled(region.end.shape) == tuple(value.shape) else None


def _ranks(op: Op) -> bool:
    return op.call is not None and op.call.spec is not None and op.call.spec.ranks


# Along axes on which labels do not vary.


def _reduced(to: Op, labels: torch.Tensor) -> torch.Tensor | None:
    """Labels after a sum, a mean or a moment over axes that hold no features."""
    if "dim" not in to.constants:
        return None
    axes = _axes(to.constants["dim"], labels.dim())
    single = one_entry(labels, axes)
    if single is None:
        return None
    if _is_cumulative(to):
        return single.expand(labels.shape)
    keep = bool(to.constants.get("keepdim"))
    shape = [1 if axis in axes else size for axis, size in enumerate(labels.shape) if keep or axis not in axes]
    kept = single.expand([1 if axis in axes else size for axis, size in enumerate(labels.shape)]).reshape(shape)
    return kept if to.shape is None or tuple(kept.shape) == filled(to.shape) else None


def _axes(dim: Any, rank: int) -> tuple[int, ...]:
    """Axes from a `dim` argument; without one it means all of them."""
    if dim is None or dim in ([], ()):
        return tuple(range(rank))
    return tuple(each % rank for each in (dim if isinstance(dim, (list, tuple)) else (dim,)))


def _is_cumulative(op: Op) -> bool:
    return op.call is not None and "cum" in op.call.name


def _ranked(to: Op, op: Op, labels: torch.Tensor) -> Any:
    """Labels after a choice along an axis that holds no features (of the largest, the middle), and of the places."""
    dim = to.constants.get("dim")
    single = one_entry(labels, [dim]) if isinstance(dim, int) else None
    if single is None or not isinstance(dim, int):
        return None
    alike = single.expand([labels.shape[dim] if axis == dim % labels.dim() else -1 for axis in range(labels.dim())])
    chosen = execute(to, {op: alike})[0]
    shape: list[int] = list(labels.shape)
    if chosen.dim() < labels.dim():
        del shape[dim]
    else:
        shape[dim] = chosen.shape[dim]
    return chosen.expand(shape), torch.full((1,) * len(shape), float(OTHER), dtype=torch.float64).expand(shape)


def _padded(to: Op, labels: torch.Tensor) -> torch.Tensor | None:
    """Labels after padding: what is none of the features comes beside them; axes without any only become longer."""
    pads = to.constants.get("pad")
    if not isinstance(pads, (list, tuple)):
        return None if to.shape is None else _resized(labels, to.shape)
    thin, shape = stored(labels), list(labels.shape)
    added: list[int] = []
    for axis, (before, after) in enumerate(zip(pads[::2], pads[1::2], strict=True), 1):
        shape[-axis] += before + after
        added += (before, after) if thin.shape[-axis] > 1 else (0, 0)
    if any(added) and to.constants.get("mode") in ("reflect", "replicate", "circular"):
        return None
    return F.pad(thin, added).expand(filled(tuple(shape)))


# Rearrangements.


def rearranged(to: Op, known: Mapping[Op, Any]) -> Any:
    """The operation's result on labels. A concatenation is made on one entry of the axes along which nothing varies."""
    operands: dict[Op, Any] = {}
    for slot, each in to.operands.items():
        if each in known:
            operands[each] = known[each]
        elif only_steers(to, slot) and _is_constant(each):
            operands[each] = _value(each)
        elif slot != "input" and to.op in _INDEXED:
            return thinned(_chosen(to, known))
        else:
            operands[each] = _other(each, known)
    axes = _constant_axes(to, list(operands.values())) if to.op == "cat" else ()
    for axis in axes:
        operands = {each: labels.narrow(axis, 0, 1) for each, labels in operands.items()}
    result = execute(to, operands)
    if axes and to.shape is not None:
        return result.expand(filled(to.shape))
    return thinned(result)


def _constant_axes(to: Op, labels: list[Any]) -> tuple[int, ...]:
    """Axes, other than the concatenated one, along which no operand varies; none if the result's shape is unknown."""
    dim = to.constants.get("dim", 0)
    if to.shape is None or not isinstance(dim, int) or not all(isinstance(each, torch.Tensor) for each in labels):
        return ()
    rank = len(to.shape)
    others = (axis for axis in range(rank) if axis != dim % rank)
    return tuple(axis for axis in others if all(each.dim() == rank and each.stride(axis) == 0 for each in labels))


def _is_constant(op: Op) -> bool:
    """Whether an operand is computed from the arguments of calls alone (`torch.arange(4) + 2`)."""
    if op.signal or op.call is None or op.op in ("size", "random"):
        return False
    return all(map(_is_constant, op.operands.values()))


def _value(op: Op) -> Any:
    value = execute(op, {each: _value(each) for each in op.operands.values()})
    if isinstance(value, torch.Tensor) and value.is_meta:
        raise LostError
    return value


def _other(op: Op, known: Mapping[Op, Any]) -> Any:
    """Labels of a tensor that holds none of the features; in a likely shape, beside `known`, where none is known."""
    if op.shape is not None:
        return _none_of_them(op.shape)
    ranks = {each.dim() for each in known.values() if isinstance(each, torch.Tensor)}
    for made in _likely(op):
        if isinstance(made, torch.Tensor) and ({made.dim()} == ranks or not ranks):
            return made
    raise LostError


def _none_of_them(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.full((1,) * len(shape), float(OTHER), dtype=torch.float64).expand(filled(shape))


def _likely(op: Op) -> Iterator[Any]:
    """Labels that are none of the features, in each likely shape: moved to here from the weight operation before."""
    way = [op]
    while way[-1].role is not Role.WEIGHT:
        before = next((each for each in way[-1].operands.values() if each.signal), None)
        if before is None:
            return
        way.append(before)
    start = way.pop()
    for shape in likely_outputs(start):
        here, labels = start, _none_of_them(shape)
        for to in reversed(way):
            labels = moved(Step((to.name,), to=to, normalised=to.role is Role.NORM), here, labels)
            here = to
        yield labels


# Places chosen by data.


def _chosen(to: Op, known: Mapping[Op, Any]) -> torch.Tensor | None:
    """Labels of what an index or a mask chooses that is data: any place of axes that hold no features is as good."""
    labels = known[to.operands["input"]]
    if to.shape is None or to.call is None:
        raise LostError
    shape, dim, index = filled(to.shape), to.constants.get("dim"), to.call.args[1]
    if to.op == "gather" and isinstance(index, (list, tuple)):  # ATen has None where Python has a colon
        index = [slice(None) if each is None else each for each in index]
    elif to.op == "gather" and isinstance(dim, int) and len(to.operands["index"].shape or ()) == 1:
        index = [*(slice(None),) * (dim % labels.dim()), to.operands["index"]]  # index_select
    elif to.op != "getitem":
        return _gathered(labels, dim, shape)
    index = index if isinstance(index, (list, tuple)) else (index,)
    return next((made for masks in (False, True) if (made := _indexed(labels, index, shape, masks)) is not None), None)


def _gathered(labels: torch.Tensor, dim: Any, shape: tuple[int, ...]) -> torch.Tensor | None:
    """Labels of a choice along `dim` of as many as fit into the shape; without `dim`, of a choice from all together."""
    if not isinstance(dim, int) or labels.dim() != len(shape):
        single = one_entry(labels, range(labels.dim()))
        return None if single is None else single.reshape((1,) * len(shape)).expand(shape)
    changed = [axis for axis, size in enumerate(shape) if labels.shape[axis] != size]
    single = one_entry(labels, [dim, *changed])
    return None if single is None else single.expand(shape)


def _indexed(labels: torch.Tensor, index: Sequence[Any], shape: tuple[int, ...], masks: bool) -> torch.Tensor | None:
    """`labels[index]`, in which whatever is data is a mask, or else numbers places."""
    spans = [
        0 if item is None or item is Ellipsis else len(item.shape or ()) if masks and _is_data(item) else 1
        for item in index
    ]
    items: list[Any] = []
    axis = 0
    for item, span in zip(index, spans, strict=True):
        if _is_data(item):
            labels = labels.flatten(axis, axis + span - 1) if span else labels.unsqueeze(axis)
            size = shape[axis : axis + 1] if masks else filled(item.shape or ())
            distinct = each_once(labels, axis, prod(size))
            if distinct is None:
                return None
            labels, span = distinct, 1
            items.append((torch.arange(prod(size)) % labels.shape[axis]).reshape(size))
        else:
            items.append(substitute(item, {each: _value(each) for each in _ops(item)}))
        axis += span if item is not Ellipsis else labels.dim() - sum(spans)
    try:
        return labels[tuple(items)].expand(shape)
    except (RuntimeError, IndexError):
        return None


def _is_data(item: Any) -> bool:
    return isinstance(item, Op) and not _is_constant(item)


def _ops(value: Any) -> Iterator[Op]:
    """All operations inside an index."""
    if isinstance(value, Op):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _ops(each)
    elif isinstance(value, slice):
        yield from _ops((value.start, value.stop, value.step))


# Written places.


def _written_over(to: Op, op: Op, value: Any) -> Any:
    """Labels after `base[index] = values`: what is written over is gone, what is written comes in."""
    if to.call is None or not isinstance(value, torch.Tensor):
        return None
    base, index, written = to.call.args
    labels = (value if op is base else _other(base, {op: value})).clone(memory_format=torch.contiguous_format)
    incoming = value if op is written else float(OTHER)
    if isinstance(index, Strided):
        index.of(labels).copy_(torch.as_tensor(incoming, dtype=labels.dtype))
    elif _is_chain(index):
        _view(labels, base, index).copy_(torch.as_tensor(incoming, dtype=labels.dtype))
    elif not all(map(_is_constant, _ops(index))):
        return value if op is base else _resized(value, labels.shape)
    else:
        labels[substitute(index, {each: _value(each) for each in _ops(index)})] = incoming
    return labels


def _is_chain(index: Any) -> bool:
    return isinstance(index, tuple) and bool(index) and all(isinstance(each, Op) for each in index)


def _view(labels: torch.Tensor, base: Op, chain: tuple[Op, ...]) -> torch.Tensor:
    """The view of the labels that a chain of operations takes of `base`."""
    part: Any = labels
    for before, op in itertools.pairwise((base, *chain)):
        part = execute(op, {before: part})
    if not isinstance(part, torch.Tensor) or part.untyped_storage().data_ptr() != labels.untyped_storage().data_ptr():
        raise LostError
    return part
