"""`plan(method="mirrored")`: a start at which deep networks without norms are orthogonal linear maps.

Each weight that feeds a nonlinearity gets its output units in pairs of opposite sign, and what reads them gets its
columns in pairs: the odd part of the nonlinearity is all that the next layer sees (`theory.mirrored`). The matrices are
orthogonal, so that no direction of the signal or of the gradient is lost over depth, and the start depends neither on
depth nor on width. What cannot be mirrored is planned by `signal`, and says why.

A weight is mirrored if it is linear or a convolution without groups, is used once, and feeds one nonlinearity with an
odd part whose output is read by weights that are mirrored too, with nothing on the way that mixes features or bends
them; or if it feeds no nonlinearity (the end of a residual branch, a head).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from autoinit.methods.signal import plan_by_signal
from autoinit.parameters import Model
from autoinit.planning import Settings
from autoinit.plans.mirror import Mirror, Run, Taps
from autoinit.plans.plan import LayerPlan, Plan
from autoinit.resolving import Ending, Reason, Resolution, resolve
from autoinit.resolving.features import Origins, Source, origins
from autoinit.resolving.residual import branch_counts
from autoinit.theory.mirrored import Tangent, tangent
from autoinit.tracing import Dataflow, Op

_LINEAR = (Reason.ADD, Reason.OUTPUT, Reason.WEIGHT, Reason.SOFTMAX)
_AXES = ("oi", "io", "oik", "oikk", "oikkk")
_SEEN = 0.5
"""A tap is drawn only if it reaches inside of the input at this share of an axis's positions."""


@dataclass(frozen=True)
class _Layer:
    """A weight that may be mirrored. op: its one use. ending: what it feeds."""

    plan: LayerPlan
    op: Op
    ending: Ending
    factor: float

    @property
    def bends(self) -> bool:
        """Whether it feeds a nonlinearity."""
        return self.ending.reason is Reason.ACTIVATION

    def size(self, letter: str) -> int:
        """The weight's output or input features."""
        return self.plan.shape[self.plan.axes.index(letter)]


def plan_by_mirroring(
    model: Model,
    dataflow: Dataflow,
    settings: Settings,
    example_inputs: Any = None,
    *,
    seed: int = 0,
    taps: Taps = "shift",
) -> Plan:
    """A plan in which every layer that can be is mirrored, and the others are as by `signal`.

    The last weight of each of the L branches of a residual stream is divided by sqrt(L).

    Args:
        model: the model.
        dataflow: traced from it, with shapes.
        settings: as for `plan`; `distribution` is that of the matrices that are mirrored: `orthogonal`, or another.
        example_inputs: as for `plan`; only shapes and integers matter.
        seed: of the surrogates that `signal` propagates.
        taps: where the matrix of a convolution stands in its kernel: see `Mirror`.
    """
    base = plan_by_signal(model, dataflow, replace(settings, residual="depth"), example_inputs, seed=seed)
    by_param = {each.param: each for each in resolve(dataflow)}
    reasons: dict[str, str] = {}
    layers: dict[Op, _Layer] = {}
    for each in base.layers:
        if each.status == "planned":
            found = _candidate(each, by_param.get(each.param), dataflow)
            if isinstance(found, str):
                reasons[each.name] = found
            else:
                layers[found.op] = found
    tangents, made = _settled(dataflow, layers, reasons)
    counts = branch_counts(dataflow)
    mirrors = {layer.plan.name: _mirror(layer, layers, tangents, made, counts, taps) for layer in layers.values()}
    planned = tuple(
        _replanned(each, mirrors.get(each.name), reasons.get(each.name, ""), settings) for each in base.layers
    )
    note = f"{len(mirrors)} of {sum(each.status == 'planned' for each in base.layers)} layers mirrored"
    return replace(base, layers=planned, method="mirrored", notes=(*base.notes, note))


