"""Signs that a model has been trained, so that writing its weights would destroy work.

A weight fits a known initialisation when a sample of it could be independent draws from one normal, truncated
normal (cut at two sigma) or uniform distribution of mean zero, or part of an orthogonal matrix. Training leaves such
a weight with rows or columns that differ in scale, have means of their own or point the same way, or with another
kurtosis. The tolerance of each test is about five standard errors of a sample of that size, so that a small weight says
nothing and a fresh one is not accused. (Of an n x n orthogonal matrix the kurtosis is 3 n / (n + 2), which lies within
one and a quarter standard errors of the normal distribution's 3.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from autoinit.models import ModelView
from autoinit.models.walking import modules_by_path
from autoinit.plans.layers import LayerPlan
from autoinit.plans.plan import Plan
from autoinit.recognising.families import (
    ERRORS,
    FAMILIES,
    MIN_SAMPLE,
    alignment_misfit,
    kurtosis_fits,
    rows_misfit,
)
from autoinit.recognising.samples import Indices, Matrix, row_sums, sample, unit
from autoinit.tensors.boxes import Box, FlatRun
from autoinit.tensors.pairs import without_partners
from autoinit.tensors.sharding import is_sharded, local_piece
from autoinit.tensors.unwritten import TINY, looks_unwritten
from autoinit.writing.pieces import LocalPiece, Pieces

HANDFUL = 5
"""Batches that a batch norm may have seen at construction: a forward or a few that a constructor runs."""
MOST_BATCHES = 1 << 30
"""Beyond it, a counter is memory that nothing has written."""
FIRST_WEIGHTS = 6
"""Weights that are sampled first, evenly over the model; where all of them fit an initialisation, the look ends."""
MAX_WEIGHTS = 32
"""Weights that are sampled otherwise."""
DCGAN_GAIN_STD = 0.02
"""Norm gains drawn from N(1, 0.02) are an initialisation too (Radford et al. 2016)."""
MIN_GAINS = 128
"""With fewer, gains that a few training steps moved could pass for drawn ones."""


@dataclass(frozen=True)
class TrainingSigns:
    """What looks like training.

    Attributes:
        certain: what shows that the model was trained.
        weak: what a reader of the report should know.
        doubtful: what would show it in tensors that something has written since they were allocated: these may also
            hold what their memory held before, as after `to_empty`.
        unwritten: whether small parameters hold what only such memory does: no initialisation, and no training but
            one that has failed, leaves it.
    """

    certain: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()
    unwritten: bool = False

    @property
    def strong(self) -> tuple[str, ...]:
        """What counts."""
        return self.certain if self.unwritten else (*self.certain, *self.doubtful)


def training_signs(
    view: ModelView, plan: Plan, pieces: Pieces | None = None, *, weights: bool = True, reset: bool = False
) -> TrainingSigns:
    """Looks for signs of training. Reads batch-norm counters, norm gains and a sample of the plan's weights.

    Weights on the meta device say nothing. The plan tells each weight's axes and slices. Of what is parted among
    processes the piece that is here is looked at.

    Args:
        view: of the model to look at.
        plan: of the model.
        pieces: what is here of its parameters.
        weights: whether to look at weights, too, and not at norms alone.
        reset: whether all is to be given values, as after `to_empty`. What nothing has written since it was allocated
            may then be what any tensors left in memory, and counts only where it could be a trained model's as a whole.
    """
    pieces = Pieces(view) if pieces is None else pieces
    certain: list[str] = []
    doubtful: list[str] = []
    running, weak, written = _running_evidence(view)
    (certain if written or not reset else doubtful).extend(running)
    strong, written = _gain_evidence(view)
    (certain if written else doubtful).extend(strong)
    verdicts = _verdicts(view, plan, pieces) if weights else {}
    found = {name: misfit for name, misfit in verdicts.items() if misfit}
    if found:
        name, misfit = next(iter(found.items()))
        example = f"{name}: {misfit}"
        if len(found) == len(verdicts) > 1:
            touched = any(_has_been_written(view.held[plan[each].param]) for each in found)
            none = f"none of the {len(verdicts)} weights sampled fits a known initialisation ({example})"
            (certain if touched else doubtful).append(none)
        else:
            weak.append(f"{len(found)} of {len(verdicts)} weights sampled fit no known initialisation ({example})")
    unwritten = bool(doubtful or not certain) and any(map(_is_rubbish, view.held.values()))
    unwritten = unwritten or (reset and any(_is_no_gain(gain) for _, gain in _gains(view)))
    return TrainingSigns(tuple(certain), () if unwritten else tuple(weak), tuple(doubtful), unwritten)


def _has_been_written(tensor: torch.Tensor) -> bool:
    """Whether something has written a tensor in place since it was allocated, as an optimizer does.

    FSDP2 copies a piece once, to fill it up to the size of the others.
    """
    if tensor._version > 0 or not is_sharded(tensor):
        return tensor._version > 0
    piece = local_piece(tensor)
    filled_up = piece.untyped_storage().nbytes() > piece.numel() * piece.element_size()
    return piece._version > int(filled_up)


def _is_no_gain(gain: torch.Tensor) -> bool:
    """Whether a norm's gain that nothing has written holds other tensors' numbers: many alike, or of both signs.

    Training moves gains from 1, each by an amount of its own: few get below 0.
    """
    values = local_piece(gain)
    if values.is_meta or _has_been_written(gain) or not bool((values != values[:1]).any()):
        return False
    return (
        2 * len(np.unique(values.float().cpu().numpy())) <= values.numel()
        or 4 * int((values < 0).sum()) > values.numel()
    )


def _is_rubbish(tensor: torch.Tensor) -> bool:
    """Whether a small parameter holds what only memory does that nothing has written."""
    piece = local_piece(tensor)
    small = piece.dim() < 2 and not piece.is_meta and piece.is_floating_point()
    if not small or _has_been_written(tensor):
        return False
    magnitudes = piece.double().abs()
    return looks_unwritten(piece.double().cpu().numpy()) or bool(((magnitudes > 0) & (magnitudes < TINY)).any())


def misfit(weight: torch.Tensor, layer: LayerPlan | None = None) -> str | None:
    """Why a weight fits no known initialisation; empty if one fits; None if it is too small to tell.

    Args:
        weight: of two or more dimensions.
        layer: tells its axes and slices; without it the first axis is the output and rows are alike.
    """
    axes = layer.axes if layer is not None else "o" + "i" * (weight.dim() - 1)
    alone = without_partners(weight, axes)
    if alone is not weight:
        return misfit(alone)  # of a mirrored weight, which is one smaller matrix with both signs
    taken = sample(weight, axes)
    count = int(np.count_nonzero(taken.matrix))
    if count < MIN_SAMPLE or looks_unwritten(taken.matrix):
        return None
    if _is_uniform_of_one_sign(taken.matrix):
        return ""
    magnitudes = np.abs(taken.matrix)
    if int(np.count_nonzero(magnitudes == magnitudes.max())) == count:
        return ""
    level, _ = unit(taken.matrix)
    if layer is not None and layer.slices:
        level, _ = unit(level * _leveling(level, taken.features, layer)[:, None])
    return _first_misfit(level)


def _is_uniform_of_one_sign(matrix: Matrix) -> bool:
    """Whether numbers could be draws from U(0, b), as `scale * torch.rand(...)` gives: mean b / 2, variance b^2 / 12.

    The mean of n draws has standard error b / sqrt(12 n).
    """
    if float(matrix.min()) < 0 < float(matrix.max()):
        return False
    values = np.abs(matrix.astype(np.float64))
    bound, count = float(values.max()), values.size
    centred = values - bound / 2
    near = abs(float(centred.mean())) * math.sqrt(12 * count) < ERRORS * bound
    power = float(np.square(centred).mean())
    return near and kurtosis_fits(float((centred**4).mean()) / power**2, count, "uniform")


def _running_evidence(view: ModelView) -> tuple[list[str], list[str], bool]:
    """Strong and weak evidence, and whether a tensor of the strong has been written since it was allocated."""
    buffers = {name: buffer for name, buffer in view.buffers.items() if not buffer.is_meta}
    counted = {n: int(b) for n, b in buffers.items() if n.endswith("num_batches_tracked") and b.numel() == 1}
    seen = {name.rpartition(".")[0]: count for name, count in counted.items() if 0 < count < MOST_BATCHES}
    seen = {norm: count for norm, count in seen.items() if _may_be_a_variance(buffers, norm)}
    trained = {name: count for name, count in seen.items() if count > HANDFUL or _has_moved(view, name)}
    if trained:
        name, count = max(trained.items(), key=lambda item: item[1])
        written = any(_has_been_written(buffers[f"{norm}.num_batches_tracked".lstrip(".")]) for norm in trained)
        return [f"{len(trained)} batch norms have seen training batches ({name or 'the model'}: {count})"], [], written
    if seen:
        name, count = max(seen.items(), key=lambda item: item[1])
        few = f"{len(seen)} batch norms have seen a batch or a few ({name or 'the model'}: {count})"
        return [], [f"{few}, as of a forward at construction: gains are all 1, shifts all 0"], False
    fresh = {"running_mean": 0.0, "running_var": 1.0}
    moved = [
        n for n, b in buffers.items() if n.rpartition(".")[2] in fresh and (b != fresh[n.rpartition(".")[2]]).any()
    ]
    if moved:
        return [], [f"{len(moved)} running statistics of norms are not as constructed ({moved[0]})"], False
    return [], [], False


def _may_be_a_variance(buffers: Mapping[str, torch.Tensor], norm: str) -> bool:
    """Whether a batch norm's running variance, if it has one, is one: finite, nowhere negative, somewhere positive."""
    variance = buffers.get(f"{norm}.running_var" if norm else "running_var")
    if variance is None or not variance.numel():
        return True
    return bool((variance >= 0).all() and variance.any()) and not looks_unwritten(variance.double().cpu().numpy())


