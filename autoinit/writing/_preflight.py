"""Everything that is checked before the first weight is written."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from autoinit.errors import LazyModuleError, PlanError
from autoinit.models import ModelView, WeightStorage
from autoinit.models.walking import modules_once
from autoinit.plans.distributions import RECIPE_DISTRIBUTIONS
from autoinit.plans.layers import LayerPlan, OutputRows, RestPlan
from autoinit.plans.plan import Plan
from autoinit.tensors import overlaps
from autoinit.writing import reparametrised
from autoinit.writing._filling import Job
from autoinit.writing.pieces import LocalPiece, Pieces, is_part
from autoinit.writing.resetting import Reset, resets
from autoinit.writing.sampling import Draw

WRITABLE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MOST_WHOLE = 1 << 26
"""Elements of a weight of which a process that holds a part draws all: one that is orthogonal or mirrored."""


@dataclass(frozen=True, eq=False)
class WeightWrite:
    """One weight of the plan in the model at hand.

    Attributes:
        piece: what is here of the parameter that takes the values.
        padding: its rows that stay as they are.
    """

    layer: LayerPlan
    stored: WeightStorage
    piece: LocalPiece
    padding: tuple[int, ...] = ()

    @property
    def tensor(self) -> torch.Tensor:
        """Where the values go."""
        return self.piece.tensor

    def draw(self, seed: int) -> Draw:
        """What its values are to be. The name that seeds them is the weight's, however it is held."""
        layer = self.layer
        name = self.stored.weight
        return Draw(
            layer.distribution, layer.std, seed, name, layer.shape, layer.axes, layer.slices, mirror=layer.mirror,
            box=self.piece.part,
        )  # fmt: skip

    def job(self, seed: int, measure: bool) -> Job:
        """Filling it, and measuring it on the way where nothing else changes it afterwards."""
        simple = self.stored.kind == "plain" and not self.padding and _by_element(self.layer)
        return Job(self.layer.name, self.tensor, self.draw(seed), inline=measure and simple)


@dataclass(frozen=True, eq=False)
class RestWrite:
    """One parameter that a recipe writes beside the weights, in the model at hand.

    Attributes:
        padding: its rows that stay as they are.
    """

    plan: RestPlan
    piece: LocalPiece
    padding: tuple[int, ...] = ()

    @property
    def tensor(self) -> torch.Tensor:
        """Where the values go."""
        return self.piece.tensor

    def job(self, seed: int) -> Job:
        """Filling it. Its own name seeds the values."""
        each = self.plan
        draw = Draw(
            each.distribution, each.std, seed, each.name, each.shape, slices=each.slices, mean=each.mean,
            box=self.piece.part,
        )  # fmt: skip
        return Job(each.name, self.tensor, draw)


@dataclass(frozen=True, eq=False)
class Targets:
    """The plan's weights in the model at hand.

    Attributes:
        all: every layer of the plan that the model has.
        writes: the planned ones.
        biases: what becomes zero.
        rest: what a recipe writes beside.
        touched: everything that is written, biases and what is reset included.
        resets: what takes the values that its module's own `reset_parameters` gives.
        left: what would have to be reset, and cannot.
        strange: parameters that the plan does not know, and that are reset.
        blank: whether rows for padding hold nothing worth keeping: they become zero, as an embedding makes them.
    """

    all: tuple[WeightWrite, ...]
    writes: tuple[WeightWrite, ...]
    biases: tuple[torch.Tensor, ...]
    rest: tuple[RestWrite, ...]
    touched: tuple[torch.Tensor, ...]
    resets: tuple[Reset, ...] = ()
    left: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()
    blank: bool = False


