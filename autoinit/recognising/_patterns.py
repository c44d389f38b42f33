"""Patterns that no independent draws make: orthogonal matrices, identities, equal features."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from autoinit.tensors.elements import products
from autoinit.tensors.measuring import WeightStats
from autoinit.theory.layouts import size

Axes = tuple[int, ...]

VECTORS = 16
"""Rows or columns that are held against each other."""
PARTS = (1, 2, 3, 4)
"""Into how many equal runs of rows a fused weight is cut: gates, projections."""
KEYS = 8
"""Elements of a feature that are compared before all of them are."""
FINE = 20
"""Binary digits from which on one element of a feature tells it from nearly all others."""
MAX_TWINS = 8
MAX_COMPARED = 1024


@dataclass(frozen=True)
class Orthogonality:
    """A weight whose rows or columns are orthogonal and of one length.

    Attributes:
        unit: the standard deviation of the elements of such a weight when that length is 1.
        parts: equal runs of rows that are orthogonal each on its own; 1 for the whole.
    """

    unit: float
    parts: int = 1


def orthogonality(
    weight: torch.Tensor, axes: str, power: npt.NDArray[np.float64], zeros: float
) -> tuple[Orthogonality, ...]:
    """The ways in which a weight is orthogonal: as (outputs, all else), as torch reads its shape, or in equal parts.

    Looks at up to 16 rows or columns at full length, of the first copy.
    """
    tensor, letters = weight.detach(), axes
    area = size(axes, weight.shape, "k")
    if area > 1 and zeros >= 1 - 1 / area:
        for axis in reversed([at for at, letter in enumerate(axes) if letter == "k"]):
            tensor = tensor.select(axis, tensor.shape[axis] // 2)
        letters = axes.replace("k", "")
    else:
        area = 1
    for axis in reversed([at for at, letter in enumerate(letters) if letter == "b"]):
        tensor = tensor.select(axis, 0)
    letters = letters.replace("b", "")
    rows = tuple(at for at, letter in enumerate(letters) if letter == "o")
    columns = tuple(at for at, letter in enumerate(letters) if letter != "o")
    units = {parts: _orthogonal_parts(tensor, rows, columns, parts, power) for parts in PARTS}
    if not units[1] and letters[:1] not in ("", "o") and len(letters) > 2:
        units[1] = _orthogonal_parts(tensor, (0,), tuple(range(1, tensor.dim())), 1, None)
    first = {unit: parts for parts, unit in reversed(units.items()) if unit}
    return tuple(Orthogonality(unit / math.sqrt(area), parts) for unit, parts in reversed(first.items()))


def _orthogonal_parts(
    tensor: torch.Tensor, rows: Axes, columns: Axes, parts: int, power: npt.NDArray[np.float64] | None
) -> float:
    """1 / sqrt(max(rows, columns)) of each part if all are orthogonal, else 0."""
    height = math.prod(tensor.shape[axis] for axis in rows)
    width = math.prod(tensor.shape[axis] for axis in columns)
    exact = torch.finfo(tensor.dtype).eps < 1e-6
    part = height // parts
    if height % parts or min(part, width) < (2 if exact else 3):
        return 0.0
    across = part > width
    noise = 6 * torch.finfo(tensor.dtype).eps / math.sqrt(max(part, width))
    for start in range(0, height, part):
        if not across and power is not None and not _even(power[0, start : start + part], 1e-4 + 2 * noise):
            return 0.0
        length = width if across else part
        for count in sorted({2, min(VECTORS, length)}):
            picked = np.arange(count) + (length - count) // 2 if across else np.arange(count) * (length // count)
            if across:
                turned = tensor.permute(*columns, *rows)
                block = _vectors(turned, len(columns), picked)[:, start : start + part]
            else:
                block = _vectors(tensor.permute(*rows, *columns), len(rows), picked + start)
            if not _orthonormal(block, 2e-5 + noise):
                return 0.0
    return 1 / math.sqrt(max(part, width))


def _vectors(tensor: torch.Tensor, leading: int, picked: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Some indices over the leading axes together, and all elements of each."""
    index = np.unravel_index(picked, tuple(tensor.shape[:leading]))
    chosen = tensor[tuple(torch.from_numpy(each).to(tensor.device) for each in index)]
    values: npt.NDArray[np.float64] = chosen.to("cpu", torch.float64).reshape(len(picked), -1).numpy()
    return values


