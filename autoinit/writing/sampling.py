"""Distributions and seeds: the values of a weight as a function of (seed, its name, its shape) alone.

The flattened weight is cut into chunks of fixed size. Each chunk has a random stream of its own, whose state is a
hash of (seed, name, shape, chunk). So neither order, nor the other layers, nor the number of threads, nor dtype,
device and memory format change a value, and threads can share one large weight. An orthogonal weight is drawn matrix
by matrix instead.

Values are drawn in float32 on the CPU, then cast and copied to where the weight lives.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pkgutil import resolve_name

import numpy as np
import numpy.typing as npt
import torch

from autoinit.plans.distributions import RECIPE_DISTRIBUTIONS, RecipeDistribution
from autoinit.plans.layers import SlicePlan
from autoinit.plans.mirror import Mirror
from autoinit.tensors import elements
from autoinit.tensors.parallel import one_thread
from autoinit.theory.truncation import CUT, TRUNCATED_STD, TRUNCATED_STD_3
from autoinit.writing import _mirrored

Array = npt.NDArray[np.float32]
Rows = tuple[tuple[int, int], ...]

CHUNK = 1 << 19
"""Elements that share one random stream. A weight's values depend on it."""
BLOCK = 1 << 18
"""Elements that are drawn at once, so that the temporaries stay in the cache. Values depend on it too."""


@dataclass(frozen=True)
class Run:
    """The elements start:stop of the flattened weight, drawn from the stream of chunk `index`."""

    index: int
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


Piece = Run | Matrix | Mirrored


@dataclass(frozen=True)
class Draw:
    """What a weight's values are to be.

    Attributes:
        name: the weight's name, part of the seed.
        shape, axes: its geometry, one letter for each axis as in `Layout`; without letters the first axis is the
            output.
        std: of its elements.
        slices: other standard deviations for some output rows (indices on all `o` axes together, flattened); rows that
            no slice names have `std`.
        delta: an orthogonal convolution's matrix sits at the centre of its kernel and all else is zero (Xiao et al.
            2018).
        mirror: makes the weight of a smaller matrix, which has the distribution; std and slices then say nothing.
        mean: of its elements.
    """

    distribution: RecipeDistribution
    std: float
    seed: int
    name: str
    shape: tuple[int, ...]
    axes: str = ""
    slices: tuple[SlicePlan, ...] = ()
    delta: bool = False
    mirror: Mirror | None = None
    mean: float = 0.0

    @cached_property
    def letters(self) -> str:
        """One letter for each axis."""
        return self.axes or "o" + "i" * (len(self.shape) - 1)

    @cached_property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def sizes(self, letter: str) -> tuple[int, ...]:
        """Sizes of the axes that bear the letter, in order."""
        return tuple(size for size, axis in zip(self.shape, self.letters, strict=True) if axis == letter)

    @cached_property
    def row_scales(self) -> Array | None:
        """Standard deviation of each element, an array of the weight's shape; None where one serves all."""
        if not self.slices:
            return None
        scales = np.full(math.prod(self.sizes("o")), self.std, dtype=np.float32)
        for part in self.slices:
            for start, stop in part.rows:
                scales[start:stop] = part.std
        sizes = [size if axis == "o" else 1 for size, axis in zip(self.shape, self.letters, strict=True)]
        return np.broadcast_to(scales.reshape(sizes), self.shape)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The parts of the weight that can be filled apart, in any order and thread."""
        if self.mirror is not None:
            return (Mirrored(),)
        if RECIPE_DISTRIBUTIONS[self.distribution].by_element:
            starts = range(0, self.numel, CHUNK)
            return tuple(Run(index, at, min(at + CHUNK, self.numel)) for index, at in enumerate(starts))
        rows = math.prod(self.sizes("o"))
        parts: list[tuple[Rows, float]] = [(part.rows, part.std) for part in self.slices]
        rest = _uncovered(rows, [run for runs, _ in parts for run in runs])
        if rest:
            parts.append((rest, self.std))
        copies = itertools.product(*(range(size) for size in self.sizes("b")))
        every = itertools.product(copies, parts)
        return tuple(Matrix(index, copy, runs, std) for index, (copy, (runs, std)) in enumerate(every))

    def stream(self, index: int) -> np.random.Generator:
        """The random stream of piece `index`; the thread's previous one ends."""
        pairing = () if self.mirror is None else (self.mirror.outputs, self.mirror.inputs)
        key = repr((self.seed, self.name, self.shape, index, *pairing)).encode()
        words = np.frombuffer(hashlib.blake2b(key, digest_size=24).digest(), dtype="<u8")
        state = np.array([*words, 1], dtype=np.uint64)
        generator = _generator()
        generator.bit_generator.state = {
            "bit_generator": "SFC64",
            "state": {"state": state},
            "has_uint32": 0,
            "uinteger": 0,
        }
        return generator


_local = threading.local()


def _generator() -> np.random.Generator:
    """This thread's generator: making one costs more than drawing a small weight."""
    if not hasattr(_local, "generator"):
        _local.generator = np.random.Generator(np.random.SFC64(0))
    generator: np.random.Generator = _local.generator
    return generator


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
) -> None:
    """Fills a tensor in place. The arguments are `Draw`'s; torch's random number generators are not used."""
    draw = Draw(distribution, std, seed, name, tuple(tensor.shape), axes, tuple(slices), delta, mirror)
    with torch.no_grad(), one_thread():
        for piece in draw.pieces:
            fill_piece(tensor, draw, piece)


