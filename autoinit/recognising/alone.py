"""Weights without a model: what each tensor's name, shape and values tell, as an immutable value."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch

from autoinit import formats
from autoinit.models import ModelView
from autoinit.models.alone import NEEDS_CODE, WeightsAlone, other_than_zero
from autoinit.ops import recurrent_gates
from autoinit.plans.layers import LayerPlan
from autoinit.recognising.portrait import portray
from autoinit.recognising.recipes import written
from autoinit.recognising.recognition import recognise
from autoinit.resolving.resolver import layer_name
from autoinit.tensors.measuring import WeightStats, weight_stats
from autoinit.tensors.parallel import Task, in_parallel
from autoinit.theory.fans import fans
from autoinit.theory.layouts import Layout

_GATES = {1: "rnn", 3: "gru", 4: "lstm"}
"""torch's recurrent operations, by how many times its features a weight of them has rows."""
_ROUNDING = 1.005
"""By how much dtypes may round a bound up."""
_TABLES = ("emb", "wte", "wpe")
"""What names of embeddings hold."""
EMBEDDING = "an embedding"
"""The note of such a table."""


@dataclass(frozen=True)
class TensorRow:
    """What is known of one tensor of a state dict.

    Attributes:
        name, shape: its own.
        dtype: torch's name of it.
        stats: of its elements; None where they are no floating-point numbers, or are not there (meta device).
        recipes: names of what may have produced it, as far as its values tell, the most plausible first.
        family: the distribution that it may be drawn from (`unknown` for none); empty where it is no matrix.
        same_as: name of an earlier tensor that is the same memory (tied weights).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    stats: WeightStats | None
    recipes: tuple[str, ...] = ()
    family: str = ""
    same_as: str = ""


@dataclass(frozen=True)
class WeightsReport(formats.Printable):
    """What can be said of weights without the model that they belong to.

    Attributes:
        name: of the file.
        rows: one for each tensor, in order.
        notes: what a reader should know.
        seconds: measuring and recognising.
    """

    _kind = "report"

    name: str
    rows: tuple[TensorRow, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def parameters(self) -> int:
        """Numbers in all tensors, each memory once."""
        return sum(math.prod(row.shape) for row in self.rows if not row.same_as)

    def _as_kind(self) -> list[WeightsReport]:
        return [self]

    def to_markdown(self) -> str:
        """The whole report as a Markdown document, one table row for each tensor."""
        return self.to("markdown") + "\n"


def weights_report(weights: WeightsAlone, name: str = "state dict") -> WeightsReport:
    """Measures every tensor and names what produced it. Reads each once; changes nothing."""
    started = time.perf_counter()
    view = ModelView.of(weights)
    layers = {layer.param: layer for layer in guessed_layers(view)}
    owners = {bias: layer for layer in reversed(layers.values()) for bias in layer.biases}
    held = list(weights.state_dict.items())
    rows: dict[str, TensorRow] = {}

    def look(name: str, tensor: torch.Tensor) -> None:
        rows[name] = _row(view, layers.get(name), owners.get(name), name, tensor)

    in_parallel(Task(max(1, tensor.numel()), partial(look, each, tensor)) for each, tensor in held)
    return WeightsReport(name, tuple(_tied(rows, held)), (_needed(weights),), time.perf_counter() - started)


def guessed_layers(view: ModelView) -> tuple[LayerPlan, ...]:
    """Each tensor of two or more axes as a weight whose outputs come first, as most modules hold theirs.

    Nothing is known of what it feeds: it is `unresolved`, and its std is not a number.
    """
    return tuple(_layer(view, name) for name, each in view.parameters.items() if _is_matrix(each))


def layout_of(layer: LayerPlan) -> Layout:
    """The layout that a guessed layer has."""
    return Layout(layer.axes, layer.groups)


def _needed(weights: WeightsAlone) -> str:
    return f"weights without a model: {NEEDS_CODE}; {weights.hint}"


def _is_matrix(tensor: torch.Tensor) -> bool:
    """Whether more than one axis has a length: a gain of shape (64, 1, 1) is a vector."""
    return tensor.dim() > 1 and tensor.numel() > 0 and sum(size > 1 for size in tensor.shape) > 1


def _layer(view: ModelView, param: str) -> LayerPlan:
    shape = tuple(view.parameters[param].shape)
    axes = "oi" + "k" * (len(shape) - 2)
    groups = shape[0] if len(shape) > 2 and shape[1] == 1 else 1
    here = fans(Layout(axes, groups), shape)
    path, dot, leaf = param.rpartition(".")
    bias = f"{path}{dot}{leaf.replace('weight', 'bias')}"
    return LayerPlan(
        name=layer_name(param),
        param=param,
        shape=shape,
        axes=axes,
        op=_operation(view, param, shape),
        nonlinearity="linear",
        reason="unresolved",
        scheme="he",
        mode="fan_in",
        gain=1.0,
        fan_in=here.fan_in,
        fan_out=here.fan_out,
        std=math.nan,
        distribution="normal",
        status="unresolved",
        note=f"{EMBEDDING}, by its name" if any(each in param.lower() for each in _TABLES) else "",
        biases=(bias,) if bias != param and bias in view.parameters else (),
        groups=groups,
    )


def _operation(view: ModelView, param: str, shape: tuple[int, ...]) -> str:
    """The operation that uses a weight, by the names of torch's own modules."""
    path, leaf = param[: -len(param.rpartition(".")[2])], param.rpartition(".")[2]
    if leaf in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
        return "multi_head_attention"
    hidden = view.parameters.get(path + leaf.replace("weight_ih", "weight_hh"))
    if leaf.startswith(("weight_ih", "weight_hh")) and hidden is not None and hidden.dim() == 2:
        return _GATES.get(hidden.shape[0] // max(1, hidden.shape[1]), "linear")
    return "linear" if len(shape) == 2 else f"conv{len(shape) - 2}d"


def _row(
    view: ModelView, layer: LayerPlan | None, owner: LayerPlan | None, name: str, tensor: torch.Tensor
) -> TensorRow:
    """layer: the tensor as a matrix. owner: the layer whose bias it is."""
    dtype, shape = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
    if not (tensor.is_floating_point() and tensor.layout is torch.strided and tensor.numel()):
        return TensorRow(name, shape, dtype, None)
    portrait = portray(view.parameters[name], layer.axes) if layer is not None else None
    if layer is not None and portrait is not None:
        found = recognise(portrait, layer)
        return TensorRow(name, shape, dtype, portrait.stats, tuple(each.name for each in found.recipes), found.family)
    stats = weight_stats(tensor)
    if name not in view.parameters and tensor.dim() > 1 and _differ(stats):
        recipe = f"0 and {_other_than_zero(tensor):g}"
    else:
        recipe = _recipe_of_vector(owner, stats) if stats is not None else ""
    return TensorRow(name, shape, dtype, stats, (recipe,) if recipe else ())


def _differ(stats: WeightStats | None) -> bool:
    return stats is not None and (stats.nonfinite > 0 or stats.minimum != stats.maximum)


def _other_than_zero(mask: torch.Tensor) -> float:
    return float(other_than_zero(mask.flatten())[0])


def _recipe_of_vector(owner: LayerPlan | None, stats: WeightStats) -> str:
    """What gives a tensor that is no matrix its values: one number, or torch's default of biases."""
    if stats.nonfinite:
        return ""
    if stats.minimum == stats.maximum:
        return "zeros" if stats.maximum == 0 else "ones" if stats.maximum == 1 else f"constant({written(stats.mean)})"
    if owner is None:
        return ""
    gates = recurrent_gates(owner.op)
    bound = 1 / math.sqrt(owner.shape[0] / gates if gates else owner.fan_in)
    fits = 0.5 * bound < max(-stats.minimum, stats.maximum) <= bound * _ROUNDING
    return f"uniform(+-1/sqrt({'hidden' if gates else 'fan_in'})), torch's default" if fits else ""


def _tied(rows: dict[str, TensorRow], held: list[tuple[str, torch.Tensor]]) -> Iterator[TensorRow]:
    """The rows in order, those of the same memory as an earlier one marked."""
    first: dict[tuple[object, ...], str] = {}
    for name, tensor in held:
        if tensor.is_meta or not tensor.numel() or tensor.layout is not torch.strided:
            yield rows[name]
            continue
        place = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        same = first.setdefault(place, name)
        yield rows[name] if same == name else replace(rows[name], same_as=same)