def _candidate(plan: LayerPlan, resolution: Resolution | None, dataflow: Dataflow) -> _Layer | str:
    """A weight that may be mirrored, or why it cannot be."""
    assert resolution is not None
    op = dataflow.by_name.get(plan.uses[0]) if plan.uses else None
    problems = (
        (plan.groups > 1, "a convolution of several groups"),
        (plan.axes not in _AXES, f"{plan.op} has no single matrix"),
        (plan.op.startswith("conv_transpose"), "a transposed convolution"),
        (bool(plan.slices), "parts of its output feed different things"),
        (len(plan.uses) != 1, f"used {len(plan.uses)} times"),
        (bool(plan.reparam), f"its module computes it ({plan.reparam})"),
        (not resolution.factor, "its scale does not reach the operation"),
        (plan.normalised, "a norm follows: nothing to gain"),
        (op is None or op.shape is None or "input" not in op.operands, "its operation's shapes are not known"),
        (resolution.reason not in (Reason.ACTIVATION, *_LINEAR), f"it feeds {plan.reason}"),
    )
    why = next((text for problem, text in problems if problem), "")
    if why:
        return why
    assert op is not None
    return _Layer(plan, op, resolution.ending, resolution.factor or 1.0)


def _settled(
    dataflow: Dataflow, layers: dict[Op, _Layer], reasons: dict[str, str]
) -> tuple[dict[Op, Tangent], Origins]:
    """Leaves the layers that can be mirrored together, and finds how each uses its nonlinearity."""
    while True:
        sources = {op: _source(layer, dataflow) for op, layer in layers.items()}
        found = origins(dataflow, sources, {op: layer.plan.axes for op, layer in layers.items()})
        lost = {op: why for op, why in found.lost.items() if layers[op].bends}
        if not lost:
            depth = _most_in_a_row(dataflow, layers)
            tangents = {op: _tangent(layer.ending, depth) for op, layer in layers.items() if layer.bends}
            lost = {
                op: f"{layers[op].ending.nonlinearity} has no odd part that is nearly linear"
                for op, each in tangents.items()
                if each is None
            }
            if not lost:
                return {op: each for op, each in tangents.items() if each is not None}, found
        for op, why in lost.items():
            reasons[layers[op].plan.name] = why
            del layers[op]


def _source(layer: _Layer, dataflow: Dataflow) -> Source:
    end = dataflow.by_name[layer.ending.path[-1]] if layer.bends else None
    return Source(layer.op, layer.size("o"), -1 - layer.plan.axes.count("k"), end)


def _most_in_a_row(dataflow: Dataflow, layers: Mapping[Op, _Layer]) -> int:
    """The largest number of nonlinearities, each after a layer of `layers`, on one way through the graph."""
    depth: dict[Op, int] = {}
    for op in dataflow.graph.nodes:
        before = max((depth[each] for each in op.operands.values()), default=0)
        depth[op] = before + (op in layers and layers[op].bends)
    return max(depth.values(), default=1) or 1


def _tangent(ending: Ending, depth: int) -> Tangent | None:
    if ending.function is None:
        return None
    key = (ending.nonlinearity, tuple(sorted(ending.params.items())))
    if ending.nonlinearity == "custom":
        return tangent(ending.function, "custom", depth)
    return _known(_Keyed(key, ending.function), depth)


@dataclass(frozen=True)
class _Keyed:
    """A function that is told apart by its name and parameters."""

    key: tuple[str, tuple[tuple[str, float], ...]]
    function: Any

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and other.key == self.key


@cache
def _known(function: _Keyed, depth: int) -> Tangent | None:
    return tangent(function.function, function.key[0], depth)


def _mirror(
    layer: _Layer,
    layers: Mapping[Op, _Layer],
    tangents: Mapping[Op, Tangent],
    found: Origins,
    counts: Mapping[str, int],
    taps: Taps,
) -> Mirror:
    """How the layer's weight is made."""
    here = tangents.get(layer.op)
    branches = counts.get(f"{layer.op.name}/{layer.plan.param}", 1)
    a = here.a if here is not None else 1.0
    columns = found.columns.get(layer.op)
    factor = math.sqrt(branches) * layer.plan.std * math.sqrt(layer.plan.fan_in) * layer.factor
    inputs = (
        (Run(0, layer.size("i"), False, factor),)
        if columns is None
        else _inputs(columns.numpy(), layers, tangents, factor)
    )
    kernel = tuple(size for size, axis in zip(layer.plan.shape, layer.plan.axes, strict=True) if axis == "k")
    return Mirror(
        outputs=_outputs(layer.size("o"), here),
        inputs=inputs,
        scale=a / math.sqrt(branches) / layer.factor,
        taps=taps,
        seen=_seen(layer.op, kernel),
        a=a,
        c=here.c if here is not None else 1.0,
    )


