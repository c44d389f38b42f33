"""Distributions and seeds: each value of a weight as a function of (seed, its name, its whole shape, its index) alone.

A weight has a random stream of its own, keyed by a hash of (seed, name, shape), that gives each element 32 random
bits at once, wherever it is. So neither order, nor the other layers, nor the number of threads or processes, nor
dtype, device and memory format change a value; threads can share one large weight, and a process that holds a part
of one draws that part alone. An orthogonal or mirrored weight is drawn matrix by matrix instead, and a part of it
taken from the whole.

Values are drawn in float32 on the CPU, then cast and copied to where the weight lives.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pkgutil import resolve_name

import numpy as np
import numpy.typing as npt
import torch

from autoinit.plans.distributions import RECIPE_DISTRIBUTIONS, RecipeDistribution
from autoinit.plans.layers import RestSlice, SlicePlan
from autoinit.plans.mirror import Mirror
from autoinit.tensors import elements
from autoinit.tensors.boxes import Box, FlatRun
from autoinit.tensors.elements import Elements
from autoinit.tensors.parallel import one_thread
from autoinit.theory.state_spaces import log_counts
from autoinit.writing import _mirrored
from autoinit.writing._sending import Sender, is_elsewhere
from autoinit.writing._words import BLOCK, Bits, RandomStream, Reader

Array = npt.NDArray[np.float32]
Rows = tuple[tuple[int, int], ...]

CHUNK = 4 * BLOCK
"""Elements that one task fills."""


@dataclass(frozen=True)
class Run:
    """The elements start:stop of the flattened tensor."""

    start: int
    stop: int


@dataclass(frozen=True)
class Matrix:
    """Some output rows of one copy of the weight, drawn as one semi-orthogonal matrix of the given std."""

    index: int
    copy: tuple[int, ...]
    rows: Rows
    std: float


@dataclass(frozen=True)
class Mirrored:
    """A whole weight that is made of one smaller matrix."""


@dataclass(frozen=True)
class Excerpt:
    """Part of a weight that can only be drawn whole."""


Piece = Run | Matrix | Mirrored | Excerpt


@dataclass(frozen=True)
class Draw:
    """What a weight's values are to be.

    Attributes:
        name: the weight's name, part of the seed.
        shape, axes: geometry of the whole weight, one letter for each axis as in `Layout`; without letters the first
            axis is the output.
        std: of its elements.
        slices: other standard deviations, and means, for some output rows (indices on all `o` axes together,
            flattened); rows that no slice names have `std` and `mean`.
        delta: an orthogonal convolution's matrix sits at the centre of its kernel and all else is zero (Xiao et al.
            2018).
        mirror: makes the weight of a smaller matrix, which has the distribution; std and slices then say nothing.
        mean: of its elements.
        box: which elements the tensor to be filled holds; None for all of them.
    """

    distribution: RecipeDistribution
    std: float
    seed: int
    name: str
    shape: tuple[int, ...]
    axes: str = ""
    slices: tuple[SlicePlan | RestSlice, ...] = ()
    delta: bool = False
    mirror: Mirror | None = None
    mean: float = 0.0
    box: Box | FlatRun | None = None

    @cached_property
    def letters(self) -> str:
        """One letter for each axis."""
        return self.axes or "o" + "i" * (len(self.shape) - 1)

    @cached_property
    def numel(self) -> int:
        """Number of elements to be filled."""
        return math.prod(self.shape) if self.box is None else self.box.numel

    def sizes(self, letter: str) -> tuple[int, ...]:
        """Sizes of the axes that bear the letter, in order."""
        return tuple(size for size, axis in zip(self.shape, self.letters, strict=True) if axis == letter)

    @cached_property
    def row_scales(self) -> Array | None:
        """Standard deviation of each element of the tensor, or of the whole weight where it holds a run of it; None
        where one serves all.
        """
        return self._by_row(self.std, [(part.rows, part.std) for part in self.slices]) if self.slices else None

    @cached_property
    def row_means(self) -> Array | None:
        """Mean of each of these elements; None where one serves all."""
        if self.distribution == "log_counts":
            counts = torch.tensor(log_counts(self.shape[-1]))
            return self._over_all(counts.view([1] * (len(self.shape) - 1) + [-1]))
        means = [(part.rows, part.mean) for part in self.slices if isinstance(part, RestSlice)]
        return self._by_row(self.mean, means) if means else None

    def _by_row(self, usual: float, others: Sequence[tuple[Rows, float]]) -> Array:
        values = torch.full((math.prod(self.sizes("o")),), usual)
        for rows, other in others:
            for start, stop in rows:
                values[start:stop] = other
        sizes = [size if axis == "o" else 1 for size, axis in zip(self.shape, self.letters, strict=True)]
        return self._over_all(values.view(sizes))

    def _over_all(self, values: torch.Tensor) -> Array:
        """Values that are the same along some axes, as far as they are held here."""
        if isinstance(self.box, Box):
            values, shape = self.box.take(values), self.box.local_shape
        else:
            shape = self.shape
        return np.broadcast_to(values.numpy(), shape)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The parts of what is to be filled that can be filled apart, in any order and thread."""
        by_element = RECIPE_DISTRIBUTIONS[self.distribution].by_element and self.mirror is None
        if by_element:
            return tuple(Run(at, min(at + CHUNK, self.numel)) for at in range(0, self.numel, CHUNK))
        if self.box is not None and not self.box.is_whole:
            return (Excerpt(),) if self.numel else ()
        if self.mirror is not None:
            return (Mirrored(),)
        rows = math.prod(self.sizes("o"))
        parts: list[tuple[Rows, float]] = [(part.rows, part.std) for part in self.slices]
        rest = _uncovered(rows, [run for runs, _ in parts for run in runs])
        if rest:
            parts.append((rest, self.std))
        copies = itertools.product(*(range(size) for size in self.sizes("b")))
        every = itertools.product(copies, parts)
        return tuple(Matrix(index, copy, runs, std) for index, (copy, (runs, std)) in enumerate(every))

    def stream(self, *part: object) -> RandomStream:
        """The random stream of its elements, or of a part that is drawn apart."""
        return RandomStream.of(self.seed, self.name, self.shape, *part)


