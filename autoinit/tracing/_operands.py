"""The parameters behind a weight operand, and what their own axes mean.

A weight may be transposed, viewed, sliced, cast, masked or standardised between the parameter and the operation.
Index tensors are sent the same way: where the index along one of the parameter's axes turns up in the operand says
which of the operand's axes it became.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from autoinit.ops import Role, Trait
from autoinit.tensors.elements import stored
from autoinit.theory.layouts import Layout
from autoinit.tracing._scaling import Rescaling, scaling
from autoinit.tracing.dataflow import Left, Op, ParamUse, only_steers
from autoinit.tracing.mixtures import is_mixture, mixed
from autoinit.tracing.noise import SHAPED_ONLY, scales_of_noise
from autoinit.tracing.rerunning import NOT_RUN, execute


def operand_layout(
    op: Op, layout_of: Callable[[tuple[int, ...]], Layout], tag: str, known: dict[Any, Any], *, either: bool = False
) -> Iterator[ParamUse]:
    """For each parameter behind `op`: the operations on its way, its own layout (None: untraceable), and its shape.

    The shape is that of the part that reaches the operation, where only a part does (`F.linear(x, self.w[:, :5])`).
    `known` keeps what was found for equal operations on equal shapes; `tag` tells layouts apart.

    Where a signal changes the operand (StyleGAN2's modulated convolutions), only parameters with both output and summed
    axes are weights; what cannot be followed, for want of shapes, is taken to be laid out as the operand is. In a
    product in which `either` operand may be the weight (`bmm(W * style, x)`), a signal must be seen to scale W, the
    same along one of its axes, and nothing else to happen to it (but that its scale may be normalised away).
    """
    parameters = _parameters(op)
    chains = {parameter: _chain(parameter, op) for parameter in parameters}
    noises = scales_of_noise(chains) if len(chains) > 1 else set()
    for parameter, chain in chains.items():
        (use,) = parameter.params
        transform = tuple(each.op for each in chain if Trait.NEUTRAL not in each.traits)
        steps = tuple(_step(each) for each in chain)
        key = (tag, use.shape, steps)
        if key not in known:
            known[key] = _own_layout(parameter, op, use.shape, layout_of, chain)
        layout, shape = known[key]
        scale = scaling(parameter, op, chain, steps, known)
        if op.signal:
            if either and not _is_scaled_by_signal(chain, scale):
                continue
            mixes = any(map(is_mixture, chain))
            if layout is None and not mixes:
                layout = _as_operand(use.shape, layout_of)
            if layout is None or "o" not in layout.axes or not {"i", "k"} & set(layout.axes):
                if mixes and not either:
                    yield ParamUse("", use.name, shape, None, transform, None, "mixed", modulated=True)
                continue
        bends = scale.bends or (layout is None and _is_shifted({parameter, *chain}))
        left = "noise" if parameter in noises else _left(layout, bends=bends)
        yield ParamUse("", use.name, shape, None if left else layout, transform, scale.factor, left, op.signal)


def _as_operand(shape: tuple[int, ...], layout_of: Callable[[tuple[int, ...]], Layout]) -> Layout | None:
    """The layout of an operand whose last axes a parameter has, of one axis more at most, which is a sample's."""
    inner = shape[1:] if shape and shape[0] == 1 else shape
    try:
        layout = layout_of(inner)
    except (ValueError, IndexError):
        return None
    alone = Layout(layout.axes, 1, layout.stride_area, layout.transposed)
    return alone if inner == shape else Layout("b" + alone.axes, 1, alone.stride_area, alone.transposed)


def _is_scaled_by_signal(chain: list[Op], scale: Rescaling) -> bool:
    """Whether a parameter is only scaled, and the first signal that it meets mixes it, or is repeated on one axis."""
    if scale.factor != 0 and not all(map(_only_scales, chain)):
        return False
    signals = {op for op in chain if op.signal}
    first = next(op for op in chain if op in signals and signals.isdisjoint(op.operands.values()))
    if is_mixture(first):
        return True
    if Trait.SCALING not in first.traits or len(first.operands) != 2:
        return False
    weight, signal = sorted(first.operands.values(), key=lambda each: each.signal)
    if weight.shape is None or signal.shape is None:
        return False
    repeated = [size for size, other in zip(weight.shape[::-1], signal.shape[::-1], strict=False) if other == 1]
    repeated += weight.shape[: max(0, len(weight.shape) - len(signal.shape))]
    return any(size > 1 for size in repeated)


def _only_scales(op: Op) -> bool:
    return op.acts == "rearranging" or bool(op.traits & (Trait.SCALING | Trait.NEUTRAL)) or is_mixture(op)


def _is_shifted(way: set[Op]) -> bool:
    """Whether something else is added on a parameter's way (`L * mask + eye`, of an invertible map)."""
    return any(op.op in ("add", "sub") and not way.issuperset(op.operands.values()) for op in way)


def _left(layout: Layout | None, *, bends: bool) -> Left:
    """Why a parameter in a weight's place is none to be scaled; empty if it is a weight, or may be one."""
    if layout is not None and not {"i", "k"} & set(layout.axes):
        return "unsummed"
    return "bent" if bends else ""


def _step(op: Op) -> Any:
    """What an operation on a parameter computes, so far as layout and scale go."""
    operands = tuple((slot, each.op, each.shape, each.constants.get("rms")) for slot, each in op.operands.items())
    return op.op, repr(op.constants), operands


def _parameters(op: Op) -> list[Op]:
    """Parameter nodes that `op` is computed from, other than by weights of other layers, in order of appearance."""
    found: dict[Op, None] = {}
    seen: set[Op] = set()
    waiting = [op]
    while waiting:
        here = waiting.pop()
        if here in seen or _is_opaque(here) or (here.signal and not op.signal):
            continue
        seen.add(here)
        if here.op == "parameter":
            found[here] = None
        waiting.extend(reversed(_entering(here)))
    return list(found)


def _entering(op: Op) -> list[Op]:
    """The operands that become part of what an operation gives; the others only shape it."""
    if op.op in SHAPED_ONLY:
        return []
    return [each for slot, each in op.operands.items() if not only_steers(op, slot)]


def _is_opaque(op: Op) -> bool:
    """Whether weights of other layers make what it gives."""
    return op.role is Role.WEIGHT and not is_mixture(op)


def _chain(start: Op, end: Op) -> list[Op]:
    """Operations strictly after `start`, up to and with `end`, that depend on `start`; in order."""
    depends: dict[Op, bool] = {}

    def visit(op: Op) -> bool:
        if op not in depends:
            depends[op] = op is start
            operands = [] if _is_opaque(op) else _entering(op)
            depends[op] = op is start or any([visit(each) for each in operands])  # noqa: C419 - all are to be visited
        return depends[op]

    visit(end)
    return [op for op, does in depends.items() if does and op is not start][::-1]


def _own_layout(
    parameter: Op, op: Op, shape: tuple[int, ...], layout_of: Callable[[tuple[int, ...]], Layout], chain: list[Op]
) -> tuple[Layout | None, tuple[int, ...]]:
    if parameter is op:
        return layout_of(shape), shape
    parted = any(each.role is Role.SPLIT or each.op == "gather" for each in chain)
    letters: list[str] = []
    sizes: list[int] = []
    made: Layout | None = None
    for axis, size in enumerate(shape):
        index = torch.arange(size, dtype=torch.float32).reshape([-1 if at == axis else 1 for at in range(len(shape))])
        result = _sent(parameter, op, index.expand(shape), chain)
        if result is None:  # a view that an expanded tensor does not allow
            result = _sent(parameter, op, index.expand(shape).contiguous(), chain)
        if not isinstance(result, torch.Tensor):
            return None, shape
        made = layout_of(tuple(result.shape))
        if len(made.axes) != result.dim():  # axes that a signal brings, of a size that is not known
            return None, shape
        if len(shape) == 1 and sum(_along(result)) > 1:  # a diagonal, or a flat store of a matrix
            return None, shape
        letters.append(_letter(result, axis, shape, made))
        sizes.append(len(np.unique(stored(result).numpy())) if parted and letters[-1] != "b" else size)
    if made is None:
        return None, shape
    copies = result.numel() // math.prod(size for size, letter in zip(shape, letters, strict=True) if letter != "b")
    groups = made.groups // copies if copies and made.groups % copies == 0 else made.groups
    return Layout("".join(letters), groups, made.stride_area, made.transposed), tuple(sizes)


def _letter(result: torch.Tensor, axis: int, shape: tuple[int, ...], layout: Layout) -> str:
    """The letter of the operand's axis along which an axis' index varies; `b` if it does not vary (a slice).

    Where it varies along several, as one half of a symmetric matrix does, the axis stays where it was, if it can.
    """
    if shape[axis] == 1:
        if tuple(result.shape) == shape:  # one output of a weight that keeps its form
            return layout.axes[axis]
        return layout.axes[0] if layout.axes.startswith("b") else "k"
    varying = [letter for letter, along in zip(layout.axes, _along(result), strict=True) if along]
    return layout.axes[axis] if len(varying) > 1 and tuple(result.shape) == shape else next(iter(varying), "b")


def _along(result: torch.Tensor) -> Iterator[bool]:
    """For each axis, whether the index varies along it."""
    for axis in range(result.dim()):
        yield result.shape[axis] > 1 and result.stride(axis) != 0 and _varies(result, axis)


def _varies(result: torch.Tensor, axis: int) -> bool:
    """Whether the index varies along an axis; where axes were merged, it may stay the same for a while."""
    result = stored(result)
    if bool(result.isnan().any()):  # beside other tensors
        low, high = result.nan_to_num(torch.inf).amin(axis), result.nan_to_num(-torch.inf).amax(axis)
        return bool((low < high).any())
    start = result.select(axis, 0)
    return any(bool((start != result.select(axis, other)).any()) for other in (1, -1))


def _sent(parameter: Op, op: Op, value: torch.Tensor, chain: list[Op]) -> Any:
    """`value` sent the way of the parameter; operations that keep the shape pass it as it is."""
    values: dict[Op, Any] = {parameter: value}
    inside = set(chain)

    def visit(here: Op) -> Any:
        if here.signal and here not in inside:
            return None
        if here in values:
            return values[here]
        operands = {each: visit(each) for each in here.operands.values()}
        values[here] = _passed(here, operands)
        return values[here]

    return visit(op)


def _passed(op: Op, operands: dict[Op, Any]) -> Any:
    """What becomes of index tensors in one operation; None where elements are mixed."""
    held = {each: value for each, value in operands.items() if isinstance(value, torch.Tensor)}
    if is_mixture(op):
        return mixed(op, operands)
    if op.op == "getitem" or _takes_along_one(op):
        operands = {each: value if value is not None else _chosen(op, each) for each, value in operands.items()}
        if any(value is None for value in operands.values()):  # which would stand for a new axis
            return None
    elif Trait.JOINING in op.traits or (held and any(only_steers(op, slot) for slot in op.operands)):
        operands = {each: value if value is not None else _nowhere(each) for each, value in operands.items()}
    moves = op.acts == "rearranging" or op.op == "interpolate" or Trait.JOINING in op.traits
    if op.op == "size" or (moves and any(value is not None for value in operands.values())):
        try:
            return execute(op, operands)
        except NOT_RUN:
            return None  # an operand besides the parameter has no value here
    if op.op == "setitem":  # a part of it is written to
        return operands.get(op.operands["input"]) if "input" in op.operands else None
    main = op.operands.get("v" if op.op == "weight_norm" else "input")
    if op.role is Role.NORM or op.op == "weight_norm":
        return held.get(main) if main is not None else None
    if op.acts != "elementwise":
        return None
    shape = _broadcast(op, operands)
    whole = next((value for value in held.values() if tuple(value.shape) == shape), None)
    return whole if whole is not None or not op.signal else _for_each_sample(held.values(), shape)


def _for_each_sample(values: Iterable[torch.Tensor], shape: tuple[int, ...] | None) -> torch.Tensor | None:
    """A parameter's index where a signal changes it, which differs from sample to sample."""
    for value in values:
        try:
            return value.broadcast_to(shape or ()).contiguous()
        except RuntimeError:
            continue
    return None


def _nowhere(op: Op) -> torch.Tensor | None:
    """What stands for another tensor beside the index: no index at all."""
    return None if op.shape is None else torch.full((), torch.nan).expand(op.shape)


def _takes_along_one(op: Op) -> bool:
    """Whether it is `index_select`: an index of one axis, and the axis that it is along."""
    index = op.operands.get("index")
    return op.op == "gather" and index is not None and len(index.shape or ()) == 1 and "dim" in op.constants


def _chosen(op: Op, index: Op) -> torch.Tensor | None:
    """What stands for an index that has no value here: all that there is along its axis, one after the other."""
    whole = op.operands.get("input")
    if index is whole or whole is None or not whole.shape or index.shape is None:
        return None
    dim = op.constants.get("dim", 0)
    size = whole.shape[dim if isinstance(dim, int) else 0]
    if op.shape is not None and len(op.shape) != len(index.shape) + len(whole.shape) - 1:  # a mask, or one of several
        return None
    return (torch.arange(math.prod(index.shape)) % max(size, 1)).reshape(index.shape)


def _broadcast(op: Op, operands: dict[Op, Any]) -> tuple[int, ...] | None:
    """The shape of an elementwise operation's output."""
    if op.shape is not None:
        return op.shape
    shapes = [tuple(value.shape) if isinstance(value, torch.Tensor) else each.shape for each, value in operands.items()]
    try:
        return np.broadcast_shapes(*(shape for shape in shapes if shape is not None))
    except ValueError:
        return None