def _outputs(features: int, here: Tangent | None) -> tuple[Run, ...]:
    """The output features in pairs; an odd one is left over."""
    if here is None or not here.paired:
        return (Run(0, features, paired=False),)
    pairs, left = divmod(features, 2)
    whole = (Run(0, 2 * pairs, paired=True),) if pairs else ()
    return (*whole, Run(2 * pairs, 1, paired=False)) if left else whole


def _inputs(
    columns: np.ndarray[Any, Any], layers: Mapping[Op, _Layer], tangents: Mapping[Op, Tangent], factor: float
) -> tuple[Run, ...]:
    """The input features by where they come from: runs of one source's, with what makes up for its nonlinearity.

    columns: 1 + the place of each column's feature among those of all sources. factor: for columns of no source.
    """
    ops = list(layers)
    starts = np.cumsum([0, *(layers[op].size("o") for op in ops)])
    source = np.where(columns > 0, np.searchsorted(starts, columns - 1, side="right") - 1, -1)
    breaks = [0, *(np.flatnonzero(np.diff(source)) + 1).tolist(), len(columns)]
    made: list[Run] = []
    for begin, stop in itertools.pairwise(breaks):
        if source[begin] < 0:
            made.append(Run(begin, stop - begin, paired=False, factor=factor))
            continue
        op = ops[int(source[begin])]
        here = tangents.get(op)
        local = columns[begin:stop] - 1 - starts[int(source[begin])]
        made += _runs_of(begin, local, layers[op].size("o"), here)
    return tuple(made)


def _runs_of(begin: int, local: np.ndarray[Any, Any], features: int, here: Tangent | None) -> Iterator[Run]:
    """Runs of one source's features: in pairs where its units are."""
    size = len(local)
    if here is None or not here.paired:
        yield Run(begin, size, paired=False, factor=here.c if here is not None else 1.0)
        return
    repeat = size // features
    left = repeat if features % 2 else 0
    yield Run(begin, size - left, paired=True, factor=here.c)
    if left:
        yield Run(begin + size - left, left, paired=False, factor=0.0)


def _seen(op: Op, kernel: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """For each axis of a kernel the taps that reach inside of the input at half of the output's positions or more."""
    if not kernel:
        return ()
    before, after = op.operands["input"].shape, op.shape
    assert before is not None
    assert after is not None
    axes = len(kernel)
    found = []
    for axis, size in enumerate(kernel):
        stride, padding, dilation = (
            _along(op.constants.get(name, default), axis)
            for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
        )
        there, here = before[axis - axes], after[axis - axes]
        if isinstance(padding, str):
            padding = dilation * (size - 1) // 2 if padding == "same" else 0
        at = np.arange(here)[:, None] * stride - padding + np.arange(size)[None] * dilation
        inside = ((at >= 0) & (at < there)).mean(0) >= _SEEN
        good = np.flatnonzero(inside) if inside.any() else np.array([size // 2])
        found.append((int(good[0]), int(good[-1]) + 1))
    return tuple(found)


def _along(value: Any, axis: int) -> Any:
    return value if isinstance(value, (int, str)) else value[axis] if len(value) > 1 else value[0]


def _replanned(layer: LayerPlan, mirror: Mirror | None, why: str, settings: Settings) -> LayerPlan:
    """The layer's plan, mirrored or with the reason why it is not."""
    if layer.status != "planned":
        return layer
    if mirror is None:
        note = f"not mirrored: {why}; by signal"
        return replace(layer, distribution="normal", note="; ".join(filter(None, (layer.note, note))))
    area = math.prod(size for size, axis in zip(layer.shape, layer.axes, strict=True) if axis == "k")
    std = mirror.std / math.sqrt(area)
    gain = std * math.sqrt(layer.fan_in)
    return replace(layer, std=std, mode="fan_in", gain=gain, distribution=settings.distribution, mirror=mirror, note="")