def fill(
    tensor: torch.Tensor,
    *,
    distribution: RecipeDistribution,
    std: float,
    seed: int,
    name: str,
    axes: str = "",
    slices: Sequence[SlicePlan] = (),
    delta: bool = False,
    mirror: Mirror | None = None,
    box: Box | FlatRun | None = None,
) -> None:
    """Fills a tensor in place. The arguments are `Draw`'s; torch's random number generators are not used."""
    shape = tuple(tensor.shape) if box is None else box.shape
    draw = Draw(distribution, std, seed, name, shape, axes, tuple(slices), delta, mirror, box=box)
    fill_all_of(tensor, draw)


def fill_all_of(tensor: torch.Tensor, draw: Draw) -> None:
    """Fills a tensor in place, in this thread."""
    with torch.no_grad(), one_thread():
        held = Elements(tensor)
        for piece in draw.pieces:
            fill_piece(held, draw, piece)


def fill_piece(held: Elements, draw: Draw, piece: Piece) -> None:
    """Fills one piece of a tensor. Run it under `one_thread()` and `torch.no_grad()`."""
    tensor = held.tensor
    if isinstance(piece, Run):
        _fill_run(held, draw, piece)
    elif isinstance(piece, Matrix):
        _fill_matrix(tensor, draw, piece)
    elif isinstance(piece, Mirrored):
        assert draw.mirror is not None
        reader = Reader(draw.stream("mirrored", draw.mirror.outputs, draw.mirror.inputs))
        _mirrored.fill(tensor, draw.letters, draw.mirror, reader, lambda *size: _matrix(draw, reader, *size))
    else:
        assert draw.box is not None
        whole, rest = torch.empty(draw.shape), replace(draw, box=None)
        for each in rest.pieces:
            fill_piece(Elements(whole), rest, each)
        tensor.copy_(draw.box.take(whole))


def _fill_run(held: Elements, draw: Draw, piece: Run) -> None:
    memory, size = held.memory, min(BLOCK, piece.stop - piece.start)
    in_place = memory is not None and memory.dtype == np.float32
    sender = Sender(held.tensor, size) if is_elsewhere(held.tensor) else None
    stream, fill_unit, box = draw.stream(), _elements(draw.distribution), draw.box
    scales, means = draw.row_scales, draw.row_means
    for start in range(piece.start, piece.stop, BLOCK):
        stop = min(start + BLOCK, piece.stop)
        block: Array = memory[start:stop] if memory is not None and in_place else np.empty(stop - start, np.float32)
        bits = stream.run(start, stop - start) if box is None else stream.at(box.spans(start, stop))
        fill_unit(bits, block)
        _by_row(np.multiply, block, scales, draw.std, draw, start)
        if draw.mean or means is not None:
            _by_row(np.add, block, means, draw.mean, draw, start)
        if sender is not None:
            sender.send(start, block)
        elif not in_place:
            held.write(start, block)
    if sender is not None:
        sender.finish()