def preflight(
    plan: Plan,
    view: ModelView,
    pieces: Pieces | None = None,
    *,
    writing: bool = True,
    partial: bool = False,
    reset: bool = False,
    memory: bool = True,
) -> Targets:
    """Finds the plan's weights in the model and, for writing, checks that each can be written.

    Args:
        plan: the plan.
        view: of the model.
        pieces: what is here of its parameters.
        writing: whether they are to be written.
        partial: whether the model may lack layers, as a stage of a pipeline does.
        reset: whether what the plan does not write is to be reset.
        memory: whether each tensor that is written must have memory.

    Raises:
        LazyModuleError: a parameter has no shape yet.
        PlanError: anything else that does not fit; the message names the layer.
    """
    pieces = Pieces(view) if pieces is None else pieces
    padded = _padding(view)
    found = []
    for layer in plan.layers:
        if partial and layer.param not in view.first_names:
            continue
        stored = _stored(layer, view)
        tensor = view.held[stored.param]
        _check_shaped(layer.name, stored.param, tensor)
        found.append(WeightWrite(layer, stored, pieces.of(stored.param), padded.get(id(tensor), ())))
    if partial and plan.layers and not found:
        raise PlanError(f"the model has none of the {len(plan.layers)} layers planned. Plan the model that is written.")
    writes = tuple(each for each in found if each.layer.status == "planned") if writing else ()
    owners: dict[str, str] = {}
    biases: dict[str, torch.Tensor] = {}
    for each in writes:
        _check_write(each, view, pieces)
        for name in each.stored.written:
            if owners.setdefault(name, each.layer.name) != each.layer.name:
                raise PlanError(
                    f"{each.layer.name}: its parameter {name} is already written as {owners[name]}. Tied weights are "
                    f"planned once, under their first name."
                )
    for each in writes:
        for alias in each.layer.biases:
            name = view.first_names.get(alias, "")
            if not name or name in owners:
                why = "is not in the model" if not name else f"is the weight of {owners[name]} as well"
                raise PlanError(f"{each.layer.name}: its bias {alias} {why}. Plan the model that is written.")
            _check_tensor(each.layer.name, name, view.held[name], pieces.of(name))
            biases[name] = pieces.of(name).tensor
    here = [each for each in plan.rest if not partial or each.name in view.first_names]
    rest = tuple(_rest(each, view, pieces, padded, {*owners, *biases}) for each in here) if writing else ()
    written = {**{name: pieces.of(name).tensor for name in owners}, **biases}
    written |= {each.plan.name: each.tensor for each in rest}
    again, left = resets(view, pieces, {view.first_names.get(name, name) for name in written}) if reset else ((), ())
    for one in again:
        for name, piece in one.pieces.items():
            _check_tensor("rest='reset'", name, piece.tensor, piece, numbers=False)
            written[name] = piece.tensor
    if memory:
        _check_memory(written)
        _check_apart(written)
    strange = _strange(plan, view, again) if reset else ()
    touched = tuple(written.values())
    return Targets(tuple(found), writes, tuple(biases.values()), rest, touched, again, left, strange, reset)


def _strange(plan: Plan, view: ModelView, resets: Sequence[Reset]) -> tuple[str, ...]:
    """Parameters that are reset and stand nowhere in the plan, as where `to_empty` has made two of a tied one."""
    named = {name for layer in plan.layers for name in (layer.param, *layer.biases)}
    named |= {each.name for each in plan.rest} | {each.name for each in plan.others}
    return tuple(name for reset in resets for name in reset.pieces if name in view.held and name not in named)


def _by_element(layer: LayerPlan) -> bool:
    """Whether each value can be drawn alone."""
    return RECIPE_DISTRIBUTIONS[layer.distribution].by_element and layer.mirror is None


def _rest(
    plan: RestPlan,
    view: ModelView,
    pieces: Pieces,
    padded: Mapping[int, tuple[int, ...]],
    owned: Collection[str],
) -> RestWrite:
    name = view.first_names.get(plan.name, "")
    if not name or name in owned:
        why = "is not in the model" if not name else "is written with a layer as well"
        raise PlanError(f"{plan.name}: the parameter {why}. Plan the model that is written.")
    held, piece = view.held[name], pieces.of(name)
    _check_tensor(plan.kind, name, held, piece)
    if piece.shape != plan.shape:
        was = piece.shape
        raise PlanError(f"{name}: planned for shape {plan.shape}, but it has {was}. Plan the model that is written.")
    _check_rows(plan.name, name, plan.slices, plan.shape[0] if plan.shape else 1)
    for std in (plan.std, *(part.std for part in plan.slices)):
        _check_number(plan.name, name, held, std, constant=plan.distribution == "constant")
    return RestWrite(plan, piece, padded.get(id(held), ()))


def _stored(layer: LayerPlan, view: ModelView) -> WeightStorage:
    try:
        stored = view.storage(layer.param)
    except PlanError as error:
        raise PlanError(f"{layer.name}: {error}") from None
    missing = [name for name in stored.written if name not in view.held]
    if missing:
        raise PlanError(f"{layer.name}: the model has no parameter {missing[0]}. Plan the model that is written.")
    if stored.reparam != layer.reparam:
        was, now = layer.reparam or "plain", stored.kind
        raise PlanError(f"{layer.name}: planned as {was}, but {stored.weight} is now {now}. Plan the model again.")
    return stored


def _check_write(write: WeightWrite, view: ModelView, pieces: Pieces) -> None:
    layer, stored = write.layer, write.stored
    for name in stored.written:
        _check_tensor(layer.name, name, view.held[name], pieces.of(name))
    _check_part(write, view)
    if stored.kind == "parametrized":
        reparametrised.check_invertible(view, stored)
        shape = reparametrised.effective_shape(view, stored)
    else:
        shape = write.piece.shape
    if shape != layer.shape:
        raise PlanError(
            f"{layer.name}: planned for shape {layer.shape}, but {stored.param} has {shape}. Plan the model that is "
            f"written."
        )
    if len(layer.axes) != len(shape):
        raise PlanError(f"{layer.name}: axes {layer.axes!r} do not fit the {len(shape)} axes of {stored.param}.")
    _check_rows(layer.name, stored.param, layer.slices, layer.size("o"))
    constant = layer.distribution == "constant"
    _check_number(layer.name, stored.param, write.tensor, layer.std, constant=constant)
    for part in layer.slices:  # one that starts at zero may stand beside others
        _check_number(layer.name, stored.param, write.tensor, part.std, constant=constant or part.std == 0)