def _has_moved(view: ModelView, norm: str) -> bool:
    """Whether the gains of a norm are not all exactly 1, or its shifts not all exactly 0."""
    prefix = f"{norm}." if norm else ""
    held = [view.held.get(f"{prefix}{name}") for name in ("weight", "bias")]
    gain, shift = (None if each is None else local_piece(each) for each in held)
    moved = gain is not None and not gain.is_meta and bool((gain != 1).any())
    return moved or (shift is not None and not shift.is_meta and bool((shift != 0).any()))


def _gain_evidence(view: ModelView) -> tuple[list[str], bool]:
    """The evidence, and whether any of its tensors has been written since it was allocated."""
    moved, touched = {}, False
    for name, gain in _gains(view):
        values = local_piece(gain).to("cpu", torch.float64)
        if values.numel() and bool((values != values[0]).any()) and not looks_unwritten(values.numpy()):
            moved[name] = values
            touched |= _has_been_written(gain)
    if not moved or _drawn_as_in_dcgan(torch.cat(list(moved.values()))):
        return [], touched
    name, values = next(iter(moved.items()))
    example = f"{name} from {float(values.min()):.3g} to {float(values.max()):.3g}"
    return [f"the gains of {len(moved)} norms are no longer constant ({example})"], touched


def _drawn_as_in_dcgan(gains: torch.Tensor) -> bool:
    size, std = gains.numel(), DCGAN_GAIN_STD
    if size < MIN_GAINS:
        return False
    right_mean = abs(float(gains.mean()) - 1) < ERRORS * std / math.sqrt(size)
    return right_mean and abs(float(gains.std()) - std) < ERRORS * std / math.sqrt(2 * size)