def _even(values: npt.NDArray[np.float64], tolerance: float) -> bool:
    return float(values.max()) - float(values.min()) <= tolerance * float(values.max())


def _orthonormal(vectors: npt.NDArray[np.float64], tolerance: float) -> bool:
    lengths = np.sqrt(np.square(vectors).sum(1))
    if not np.isfinite(lengths).all() or lengths.min() == 0 or not _even(lengths, tolerance):
        return False
    units = vectors / lengths[:, None]
    cosines = np.abs(products(units))
    np.fill_diagonal(cosines, 0)
    return bool(cosines.max() <= tolerance)


def is_identity(stats: WeightStats, power: npt.NDArray[np.float64], width: int) -> bool:
    """Whether no feature has more than one element that is not zero, and these are equal."""
    if stats.nonfinite or not stats.numel or stats.minimum * stats.maximum != 0 or stats.minimum == stats.maximum:
        return False
    filled = power[power > 0] * width
    nonzero = round((1 - stats.zeros) * stats.numel)
    value = stats.minimum + stats.maximum
    return nonzero == filled.size and bool((np.abs(filled - value * value) <= 1e-5 * value * value).all())


def twins(weight: torch.Tensor, axes: str, power: npt.NDArray[np.float64]) -> tuple[tuple[int, int], ...]:
    """Pairs of features with bit-identical weights that are not all zero; none where chance makes such pairs."""
    order = [axis for letter in "boik" for axis, each in enumerate(axes) if each == letter]
    leading = sum(each in "bo" for each in axes)
    turned = weight.detach().permute(order)
    width = math.prod(turned.shape[leading:])
    flat = power.reshape(-1)
    digits = -math.log2(torch.finfo(weight.dtype).eps)
    if flat.size < 2 or width * digits < 2 * math.log2(flat.size) + 20:
        return ()
    mixed = np.zeros(flat.size, dtype=np.int64)  # of fine numbers one column will do
    for factor, column in zip(
        _ODD, np.linspace(0, width - 1, min(KEYS if digits < FINE else 1, width)).astype(np.intp), strict=False
    ):
        inner = [int(each) for each in np.unravel_index(column, tuple(turned.shape[leading:]))]
        key = turned[(slice(None),) * leading + tuple(inner)].to("cpu", torch.float32).reshape(-1).numpy()
        mixed += key.view(np.int32) * factor
    found: list[tuple[int, int]] = []
    for first, second in _candidates(mixed, flat):
        if torch.equal(_feature(turned, leading, first), _feature(turned, leading, second)):
            found.append((min(first, second), max(first, second)))
            if len(found) == MAX_TWINS:
                break
    return tuple(sorted(found))


_ODD = np.random.default_rng(0).integers(1, 1 << 62, KEYS) * 2 + 1


def _candidates(keys: npt.NDArray[np.int64], power: npt.NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Neighbours in order of key and power that agree in both."""
    ordered = np.sort(keys)
    if not (ordered[1:] == ordered[:-1]).any():
        return
    order = np.lexsort((power, keys))
    same = (keys[order[1:]] == keys[order[:-1]]) & (power[order[1:]] > 0)
    same &= np.abs(power[order[1:]] - power[order[:-1]]) <= 1e-4 * power[order[1:]]
    at = np.flatnonzero(same)
    pairs = np.sort(np.stack([order[at], order[at + 1]], axis=1), axis=1)
    for first, second in pairs[np.argsort(pairs[:, 0], kind="stable")][:MAX_COMPARED]:
        yield int(first), int(second)


def _feature(turned: torch.Tensor, leading: int, at: int) -> torch.Tensor:
    index = np.unravel_index(at, tuple(turned.shape[:leading]))
    return turned[tuple(int(each) for each in index)]
