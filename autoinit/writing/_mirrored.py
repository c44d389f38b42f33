"""The values of a mirrored weight: one matrix, its rows and columns repeated with both signs."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from autoinit.plans.mirror import Block, FeatureRun, Mirror
from autoinit.writing._words import Reader

Taps = npt.NDArray[np.intp]
DrawMatrix = Callable[[int, int], torch.Tensor]


def fill(
    tensor: torch.Tensor,
    letters: str,
    mirror: Mirror,
    reader: Reader,
    matrix: DrawMatrix,
) -> None:
    """Fills a weight. Run it in one thread and without gradients.

    Args:
        tensor: the weight.
        letters: its axes: one `o`, one `i`, and `k` for the axes of a kernel.
        mirror: how it is made.
        reader: gives the taps, before the matrix is drawn.
        matrix: draws a matrix of so many rows and columns, its rows or columns orthonormal or its elements of
            variance 1 / columns, times sqrt(rows / columns) where that is above 1.
    """
    target = tensor.detach().permute([axis for letter in "oik" for axis, each in enumerate(letters) if each == letter])
    transposed = letters.startswith("iok")  # the groups of a transposed convolution follow each other along its inputs
    parts = target.chunk(mirror.groups, int(transposed))
    for block, part in zip(mirror.blocks, parts, strict=True):
        _fill_block(part, mirror, block, reader, matrix)
    if mirror.positive:
        target.abs_()
    for run in mirror.copies:
        for at in range(run.start, run.start + run.dimensions):
            parts[at + run.dimensions].copy_(parts[at])


def _fill_block(target: torch.Tensor, mirror: Mirror, block: Block, reader: Reader, matrix: DrawMatrix) -> None:
    """Fills the outputs, inputs and taps of one group."""
    kernel = tuple(target.shape[2:])
    full = mirror.taps == "full"
    taps = None if full or not kernel else _taps(reader, mirror, block, kernel)
    columns = block.columns * (math.prod(kernel) if full else 1)
    rows_of_part = block.rows // mirror.parts
    parts = torch.stack([matrix(rows_of_part, columns) for _ in range(mirror.parts)]).mul_(mirror.scale)
    small = parts.view(mirror.parts, -1, mirror.turn or rows_of_part, columns).transpose(0, 1)
    rows = _signed(small.reshape(block.rows, block.columns, -1), block.outputs)
    weight = _signed(rows.transpose(0, 1), block.inputs).transpose(0, 1)
    if taps is None:
        target.copy_(weight.reshape(target.shape))
        return
    target.zero_()
    for tap in np.unique(taps):
        here = np.flatnonzero(taps == tap)
        place = tuple(int(index) for index in np.unravel_index(tap, kernel))
        at = target
        for index in reversed(place):
            at = at.select(-1, index)
        at.index_copy_(1, torch.from_numpy(here), weight[:, here, 0].to(at))


def _taps(reader: Reader, mirror: Mirror, block: Block, kernel: tuple[int, ...]) -> Taps:
    """The tap of every input feature, as an index into the flattened kernel: one for each column of the matrix."""
    if mirror.taps == "centre":
        chosen = [np.full(block.columns, size // 2) for size in kernel]
    else:
        chosen = [reader.integers(low, high, block.columns) for low, high in mirror.seen]
    flat = np.ravel_multi_index(tuple(chosen), kernel).astype(np.intp)
    made, at = [], 0
    for run in block.inputs:
        part = flat[at : at + run.dimensions] if run.factor else np.zeros(run.size, np.intp)
        made += [part, part] if run.paired and run.factor else [part]
        at += run.dimensions if run.factor else 0
    return np.concatenate(made)


def _signed(matrix: torch.Tensor, runs: tuple[FeatureRun, ...]) -> torch.Tensor:
    """First axis of the small matrix -> that of the weight: a pair is a row and its negative, what is not read is 0."""
    made, at = [], 0
    for run in runs:
        if not run.factor:
            made.append(matrix.new_zeros(run.size, *matrix.shape[1:]))
            continue
        part = matrix[at : at + run.dimensions] * run.factor
        made += [part, -part] if run.paired else [part]
        at += run.dimensions
    return torch.cat(made)
