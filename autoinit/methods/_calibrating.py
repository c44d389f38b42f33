"""Correcting the scale of weights while a forward passes through them. See `data`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from autoinit.errors import PlanError
from autoinit.models import ModelView
from autoinit.ops import Role
from autoinit.plans.how import How
from autoinit.plans.layers import LayerPlan
from autoinit.plans.plan import Plan
from autoinit.signal.batches import Batch, stream
from autoinit.signal.measuring.matched_forward import Follower, Projection
from autoinit.signal.predicting.fields import second_moment
from autoinit.tracing.attempts import FailedError, notes_on, record
from autoinit.tracing.building import build
from autoinit.tracing.dataflow import Dataflow, Op, ParamUse
from autoinit.tracing.expanding import expand
from autoinit.tracing.inputs import Inputs
from autoinit.tracing.shadow import Shadow, make_shadow
from autoinit.writing import reparametrised
from autoinit.writing.applying import write

TOLERANCE = 0.1
"""How far a level may be from its target, relatively, as in LSUV."""
MOST_PASSES = 4
"""Forwards in all; the last one only verifies."""

Rows = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class MeasuredUse:
    """A use of a weight in the last pass: the level and the std of what it made, after any correction."""

    level: float
    std: float


@dataclass
class Found:
    """What the passes find out.

    Attributes:
        factors: by parameter, what its rows are multiplied by, all passes together; `()` stands for all rows.
        uses: by parameter and rows, each use in the last pass.
        apart: parameters that are left alone, and why.
    """

    factors: dict[str, dict[Rows, float]] = field(default_factory=dict)
    uses: dict[tuple[str, Rows], list[MeasuredUse]] = field(default_factory=dict)
    apart: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Calibration:
    """What is calibrated.

    Attributes:
        view: of the model.
        dataflow: traced on the inputs, where known.
        example: the caller's inputs.
        plan: gives the weights their first values, with `seed`.
        replanned: the plan that follows from what has been found, which gives them those of the next pass.
        targets: levels by parameter, where not 1.
        heads: by what the rows of heads will be multiplied in the end: what reads a draw is to see them so.
        seed: of the values, of made-up inputs and of dropout.
    """

    view: ModelView
    dataflow: Dataflow | None
    example: Any
    plan: Plan
    replanned: Callable[[Found], Plan]
    targets: Mapping[str, float]
    heads: Mapping[str, Mapping[Rows, float]]
    seed: int

    def __call__(self, inputs: Inputs, training: bool, traced: bool) -> Found:
        """Run passes until one corrects nothing.

        Raises:
            FailedError: the model does not run on the inputs.
            PlanError: an output is not finite.
        """
        dataflow = self.dataflow
        if dataflow is None and traced:
            dataflow = record(self.view, training, inputs)
        batch = Batch.of(inputs, self.example, dataflow)
        try:
            return self._calibrated(batch, dataflow, training)
        except FailedError:
            if not batch.tables:
                raise
        return self._calibrated(batch.plain(), dataflow, training)

    def _calibrated(self, batch: Batch, dataflow: Dataflow | None, training: bool) -> Found:
        found, last = self._passes(batch, dataflow, training, retrace=True)
        if last.left:  # what really runs is not what was traced
            graph = expand(last.graph, last.module)
            dataflow = build(graph, last.module, "recorded", values=self.view.tensors)
            found, last = self._passes(batch, dataflow, training)
        origin = () if batch.inputs.origin == "given" else (f"calibrated on an input {batch.inputs.origin}",)
        left = (f"not calibrated from {last.left} on: no two forwards go the same way",) if last.left else ()
        found.notes = (*notes_on((*origin, *batch.notes), training), *left, *found.notes)
        return found

    def _passes(
        self, batch: Batch, dataflow: Dataflow | None, training: bool, *, retrace: bool = False
    ) -> tuple[Found, Corrector]:
        """Passes with fresh copies of the model, until one finds nothing to correct.

        retrace: whether to stop where the forward leaves the dataflow.
        """
        found = Found(apart=_several(dataflow))
        layers = {layer.param: layer for layer in self.plan.layers if layer.status == "planned"}
        off_when_verified: dict[str, float] = {}
        for number in range(MOST_PASSES):
            shadow = make_shadow(self.view.module, "cpu")
            for module in shadow.module.modules():
                module.training = training
            copy = ModelView.of(shadow.module)
            write(self.replanned(found) if number else self.plan, copy, self.seed, How(measure=False, force=True))
            before, found.uses = found.uses, {}
            tolerance = 0.0 if number == 0 else TOLERANCE if number < MOST_PASSES - 1 else math.inf
            corrector = Corrector(
                shadow, self.view.tensors, dataflow, layers, self.targets, self.heads, found, before, tolerance
            )
            corrector.forward(batch.drawn(stream(self.seed)), self.seed, batch.inputs.origin)
            if number == 1 and not _used_again(dataflow):
                off_when_verified = corrector.off
            if not corrector.corrected or (corrector.left and retrace):
                break
        if off_when_verified:
            found.notes = (_magnified(*next(iter(off_when_verified.items())), len(corrector.off)),)
        return found, corrector


def _magnified(name: str, std: float, off: int) -> str:
    return (
        f"the model magnifies rounding: the output of {name} had std {std:.3g} in the pass that verified the first "
        f"one, though its weights differed by rounding alone; in the last pass {off} layers are off by more than "
        f"{TOLERANCE:.0%}. Expect other stds on other hardware or with another number of threads"
    )


def _used_again(dataflow: Dataflow | None) -> bool:
    """Whether a parameter has several uses, so that correcting it at one changes what others make."""
    uses = [use.name for op in dataflow.graph.nodes for use in op.params] if dataflow is not None else []
    return len(set(uses)) < len(uses)


def _several(dataflow: Dataflow | None) -> dict[str, str]:
    """Weights that share one operation, whose outputs are therefore not seen one by one."""
    ops = dataflow.graph.nodes if dataflow is not None else ()
    return {
        use.name: f"its output is not seen inside {op.op}"
        for op in ops
        for use in op.params
        if op.role is Role.WEIGHT and use.layout is not None and _weights(op) > 1 and not _is_leaf_attention(op)
    }


def _weights(op: Op) -> int:
    return sum(use.layout is not None for use in op.params)


def _is_leaf_attention(op: Op) -> bool:
    return op.op == "multi_head_attention" and op.call is not None and op.call.target is None


class Corrector(Follower):
    """Divides the output of each weight by its level, and the weight with it, at the weight's first use.

    Attributes:
        before: the uses in the pass before.
        tolerance: what is nearer to its target is left.
        corrected: whether anything was.
        off: by layer, the std of the first output of each that was off by more than `TOLERANCE` before any correction.
    """

    def __init__(
        self,
        shadow: Shadow,
        values: Mapping[str, torch.Tensor],
        dataflow: Dataflow | None,
        layers: Mapping[str, LayerPlan],
        targets: Mapping[str, float],
        heads: Mapping[str, Mapping[Rows, float]],
        found: Found,
        before: Mapping[tuple[str, Rows], list[MeasuredUse]],
        tolerance: float,
    ) -> None:
        super().__init__(shadow, values, dataflow)
        self.layers, self.targets, self.heads, self.found, self.before = layers, targets, heads, found, before
        self.tolerance, self.corrected = tolerance, False
        self.off: dict[str, float] = {}
        self.view = ModelView.of(shadow.module)

    def met(self, op: Op, result: torch.Tensor) -> None:
        """Correct the output of a weight operation in place."""
        if op.role is not Role.WEIGHT or _weights(op) != 1 or not result.numel() or not result.is_floating_point():
            return
        use = _weight(op)
        layer = self._layer(use)
        if layer is None:
            return
        axes = _features(op, use)
        if axes and -min(axes) > result.dim():
            self.found.apart[layer.param] = f"its output is not seen inside {op.op}"
            return
        pieces = [part.rows for part in layer.slices]
        rows = math.prod(result.shape[axis] for axis in axes)
        if not pieces or rows != layer.size("o"):
            pieces, axes = [()], ()
        addend = self._addend(op)
        if addend is not None:
            result.sub_(addend)
        for piece in pieces:
            self._correct(layer, piece, result, axes, 0)
        if addend is not None:
            result.add_(addend)

    def projected(self, projection: Projection) -> torch.Tensor:
        """Correct one linear map inside an attention module; each of query, key and value on its own."""
        layer = self._layer(projection.use)
        if layer is None or not self._open:
            return projection()
        made = projection.linear(projection.x, projection.weight)
        start, stop = projection.row, projection.row + made.shape[-1]
        if layer.slices:
            runs = [run for part in layer.slices for run in part.rows]
            for run in _cut(runs, start, stop, layer.shape[1]):
                self._correct(layer, (run,), made, (-1,), start)
        else:
            self._correct(layer, (), made, (), 0)
        bias = projection.bias
        return made.add_(bias) if bias is not None and bool(bias.any()) else made

    def _layer(self, use: ParamUse) -> LayerPlan | None:
        """The plan of a weight that can be corrected here."""
        layer = self.layers.get(use.name)
        if layer is None:
            return None
        if use.factor == 0 or layer.reparam == "spectral_norm":
            self.found.apart[layer.param] = "its scale is normalised away"
        elif use.factor is None or layer.reparam == "parametrized":
            self.found.apart[layer.param] = "its parametrization decides its scale"
        else:
            return layer
        return None

    def _correct(self, layer: LayerPlan, rows: Rows, result: torch.Tensor, axes: tuple[int, ...], start: int) -> None:
        """Scale some rows of the weight, and their outputs, which begin with row `start`."""
        place = tuple((a - start, b - start) for a, b in rows)
        level, std = _level(_selected(result, place, axes))
        known = rows in self.found.factors.get(layer.param, {})
        if not known:
            self._require_finite(layer, level)
            if level <= 0:
                self.found.apart.setdefault(layer.param, "its output is zero on the batch")
                return
        if not abs(level / self.targets.get(layer.param, 1.0) - 1) <= TOLERANCE:
            self.off.setdefault(layer.name, std)
        uses = self.found.uses.setdefault((layer.param, rows), [])
        first = not any(_is_scale(use.level) for use in uses)
        factor = self._factor(layer.param, rows, level) if first and _is_scale(level) else 1.0
        if factor != 1.0:
            self.corrected = True
            self._scale(layer, rows, factor)
            result.mul_(_spread(factor, place, result, axes))
        factors = self.found.factors.setdefault(layer.param, {})
        factors[rows] = factors.get(rows, 1.0) * factor
        uses.append(MeasuredUse(level * factor, std * factor))
        head = self.heads.get(layer.param, {}).get(rows, 1.0)
        if head != 1.0:
            result.mul_(_spread(head, place, result, axes))

    def _require_finite(self, layer: LayerPlan, level: float) -> None:
        if not math.isfinite(level):
            raise PlanError(
                f"{layer.name}: its output is not finite on the batch. Check that the batch is, and that "
                f"parameters which are not planned are."
            )

    def _factor(self, param: str, rows: Rows, level: float) -> float:
        """What the first use of a weight is to be multiplied by.

        With several uses it is the geometric mean of their levels that is to be right, as far as the pass before tells.
        """
        before = self.before.get((param, rows), [])
        logs = [math.log(use.level) for use in before if _is_scale(use.level)]
        typical = level * math.exp(sum(logs) / len(logs) - logs[0]) if logs else level
        target = self.targets.get(param, 1.0)
        return target / typical if abs(typical / target - 1) > self.tolerance else 1.0

    def _scale(self, layer: LayerPlan, rows: Rows, factor: float) -> None:
        stored = self.view.storage(layer.param)
        weight = self.view.parameters[stored.param].detach()
        if rows:
            scales = torch.ones(layer.size("o"))
            for start, stop in rows:
                scales[start:stop] = factor
            sizes = [size if letter == "o" else 1 for size, letter in zip(layer.shape, layer.axes, strict=True)]
            weight.mul_(scales.reshape(sizes).to(weight.dtype))
        else:
            weight.mul_(factor)
        if stored.kind == "weight_norm":
            reparametrised.refresh(self.view, stored)

    def _addend(self, op: Op) -> torch.Tensor | None:
        """What the operation adds to the product, where that is not zero: `addmm`'s first operand, a bias."""
        added: Any = None
        if op.call is not None and op.call.target is None:
            added = getattr(self.module.get_submodule(op.module), "bias", None)
        elif "bias" in op.operands:
            made = {self._ops[self._nodes[each]]: each for each in list(self._nodes) if self._nodes[each] in self._ops}
            added = made.get(op.operands["bias"])
        if not isinstance(added, torch.Tensor) or not bool(added.any()):
            return None
        if added.dim() == 1 and op.op.startswith("conv") and op.op != "conv_tbc":
            added = added.reshape(-1, *[1] * (-_features(op, _weight(op))[0] - 1))
        scaled: torch.Tensor = added * op.constants.get("beta", 1)
        return scaled