def fill_piece(tensor: torch.Tensor, draw: Draw, piece: Piece) -> None:
    """Fills one piece of a tensor. Run it under `one_thread()` and `torch.no_grad()`."""
    if isinstance(piece, Matrix):
        _fill_matrix(tensor, draw, piece)
        return
    if isinstance(piece, Mirrored):
        assert draw.mirror is not None
        stream = draw.stream(0)
        _mirrored.fill(tensor, draw.letters, draw.mirror, stream, lambda *size: _matrix(draw, stream, *size))
        return
    whole = elements.direct(tensor)
    in_place = whole is not None and whole.dtype == np.float32
    stream = draw.stream(piece.index)
    for start in range(piece.start, piece.stop, BLOCK):
        stop = min(start + BLOCK, piece.stop)
        block: Array = whole[start:stop] if whole is not None and in_place else np.empty(stop - start, np.float32)
        _elements(draw.distribution)(stream, block)
        _scale(block, draw, start)
        if draw.mean:
            block += np.float32(draw.mean)
        if not in_place:
            elements.write(tensor, start, block)


@cache
def _elements(distribution: RecipeDistribution) -> Callable[[np.random.Generator, Array], None]:
    """What fills an array with independent values of the distribution, of unit std."""
    filler: Callable[[np.random.Generator, Array], None] = resolve_name(RECIPE_DISTRIBUTIONS[distribution].elements)
    return filler


def _scale(block: Array, draw: Draw, start: int) -> None:
    scales = draw.row_scales
    if scales is None:
        np.multiply(block, np.float32(draw.std), out=block)
        return
    for index, begin, end in elements.boxes(draw.shape, start, start + block.size):
        factors = scales[index]
        box = block[begin - start : end - start].reshape(factors.shape)
        np.multiply(box, factors, out=box)


def normal(stream: np.random.Generator, out: Array) -> None:
    """N(0, 1) by the transform of Box & Muller (1958): radius from 31 bits, angle from 32."""
    half = (out.size + 1) // 2
    bits = stream.bit_generator.random_raw(half).view(np.int32)
    radius = (bits[:half] & np.int32(2**31 - 1)).astype(np.float32)
    radius += np.float32(0.5)
    radius *= np.float32(2.0**-31)
    np.log(radius, out=radius)
    radius *= np.float32(-2.0)
    np.sqrt(radius, out=radius)
    angle = bits[half:].astype(np.float32)
    angle *= np.float32(2.0 * math.pi / 2**32)
    first, second = out[:half], out[half:]
    np.cos(angle, out=first)
    first *= radius
    rest = second.size
    np.sin(angle[:rest], out=second)
    second *= radius[:rest]


def uniform(stream: np.random.Generator, out: Array) -> None:
    """Uniform of unit std: the 2**24 midpoints between -sqrt(3) and sqrt(3)."""
    half = (out.size + 1) // 2
    bits = stream.bit_generator.random_raw(half).view(np.int32)[: out.size]
    np.right_shift(bits, 8, out=bits)
    np.copyto(out, bits, casting="unsafe")
    out += np.float32(0.5)
    out *= np.float32(math.sqrt(3.0) / 2**23)


def truncated_normal(stream: np.random.Generator, out: Array) -> None:
    """N(0, 1) cut at +-CUT by rejection, so that nothing piles up at the cut, and rescaled to unit std."""
    _cut_at(CUT, stream, out)
    out *= np.float32(1.0 / TRUNCATED_STD)


def truncated_normal_3(stream: np.random.Generator, out: Array) -> None:
    """The same, cut at +-3."""
    _cut_at(3.0, stream, out)
    out *= np.float32(1.0 / TRUNCATED_STD_3)


def _cut_at(cut: float, stream: np.random.Generator, out: Array) -> None:
    normal(stream, out)
    outside = np.flatnonzero(np.abs(out) > cut)
    while outside.size:
        again = np.empty(outside.size, np.float32)
        normal(stream, again)
        out[outside] = again
        outside = outside[np.abs(again) > cut]


def constant(_stream: np.random.Generator, out: Array) -> None:
    """Zeros: the value itself is the draw's mean."""
    out.fill(0.0)


def _fill_matrix(tensor: torch.Tensor, draw: Draw, piece: Matrix) -> None:
    outputs, kernel = draw.sizes("o"), draw.sizes("k")
    inputs = math.prod(draw.sizes("i"))
    rows = sum(stop - start for start, stop in piece.rows)
    area = math.prod(kernel)
    columns = inputs if draw.delta else inputs * area
    scale = piece.std * math.sqrt(max(rows, columns) * (area if draw.delta else 1))
    matrix = _semi_orthogonal(draw.stream(piece.index), rows, columns).mul_(scale)
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


def _matrix(draw: Draw, stream: np.random.Generator, rows: int, columns: int) -> torch.Tensor:
    """A matrix of the draw's distribution that keeps the second moment of what it multiplies."""
    if not RECIPE_DISTRIBUTIONS[draw.distribution].by_element:
        return _semi_orthogonal(stream, rows, columns).mul_(math.sqrt(max(1.0, rows / columns)))
    fill_unit = _elements(draw.distribution)
    values = np.empty(rows * columns, np.float32)
    for start in range(0, values.size, BLOCK):
        fill_unit(stream, values[start : start + BLOCK])
    return torch.from_numpy(values).view(rows, columns).mul_(columns**-0.5)


def _semi_orthogonal(stream: np.random.Generator, rows: int, columns: int) -> torch.Tensor:
    """A matrix of orthonormal rows (columns, if fewer), uniform over all such (Saxe et al. 2014; Mezzadri 2007)."""
    values = np.empty(rows * columns, np.float32)
    for start in range(0, values.size, BLOCK):
        normal(stream, values[start : start + BLOCK])
    tall = torch.from_numpy(values).view(max(rows, columns), min(rows, columns))
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