def _check_part(write: WeightWrite, view: ModelView) -> None:
    """Raises where a weight that is parted among processes cannot be written part by part."""
    layer, stored = write.layer, write.stored
    if not is_part(view.held[stored.param], write.piece):
        return
    if stored.kind != "plain":
        raise PlanError(
            f"{layer.name}: {stored.param} is sharded and parametrised ({stored.kind}), and what its parts must be "
            f"shows in the whole alone. Write it before it is sharded, or leave the layer out (skip=)."
        )
    if not _by_element(layer) and math.prod(layer.shape) > MOST_WHOLE:
        raise PlanError(
            f"{layer.name}: {stored.param} is sharded, and of {math.prod(layer.shape):,} elements that only the whole "
            f"matrix gives ({layer.distribution}); up to {MOST_WHOLE:,} are drawn by every process. Write it before "
            f"it is sharded, or plan it with distribution='normal'."
        )


def _check_rows(owner: str, param: str, slices: Sequence[OutputRows], rows: int) -> None:
    for start, stop in (run for part in slices for run in part.rows):
        if not 0 <= start < stop <= rows:
            raise PlanError(f"{owner}: a slice has rows {start}:{stop}, but {param} has {rows} outputs.")


def _check_number(owner: str, name: str, tensor: torch.Tensor, std: float, *, constant: bool) -> None:
    """Raises where a tensor cannot hold numbers of a std; that of one value throughout is 0."""
    limits = torch.finfo(tensor.dtype)
    holds = std == 0 if constant else math.isfinite(std) and limits.tiny <= std <= limits.max / 16
    if not holds:
        raise PlanError(
            f"{owner}: the planned std is {std}. Expected a positive number that {name}, which is {tensor.dtype}, can "
            f"hold ({limits.tiny:.3g} to {limits.max / 16:.3g})."
        )


def _check_tensor(layer: str, name: str, held: torch.Tensor, piece: LocalPiece, *, numbers: bool = True) -> None:
    """Raises where the model's tensor, or what is here of it, cannot be written.

    numbers: whether it is to hold random numbers.
    """
    _check_shaped(layer, name, held)
    tensor = piece.tensor
    problem = ""
    if _is_wrapper(tensor):
        problem = f"is a {type(tensor).__name__}, which cannot be written in place. Write before it is converted"
    elif tensor.numel() and not tensor.untyped_storage().nbytes():
        problem = "has an empty storage, as sharding leaves it between two forwards. Gather it first"
    elif numbers and tensor.dtype not in WRITABLE:
        problem = f"is {tensor.dtype}; expected float16, bfloat16, float32 or float64. Write before it is converted"
    elif tensor.is_inference():
        problem = "was made under torch.inference_mode() and cannot be written. Build the model outside of it"
    elif any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)):
        problem = "is expanded: several elements share one place in memory. Clone it first"
    elif overlaps.within(tensor):
        problem = f"overlaps itself (strides {tensor.stride()}): elements share one place in memory. Clone it first"
    if problem:
        raise PlanError(f"{layer}: {name} {problem}.")


def _check_memory(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raises where one of them only has a shape."""
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise PlanError(
                f"{name} is on the meta device and has no memory. Materialise it first: model.to_empty(device=...)."
            )


def _check_shaped(layer: str, name: str, tensor: torch.Tensor) -> None:
    if isinstance(tensor, UninitializedParameter):
        raise LazyModuleError(f"{layer}: {name} is lazy and has no shape yet. Run one forward pass first.")


def _is_wrapper(tensor: object) -> bool:
    """Whether a tensor only stands for others, as a DTensor or a quantised weight does."""
    return is_traceable_wrapper_subclass(tensor)


def _check_apart(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raises where two parameters that are written share a place in memory."""
    shared = overlaps.between(tensors)
    if shared is not None:
        name, other = shared
        raise PlanError(
            f"{other}: shares memory with {name}, and both are to be written. Tie them by one Parameter, or "
            f"leave one of them out (skip=)."
        )


def _padding(view: ModelView) -> dict[int, tuple[int, ...]]:
    """Rows that embeddings keep for padding, by the identity of their weight."""
    rows: dict[int, tuple[int, ...]] = {}
    for module in modules_once(view.module) if view.has_modules else ():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.padding_idx is not None:
            key = id(module.weight)
            rows[key] = tuple(sorted({*rows.get(key, ()), module.padding_idx}))
    return rows
