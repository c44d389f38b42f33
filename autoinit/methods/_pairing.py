"""Which weights can be mirrored, and how their features are paired: see `mirrored`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from autoinit.plans.layers import LayerPlan
from autoinit.plans.mirror import FeatureRun
from autoinit.resolving import Ending, Reason, Resolution
from autoinit.resolving.features import Origins
from autoinit.theory.mirrored import Tangent
from autoinit.theory.pointwise import evaluate
from autoinit.tracing import Dataflow, Op

Numbers = npt.NDArray[np.integer[Any]]

_LINEAR = (Reason.ADD, Reason.OUTPUT, Reason.WEIGHT, Reason.SOFTMAX)

_AXES = ("oi", "io", "oik", "oikk", "oikkk")

_SEEN = 0.5
"""A tap is drawn only if it reaches inside of the input at this share of an axis's positions."""


@dataclass(frozen=True)
class MirrorableLayer:
    """A weight that may be mirrored.

    op: its one use. ending: what it feeds; for a gate, the ending at the product. factor: by which the operation sees
    it. gate: the distance in features from what is gated to its gate; 0 where there is none.
    """

    plan: LayerPlan
    op: Op
    ending: Ending
    factor: float
    gate: int = 0

    @property
    def bends(self) -> bool:
        """Whether it feeds a nonlinearity."""
        return self.ending.reason is Reason.ACTIVATION or bool(self.gate)

    @property
    def features(self) -> int:
        """How many output features its readers see."""
        return self.size("o") // 2 if self.gate else self.size("o")

    def size(self, letter: str) -> int:
        """The weight's output or input features."""
        return self.plan.shape[self.plan.axes.index(letter)]


def mirrorable(plan: LayerPlan, resolution: Resolution | None, dataflow: Dataflow) -> MirrorableLayer | str:
    """A weight that may be mirrored, or why it cannot be."""
    assert resolution is not None
    op = dataflow.by_name.get(plan.uses[0]) if plan.uses else None
    gate = _gate(resolution)
    problems = (
        (plan.groups > 1, "a convolution of several groups"),
        (plan.axes not in _AXES, f"{plan.op} has no single matrix"),
        (plan.op.startswith("conv_transpose"), "a transposed convolution"),
        (bool(plan.slices) and gate is None, "parts of its output feed different things"),
        (len(plan.uses) != 1, f"used {len(plan.uses)} times"),
        (bool(plan.reparam), f"its module computes it ({plan.reparam})"),
        (not resolution.factor, "its scale does not reach the operation"),
        (plan.normalised, "a norm follows: nothing to gain"),
        (op is None or op.shape is None or "input" not in op.operands, "its operation's shapes are not known"),
        (gate is None and resolution.reason not in (Reason.ACTIVATION, *_LINEAR), f"it feeds {plan.reason}"),
    )
    why = next((text for problem, text in problems if problem), "")
    if why:
        return why
    assert op is not None
    ending, distance = gate if gate is not None else (resolution.ending, 0)
    return MirrorableLayer(plan, op, ending, resolution.factor or 1.0, distance)


def _gate(resolution: Resolution) -> tuple[Ending, int] | None:
    """The ending at the product, and the distance in features, where one half of the features gates the other.

    What passes is u (g(v) + g(-v)) for a pair: u, if g(v) + g(-v) = 1 as for a sigmoid.
    """
    gated = next((each for each in resolution.slices if each.ending.reason is Reason.GATE), None)
    gating = next((each for each in resolution.slices if each.ending.reason is Reason.ACTIVATION), None)
    if len(resolution.slices) != 2 or gated is None or gating is None or gating.ending.function is None:
        return None
    if len(gated.rows) != 1 or len(gating.rows) != 1 or gated.alternatives or gating.alternatives:
        return None
    points = np.linspace(-4.0, 4.0, 81)
    both = evaluate(gating.ending.function, points, "gate") + evaluate(gating.ending.function, -points, "gate")
    (start, stop), (other_start, other_stop) = gated.rows[0], gating.rows[0]
    if stop - start != other_stop - other_start or not np.allclose(both, 1.0, atol=1e-6):
        return None
    return gated.ending, other_start - start