def _gains(view: ModelView) -> Iterator[tuple[str, torch.Tensor]]:
    for name, module in modules_by_path(view.module, once=True).items() if view.has_modules else ():
        gain = module._parameters.get("weight")
        if "norm" not in type(module).__name__.lower() or gain is None or gain.dim() != 1 or gain.is_meta:
            continue
        if not _has_seen_nothing(module):
            yield f"{name}.weight" if name else "weight", gain


def _has_seen_nothing(norm: nn.Module) -> bool:
    """Whether a batch norm's own buffers show that no training batch went through it: its gain was drawn."""
    count, mean, var = (norm._buffers.get(name) for name in ("num_batches_tracked", "running_mean", "running_var"))
    if count is None or mean is None or var is None or count.is_meta:
        return False
    return int(count) == 0 and not bool(mean.any()) and bool((var == 1).all())


def _verdicts(view: ModelView, plan: Plan, pieces: Pieces) -> dict[str, str]:
    """By layer, why its weight fits no known initialisation; empty where one fits. Small weights are left out."""
    known = [layer for layer in plan.layers if layer.param in view.held and layer.reparam != "parametrized"]
    known = [layer for layer in known if math.prod(layer.shape) >= MIN_SAMPLE and len(layer.shape) > 1]
    found: dict[str, str] = {}
    for most in (FIRST_WEIGHTS, MAX_WEIGHTS):
        for at in np.linspace(0, len(known) - 1, min(most, len(known))).round().astype(int):
            verdict = None if known[at].name in found else _verdict(known[at], pieces.of(known[at].param))
            if verdict is not None:
                found[known[at].name] = verdict
        if found and not any(found.values()):
            break
    return found


