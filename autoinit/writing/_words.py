"""Random integers with random access: each is a function of a key and of its position, and nothing else.

The generator is SplitMix64 (Steele, Lea & Flood 2014) with the finalizer of Stafford's variant 13, whose counter is
the position: word n = mix(key1 + n * golden ratio), and a second key enters in the middle of the mix, so that two
streams are no two stretches of one sequence. A 64-bit word gives two integers of 32 bits, the lower half first.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from autoinit.tensors.boxes import Positions, Spans

Bits = npt.NDArray[np.int32]
Words = npt.NDArray[np.uint64]

BLOCK = 1 << 16
"""Integers that are made at once, so that what is computed on the way stays in the cache."""
GOLDEN = 0x9E3779B97F4A7C15
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)
_MASK = 2**64 - 1


def aligned(size: int, dtype: torch.dtype) -> npt.NDArray[Any]:
    """New memory that begins with a line of the cache, as torch's does and numpy's need not: a twentieth faster."""
    array: npt.NDArray[Any] = torch.empty(size, dtype=dtype, device="cpu").numpy()
    return array


_STEPS: Words = aligned(BLOCK + 1, torch.int64).view(np.uint64)
np.multiply(np.arange(BLOCK + 1, dtype=np.uint64), np.uint64(GOLDEN), out=_STEPS)


class _MixScratch(threading.local):
    """A thread's own memory: asking for it anew would cost as much as filling it."""

    def __init__(self) -> None:
        self.words: Words = aligned(BLOCK + 1, torch.int64).view(np.uint64)
        self.other: Words = aligned(BLOCK + 1, torch.int64).view(np.uint64)


_scratch = _MixScratch()


@dataclass(frozen=True)
class RandomStream:
    """The random integers of a key.

    Attributes:
        start, key: the two keys, 64 bits each.
    """

    start: int
    key: int

    @classmethod
    def of(cls, *parts: object) -> RandomStream:
        """The stream of what a list of plain values says."""
        digest = hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()
        return cls(int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little"))

    def run(self, start: int, count: int) -> Bits:
        """Integers start : start + count, at most BLOCK. Valid, and free to be changed, until this thread's next."""
        first = start >> 1
        size = ((start + count + 1) >> 1) - first
        words = _scratch.words[:size]
        np.add(_STEPS[:size], np.uint64((self.start + first * GOLDEN) & _MASK), out=words)
        self._mix(words, _scratch.other[:size])
        return words.view(np.int32)[start & 1 :][:count]

    def at(self, spans: Spans) -> Bits:
        """The integers of several runs one after the other, at most BLOCK in all. Valid as those of `run`."""
        starts, lengths = spans.starts, spans.lengths
        if starts.size == 1:
            return self.run(int(starts[0]), int(lengths[0]))
        first, last = starts >> 1, (starts + lengths + 1) >> 1
        ends = np.cumsum(last - first)
        begins = ends - (last - first)
        size = int(ends[-1]) if ends.size else 0
        words = _scratch.words[:size]
        keys = (first - begins).view(np.uint64) * np.uint64(GOLDEN) + np.uint64(self.start)
        np.add(np.repeat(keys, last - first), _STEPS[:size], out=words)
        self._mix(words, _scratch.other[:size])
        halves = words.view(np.int32)
        unused = np.concatenate([2 * begins[starts % 2 == 1], 2 * ends[(starts + lengths) % 2 == 1] - 1])
        if not unused.size:
            return halves
        used = np.ones(halves.size, bool)
        used[unused] = False
        return np.compress(used, halves)

    def _mix(self, words: Words, other: Words) -> None:
        np.right_shift(words, _30, out=other)
        np.bitwise_xor(words, other, out=words)
        np.multiply(words, FIRST, out=words)
        np.bitwise_xor(words, np.uint64(self.key), out=words)
        np.right_shift(words, _27, out=other)
        np.bitwise_xor(words, other, out=words)
        np.multiply(words, SECOND, out=words)
        np.right_shift(words, _31, out=other)
        np.bitwise_xor(words, other, out=words)


class Reader:
    """A stream read from its beginning on."""

    def __init__(self, stream: RandomStream) -> None:
        self._stream, self._at = stream, 0

    def next(self, count: int) -> Bits:
        """The next integers, at most BLOCK. Valid as those of `RandomStream.run`."""
        bits = self._stream.run(self._at, count)
        self._at += count
        return bits

    def integers(self, low: int, high: int, count: int) -> Positions:
        """The next as numbers in low:high (Lemire 2019, without the rejection, which differs by 2^-32 at most)."""
        made = [self.next(min(BLOCK, count - at)).view(np.uint32).astype(np.uint64) for at in range(0, count, BLOCK)]
        words = np.concatenate(made) if made else np.empty(0, np.uint64)
        return low + ((words * np.uint64(high - low)) >> np.uint64(32)).astype(np.int64)