def pads(op: Op) -> bool:
    """Whether a convolution reads zeros beyond its input."""
    padding = op.constants.get("padding", 0)
    return padding == "same" or (not isinstance(padding, str) and np.any(np.asarray(padding)).item())


def output_runs(layer: MirrorableLayer, here: Tangent | None) -> tuple[FeatureRun, ...]:
    """The output features in pairs, those of a gate apart; an odd one is left over."""
    if here is None or not here.paired:
        return (FeatureRun(0, layer.size("o"), paired=False),)
    pairs, left = divmod(layer.features, 2)
    made: list[FeatureRun] = []
    for start in (0, layer.features) if layer.gate else (0,):
        made += [FeatureRun(start, 2 * pairs, paired=True)] if pairs else []
        made += [FeatureRun(start + 2 * pairs, 1, paired=False)] if left else []
    return tuple(made)


def input_runs(
    reader: Op,
    found: Origins,
    layers: Mapping[Op, MirrorableLayer],
    tangents: Mapping[Op, Tangent],
    factor: float,
) -> tuple[FeatureRun, ...]:
    """The input features by where they come from: runs of one source's, with what makes up for its nonlinearity.

    factor: for columns of no source.
    """
    columns, starts, scales = found.columns[reader].numpy(), found.starts, found.scales[reader]
    ops = list(starts)
    source = np.where(columns > 0, np.searchsorted(list(starts.values()), columns - 1, side="right") - 1, -1)
    breaks = [0, *(np.flatnonzero(np.diff(source)) + 1).tolist(), len(columns)]
    made: list[FeatureRun] = []
    for begin, stop in itertools.pairwise(breaks):
        if source[begin] < 0:
            made.append(FeatureRun(begin, stop - begin, paired=False, factor=factor))
        else:
            op = ops[int(source[begin])]
            here = tangents.get(op)
            own = (here.c if here is not None else 1.0) / scales[op]
            if here is None or not here.paired:
                made.append(FeatureRun(begin, stop - begin, paired=False, factor=own))
            else:
                local = columns[begin:stop] - 1 - starts[op]
                made += (replace(run, factor=run.factor * own) for run in _pairs(begin, local, layers[op]) or ())
    return tuple(made)


def _pairs(begin: int, local: Numbers, layer: MirrorableLayer) -> list[FeatureRun] | None:
    """Runs of whole pairs, and of what is left over, among the columns that read one layer's features.

    local: the feature of each column. None where a pair is read in part, or its halves are not side by side: a pair
    must be read as one column and its negative.
    """
    made: list[FeatureRun] = []
    half = layer.features // 2
    local = local - local.min() if layer.gate else local
    breaks = [0, *(np.flatnonzero(np.diff(local) < 0) + 1).tolist(), len(local)]
    for start, stop in itertools.pairwise(breaks):
        whole = local[start:stop]
        left = int(np.count_nonzero(whole == 2 * half))
        first, second = np.split(whole[: len(whole) - left], [(len(whole) - left) // 2])
        if len(first) != len(second) or not np.array_equal(first + half, second):
            return None
        made += [FeatureRun(begin + start, 2 * len(first), paired=True)] if len(first) else []
        made += [FeatureRun(begin + stop - left, left, paired=False, factor=0.0)] if left else []
    return made


def torn(found: Origins, bending: Mapping[Op, MirrorableLayer]) -> Iterator[tuple[Op, str]]:
    """Layers of whose pairs something reads only a part, or in another order."""
    for reader, columns in found.columns.items():
        for op, layer in bending.items():
            start = found.starts[op]
            mine = columns[(columns > start) & (columns <= start + layer.size("o"))].numpy() - 1 - start
            if len(mine) and _pairs(0, mine, layer) is None:
                yield op, f"{reader.name} does not read its units in whole pairs"


def taps_seen(op: Op, kernel: Sequence[int]) -> tuple[tuple[int, int], ...]:
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