@cache
def _elements(distribution: RecipeDistribution) -> Callable[[Bits, Array], None]:
    """What makes an array of independent values of the distribution, of unit std, of random integers."""
    filler: Callable[[Bits, Array], None] = resolve_name(RECIPE_DISTRIBUTIONS[distribution].elements)
    return filler


def _by_row(act: np.ufunc, block: Array, by_row: Array | None, usual: float, draw: Draw, start: int) -> None:
    """Changes the elements of a block in place by a number that depends on their rows, or is one for all."""
    if by_row is None:
        act(block, np.float32(usual), out=block)
        return
    first = start + draw.box.start if isinstance(draw.box, FlatRun) else start
    for index, begin, end in elements.boxes(by_row.shape, first, first + block.size):
        numbers = by_row[index]
        box = block[begin - first : end - first].reshape(numbers.shape)
        act(box, numbers, out=box)


def _fill_matrix(tensor: torch.Tensor, draw: Draw, piece: Matrix) -> None:
    outputs, kernel = draw.sizes("o"), draw.sizes("k")
    inputs = math.prod(draw.sizes("i"))
    rows = sum(stop - start for start, stop in piece.rows)
    area = math.prod(kernel)
    columns = inputs if draw.delta else inputs * area
    scale = piece.std * math.sqrt(max(rows, columns) * (area if draw.delta else 1))
    matrix = _semi_orthogonal(Reader(draw.stream("matrix", piece.index)), rows, columns).mul_(scale)
    order = [axis for letter in "boik" for axis, each in enumerate(draw.letters) if each == letter]
    target = tensor.detach().permute(order)[piece.copy]
    if draw.delta and kernel:
        for start, stop in piece.rows:
            for index, _, _ in elements.boxes(outputs, start, stop):
                target[index].zero_()
        for size in reversed(kernel):
            target = target.select(-1, size // 2)
    done = 0
    for start, stop in piece.rows:
        for index, begin, end in elements.boxes(outputs, start, stop):
            box = target[index]
            box.copy_(matrix[done : done + end - begin].reshape(box.shape))
            done += end - begin


def _matrix(draw: Draw, reader: Reader, rows: int, columns: int) -> torch.Tensor:
    """A matrix of the draw's distribution that keeps the second moment of what it multiplies."""
    if not RECIPE_DISTRIBUTIONS[draw.distribution].by_element:
        return _semi_orthogonal(reader, rows, columns).mul_(math.sqrt(max(1.0, rows / columns)))
    return _values(draw.distribution, reader, rows * columns).view(rows, columns).mul_(columns**-0.5)


def _values(distribution: RecipeDistribution, reader: Reader, count: int) -> torch.Tensor:
    """The next independent values of unit std."""
    values, fill_unit = np.empty(count, np.float32), _elements(distribution)
    for start in range(0, count, BLOCK):
        block = values[start : start + BLOCK]
        fill_unit(reader.next(block.size), block)
    return torch.from_numpy(values)


def _semi_orthogonal(reader: Reader, rows: int, columns: int) -> torch.Tensor:
    """A matrix of orthonormal rows (columns, if fewer), uniform over all such (Saxe et al. 2014; Mezzadri 2007)."""
    values = _values("normal", reader, rows * columns)
    tall = values.view(max(rows, columns), min(rows, columns))
    q: torch.Tensor
    q, r = torch.linalg.qr(tall)
    q.mul_(torch.where(r.diagonal() < 0, -1.0, 1.0))
    return q if rows >= columns else q.T


def _uncovered(rows: int, runs: list[tuple[int, int]]) -> Rows:
    rest, at = [], 0
    for start, stop in sorted(runs):
        if at < start:
            rest.append((at, start))
        at = max(at, stop)
    if at < rows:
        rest.append((at, rows))
    return tuple(rest)
