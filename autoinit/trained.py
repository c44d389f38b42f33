"""Evidence that a model has been trained, so that writing its weights would destroy work.

A weight fits a known initialisation when a sample of it could be independent draws from one normal, truncated
normal (cut at two sigma) or uniform distribution of mean zero, or part of an orthogonal matrix. Training leaves such
a weight with rows or columns that differ in scale, have means of their own or point the same way, or with another
kurtosis. The tolerance of each test is five standard errors of a sample of that size, so that a small weight says
nothing and a fresh one is not accused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from autoinit.parameters import Model, named_parameters, unwrap
from autoinit.plans import LayerPlan, Plan
from autoinit.sampling import CUT

Matrix = npt.NDArray[np.float32]

MAX_WEIGHTS = 32
"""Weights that are sampled, evenly over the model."""
MAX_COLUMNS = 512
MAX_SAMPLE = 1 << 15
MIN_SAMPLE = 512
"""Fewer numbers than this say nothing."""
ERRORS = 5.0
"""Tolerance of each test in standard errors."""
DCGAN_GAIN_STD = 0.02
"""Norm gains drawn from N(1, 0.02) are an initialisation too (Radford et al. 2016)."""
MIN_GAINS = 128
"""With fewer, gains that a few training steps moved could pass for drawn ones."""


@dataclass(frozen=True)
class Evidence:
    """strong: what shows that the model was trained. weak: what a reader of the report should know."""

    strong: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()


def trained_evidence(model: Model, plan: Plan) -> Evidence:
    """Looks for signs of training. Reads batch-norm counters, norm gains and a sample of the plan's weights.

    Weights on the meta device say nothing. The plan tells each weight's axes and slices.
    """
    root = unwrap(model)
    strong, weak = _running_evidence(root)
    strong += _gain_evidence(root)
    verdicts = {name: misfit for name, misfit in _misfits(root, plan) if misfit is not None}
    misfits = {name: misfit for name, misfit in verdicts.items() if misfit}
    if misfits:
        name, misfit = next(iter(misfits.items()))
        told = f"{name}: {misfit}"
        if len(misfits) == len(verdicts) > 1:
            strong.append(f"none of the {len(verdicts)} weights sampled fits a known initialisation ({told})")
        else:
            weak.append(f"{len(misfits)} of {len(verdicts)} weights sampled fit no known initialisation ({told})")
    return Evidence(tuple(strong), tuple(weak))


def misfit(weight: torch.Tensor, layer: LayerPlan | None = None) -> str | None:
    """Why a weight fits no known initialisation; empty if one fits; None if it is too small to tell.

    Args:
        weight: of two or more dimensions.
        layer: tells its axes and slices; without it the first axis is the output and rows are alike.
    """
    matrix = _sample(weight, layer)
    filled = matrix != 0
    count = int(np.count_nonzero(filled))
    if count < MIN_SAMPLE or not np.isfinite(matrix).all():
        return None
    magnitudes = np.abs(matrix[filled])
    if float(magnitudes.min()) == float(magnitudes.max()):
        return ""
    unit = matrix / np.float32(math.sqrt(float(np.square(magnitudes, dtype=np.float64).mean())))
    return _first_misfit(unit, filled, count, max(weight.shape[0], weight.numel() // max(weight.shape[0], 1)))


def _running_evidence(model: Model) -> tuple[list[str], list[str]]:
    buffers = {name: buffer for name, buffer in model.named_buffers() if buffer is not None and not buffer.is_meta}
    counted = {n: int(b) for n, b in buffers.items() if n.endswith("num_batches_tracked") and b.numel() == 1}
    trained = {name.rpartition(".")[0]: count for name, count in counted.items() if count > 0}
    if trained:
        name, count = max(trained.items(), key=lambda item: item[1])
        return [f"{len(trained)} batch norms have seen training batches ({name or 'the model'}: {count})"], []
    fresh = {"running_mean": 0.0, "running_var": 1.0}
    moved = [
        n for n, b in buffers.items() if n.rpartition(".")[2] in fresh and (b != fresh[n.rpartition(".")[2]]).any()
    ]
    if moved:
        return [], [f"{len(moved)} running statistics of norms are not as constructed ({moved[0]})"]
    return [], []


def _gain_evidence(model: Model) -> list[str]:
    moved = {}
    for name, gain in _gains(model):
        values = gain.detach().to("cpu", torch.float64)
        if values.numel() and bool((values != values[0]).any()):
            moved[name] = values
    if not moved or _drawn_as_in_dcgan(torch.cat(list(moved.values()))):
        return []
    name, values = next(iter(moved.items()))
    told = f"{name} from {float(values.min()):.3g} to {float(values.max()):.3g}"
    return [f"the gains of {len(moved)} norms are no longer constant ({told})"]


def _drawn_as_in_dcgan(gains: torch.Tensor) -> bool:
    size, std = gains.numel(), DCGAN_GAIN_STD
    if size < MIN_GAINS:
        return False
    right_mean = abs(float(gains.mean()) - 1) < ERRORS * std / math.sqrt(size)
    return right_mean and abs(float(gains.std()) - std) < ERRORS * std / math.sqrt(2 * size)


def _gains(model: Model) -> Iterator[tuple[str, torch.Tensor]]:
    if not isinstance(model, nn.Module):
        return
    for name, module in model.named_modules():
        gain = module._parameters.get("weight")
        if "norm" in type(module).__name__.lower() and gain is not None and gain.dim() == 1 and not gain.is_meta:
            yield f"{name}.weight" if name else "weight", gain


def _misfits(model: Model, plan: Plan) -> Iterator[tuple[str, str | None]]:
    parameters = named_parameters(model)
    known = [layer for layer in plan.layers if layer.param in parameters and layer.reparam != "parametrized"]
    known = [layer for layer in known if math.prod(layer.shape) >= MIN_SAMPLE and len(layer.shape) > 1]
    for at in np.linspace(0, len(known) - 1, min(MAX_WEIGHTS, len(known))).round().astype(int):
        layer = known[at]
        weight = parameters[layer.param]
        if not weight.is_meta and weight.is_floating_point() and tuple(weight.shape) == layer.shape:
            yield layer.name, misfit(weight, layer)


def _sample(weight: torch.Tensor, layer: LayerPlan | None) -> Matrix:
    """Rows of the weight, spread evenly, and a run of their columns; each slice brought to the same scale."""
    axes = layer.axes if layer is not None else "o" + "i" * (weight.dim() - 1)
    order = [axis for letter in "boik" for axis, each in enumerate(axes) if each == letter]
    leading = sum(each in "bo" for each in axes)
    turned = weight.detach().permute(order)
    area = math.prod(turned.shape[leading + 1 :])
    if turned.dim() > leading:
        run = min(turned.shape[leading], max(1, MAX_COLUMNS // area))
        turned = turned.narrow(leading, (turned.shape[leading] - run) // 2, run)
    width = math.prod(turned.shape[leading:])
    steps = [1] * leading
    counts = list(turned.shape[:leading])
    while math.prod(counts) > max(1, MAX_SAMPLE // width) and max(counts) > 1:
        widest = counts.index(max(counts))
        steps[widest] *= 2
        counts[widest] = -(-turned.shape[widest] // steps[widest])
    picked = turned[tuple(slice(None, None, step) for step in steps)]
    matrix: Matrix = picked.to("cpu", torch.float32, copy=True).reshape(math.prod(counts), width).numpy()
    if layer is not None and layer.slices:
        _level(matrix, layer, axes, steps, counts)
    return matrix


def _level(matrix: Matrix, layer: LayerPlan, axes: str, steps: list[int], counts: list[int]) -> None:
    """Divides the rows of each slice by their root mean square."""
    outputs = [size for size, axis in zip(layer.shape, axes, strict=True) if axis == "o"]
    labels = np.zeros(math.prod(outputs), dtype=int)
    for label, part in enumerate(layer.slices, start=1):
        for start, stop in part.rows:
            labels[start:stop] = label
    copies = len(counts) - len(outputs)
    kept = labels.reshape(outputs)[tuple(slice(None, None, step) for step in steps[copies:])]
    of_row = np.broadcast_to(kept, counts).reshape(-1)
    for label in np.unique(of_row):
        rows = of_row == label
        power = float(np.square(matrix[rows], dtype=np.float64).mean())
        if power > 0:
            matrix[rows] /= np.float32(math.sqrt(power))


def _first_misfit(unit: Matrix, filled: npt.NDArray[np.bool_], count: int, longest: int) -> str:
    """The first test that a matrix of unit second moment (of its non-zero elements) fails, told; empty if none."""
    squares = np.square(unit)
    mean = float(unit.sum(dtype=np.float64)) / count
    if abs(mean) * math.sqrt(count) > ERRORS:
        return f"its mean is {mean:.3g} standard deviations"
    kurtosis = float(np.einsum("ij,ij->", squares, squares)) / count
    known = (*_KURTOSES, (3.0 * longest / (longest + 2.0), 24.0))
    if not any(abs(kurtosis - each) <= ERRORS * math.sqrt(spread / count) + 0.01 for each, spread in known):
        return f"its kurtosis is {kurtosis:.3g}, that of no initialisation"
    for axis, name in ((1, "rows"), (0, "columns")):
        lengths = filled.sum(axis)
        used = lengths > 0
        sizes = lengths[used].astype(np.float64)
        if sizes.size < 2:
            continue
        error = math.sqrt((2.0 + 12.0 / float(sizes.mean())) / sizes.size)
        limit = _limit(error)
        scales = squares.sum(axis)[used] / sizes
        if float((np.square(scales - scales.mean()) * sizes).mean()) / (kurtosis - 1) > limit:
            return f"its {name} differ in scale"
        if float((np.square(unit.sum(axis)[used]) / sizes).mean()) > limit:
            return f"its {name} have means of their own"
    return _alignment(unit)


def _alignment(unit: Matrix) -> str:
    """Whether rows point the same way: d E[cos^2] is 1 for independent rows of length d, less for orthogonal ones."""
    rows = unit[:: max(1, len(unit) // 64)]
    norms = np.sqrt(np.square(rows).sum(1, keepdims=True))
    rows = rows[norms[:, 0] > 0] / norms[norms[:, 0] > 0]
    height, width = rows.shape
    if height < 8 or width < 2:
        return ""
    pairs = height * (height - 1) / 2
    cosines = np.square(rows @ rows.T)
    alignment = width * (float(cosines.sum()) - height) / (2 * pairs)
    if alignment > 0.02 + _limit(math.sqrt((2.0 + 30.0 / width) / pairs)):
        return f"its rows point the same way (mean squared cosine {alignment:.3g} times that of independent rows)"
    return ""


def _limit(error: float) -> float:
    """Upper limit of a mean of squares that is 1 up to a standard error; the last term is for its long right tail."""
    return 1 + ERRORS * error + (ERRORS * error) ** 2 / 2


def _kurtosis_and_spread(fourth: float, sixth: float, eighth: float) -> tuple[float, float]:
    """Kurtosis of a symmetric distribution of unit variance, and the variance of a sample's times its size."""
    return fourth, eighth - 4 * fourth * sixth + 4 * fourth**3 - fourth**2


def _truncated_moments() -> tuple[float, float, float]:
    """Standardised moments 4, 6 and 8 of N(0, 1) cut at +-c: m_k = (k - 1) m_(k-2) - 2 c^(k-1) phi(c) / mass."""
    edge = 2 * math.exp(-CUT * CUT / 2) / math.sqrt(2 * math.pi) / math.erf(CUT / math.sqrt(2))
    moments = {0: 1.0}
    for order in (2, 4, 6, 8):
        moments[order] = (order - 1) * moments[order - 2] - edge * CUT ** (order - 1)
    second = moments[2]
    return moments[4] / second**2, moments[6] / second**3, moments[8] / second**4


_KURTOSES = (
    _kurtosis_and_spread(3.0, 15.0, 105.0),
    _kurtosis_and_spread(9 / 5, 27 / 7, 81 / 9),
    _kurtosis_and_spread(*_truncated_moments()),
)
"""(kurtosis, variance of a sample's times its size) of normal, uniform and truncated normal."""