def _weight(op: Op) -> ParamUse:
    return next(use for use in op.params if use.layout is not None)


def _features(op: Op, use: ParamUse) -> tuple[int, ...]:
    """The axes of the output that hold the weight's features, counted from the end; none where they are not known."""
    spec = op.call.spec if op.call is not None else None
    slots = spec.weights(op.constants) if spec is not None and spec.weights is not None else ()
    slot = next((each for each in slots if each.slot == use.slot), None)
    return tuple(slot.features(op.constants, use.shape)) if slot is not None and slot.features is not None else ()


def _selected(result: torch.Tensor, rows: Rows, axes: tuple[int, ...]) -> torch.Tensor:
    """The outputs of some rows; all for no rows."""
    if not rows:
        return result
    by_row = result.movedim(axes, tuple(range(len(axes)))).flatten(0, len(axes) - 1)
    return torch.cat([by_row[start:stop] for start, stop in rows])


def _spread(factor: float, rows: Rows, result: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor | float:
    """A factor for the outputs of some rows, and 1 for the others."""
    if not rows:
        return factor
    sizes = [result.shape[axis] for axis in axes]
    scales = torch.ones(math.prod(sizes))
    for start, stop in rows:
        scales[start:stop] = factor
    shape = [1] * result.dim()
    for axis, size in zip(axes, sizes, strict=True):
        shape[axis] = size
    order = sorted(range(len(axes)), key=lambda at: axes[at])
    return scales.reshape(sizes).permute(order).reshape(shape).to(result.dtype)


def _is_scale(level: float) -> bool:
    return 0 < level < math.inf


def _level(values: torch.Tensor) -> tuple[float, float]:
    """Level and std of an output: its std, or its root mean square over sqrt(2) where that is more."""
    seen = values.float()
    moment = second_moment(seen)
    if not math.isfinite(moment):  # the squares may be what is not
        seen = values.double()
        moment = float(seen.square().mean())
    mean = float(seen.mean())
    if not math.isfinite(moment):
        return math.nan, math.nan
    std = math.sqrt(max(0.0, moment - mean * mean))
    return max(std, math.sqrt(moment / 2)), std


def _cut(runs: list[tuple[int, int]], start: int, stop: int, size: int) -> list[tuple[int, int]]:
    """The parts of runs of rows inside start:stop, cut at the multiples of `size`."""
    found = []
    for begin, end in runs:
        at = max(begin, start)
        while at < min(end, stop):
            after = min((at // size + 1) * size, end, stop)
            found.append((at, after))
            at = after
    return found