def _verdict(layer: LayerPlan, piece: LocalPiece) -> str | None:
    if piece.tensor.is_meta or not piece.tensor.is_floating_point() or piece.shape != layer.shape:
        return None
    held = _as_weight(piece, layer)
    return misfit(*held) if held is not None else None


def _as_weight(piece: LocalPiece, layer: LayerPlan) -> tuple[torch.Tensor, LayerPlan] | None:
    """What is here of a weight as a weight of its own, and its plan; None where it cannot be seen as one."""
    region = piece.region
    if region.is_whole:
        return piece.tensor, layer
    if layer.mirror is not None or (layer.slices and layer.axes.count("o") != 1):
        return None
    tensor = piece.tensor
    if isinstance(region, FlatRun):  # its whole rows
        size = math.prod(layer.shape[1:])
        first, last = -(-region.start // size), region.stop // size
        tensor = tensor[first * size - region.start : max(first, last) * size - region.start].view(-1, *layer.shape[1:])
        region = Box(layer.shape, [slice(first, max(first, last)), *([slice(None)] * (len(layer.shape) - 1))])
    held = region.axes[layer.axes.index("o")] if layer.slices else slice(0, 0)
    rows = np.arange(held.start, held.stop) if isinstance(held, slice) else held
    slices = tuple(replace(part, rows=_runs_among(part.rows, rows)) for part in layer.slices)
    return tensor, replace(layer, shape=region.local_shape, slices=tuple(part for part in slices if part.rows))


def _runs_among(runs: Sequence[tuple[int, int]], rows: Indices) -> tuple[tuple[int, int], ...]:
    """Where some rows lie in these runs: runs of their own numbers."""
    inside = np.zeros(rows.size + 2, dtype=int)
    for start, stop in runs:
        inside[1:-1] |= (rows >= start) & (rows < stop)
    edges = np.diff(inside)
    ends = zip(np.flatnonzero(edges > 0).tolist(), np.flatnonzero(edges < 0).tolist(), strict=True)
    return tuple(ends)


def _leveling(level: Matrix, features: Indices, layer: LayerPlan) -> Matrix:
    """One over the root mean square of the slice of each row."""
    outputs = layer.size("o")
    labels = np.zeros(outputs, dtype=int)
    for label, part in enumerate(layer.slices, start=1):
        for start, stop in part.rows:
            labels[start:stop] = label
    of_row = labels[features % outputs]
    powers = np.bincount(of_row, np.square(level).mean(1)) / np.maximum(np.bincount(of_row), 1)
    factors: Matrix = (1 / np.sqrt(np.where(powers > 0, powers, 1.0))).astype(np.float32)
    return factors[of_row]


def _first_misfit(level: Matrix) -> str:
    """The first test that a matrix of unit second moment (of its non-zero elements) fails, in words; empty if none."""
    rows = row_sums(level, np.arange(len(level)))
    count = int(rows.counts.sum())
    mean = float(rows.sums.sum()) / count
    if abs(mean) * math.sqrt(count) > ERRORS:
        return f"its mean is {mean:.3g} standard deviations"
    if not any(kurtosis_fits(rows.kurtosis, count, family) for family in FAMILIES):
        return f"its kurtosis is {rows.kurtosis:.3g}, that of no initialisation"
    if found := rows_misfit(rows, rows.kurtosis):
        return f"its rows {found}"
    columns = row_sums(np.ascontiguousarray(level.T), np.arange(level.shape[1]))
    if found := rows_misfit(columns, rows.kurtosis):
        return f"its columns {found}"
    return alignment_misfit(level)
