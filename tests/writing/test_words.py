"""The random integers against the generator's definition, written down here in plain Python integers."""

import hashlib

import numpy as np
import pytest

from autoinit.tensors.boxes import Box, Spans
from autoinit.writing._words import BLOCK, RandomStream, Reader

ALL = 2**64 - 1


def mix(value: int, key: int = 0) -> int:
    """SplitMix64's finalizer: (x ^ x >> 30) * c1, then (x ^ x >> 27) * c2, then x ^ x >> 31; the key between."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & ALL
    value ^= key
    value = (value ^ value >> 27) * 0x94D049BB133111EB & ALL
    return value ^ value >> 31


def integer(stream: RandomStream, position: int) -> int:
    """The 32 bits at a position, as an unsigned number."""
    word = mix((stream.start + (position // 2) * 0x9E3779B97F4A7C15) & ALL, stream.key)
    return word >> 32 if position % 2 else word & 0xFFFFFFFF


def test_without_a_second_key_it_is_the_published_splitmix64():
    """The first outputs for the seed 1234567, as Rosetta Code and the reference implementation give them.

    SplitMix64 adds the golden ratio before it mixes, so its first output is word 1 of a stream that starts at the seed.
    """
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    words = RandomStream(1234567, 0).run(2, 8).view(np.uint64)
    assert words.tolist() == published
    assert [mix((1234567 + n * 0x9E3779B97F4A7C15) & ALL) for n in (1, 2, 3, 4)] == published


@pytest.mark.parametrize("start", [0, 1, 2, 7, 2**33 - 5, 2**62 + 1])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_integers_are_the_definition_at_any_position(start: int, count: int):
    stream = RandomStream(0xFEDCBA9876543210, 0x0123456789ABCDEF)
    expected = [integer(stream, position) for position in range(start, start + count)]
    assert stream.run(start, count).view(np.uint32).tolist() == expected


def test_keys_are_a_hash_of_what_a_stream_is_for():
    digest = hashlib.blake2b(b"(7, 'layer.weight', (3, 4))", digest_size=16).digest()
    stream = RandomStream.of(7, "layer.weight", (3, 4))
    assert (stream.start, stream.key) == (int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little"))


@pytest.mark.parametrize(
    "lengths",
    [[5], [4, 4, 4], [3, 3, 3], [1] * 20, [2, 6, 6, 6, 1], [7, 2] * 12, [BLOCK // 2, 3, BLOCK // 2 - 3]],
)
@pytest.mark.parametrize("gap", [0, 1, 2, 5])
@pytest.mark.parametrize("start", [0, 1])
def test_runs_are_those_of_one_long_run(lengths: list[int], gap: int, start: int):
    """Runs of one length and of several, at even and odd positions."""
    stream = RandomStream.of("runs")
    starts = start + np.cumsum([0, *(length + gap for length in lengths[:-1])])
    whole = np.concatenate([stream.run(at, BLOCK).copy() for at in range(0, 2 * BLOCK, BLOCK)])
    expected = np.concatenate([whole[at : at + length] for at, length in zip(starts, lengths, strict=True)])
    assert np.array_equal(stream.at(Spans(starts.astype(np.int64), np.array(lengths))), expected)


def test_no_run_is_nothing():
    assert RandomStream.of(1).at(Box((4, 4), [[], slice(None)]).spans(0, 0)).size == 0


def test_a_reader_goes_on_where_it_was():
    stream = RandomStream.of("reader")
    reader = Reader(stream)
    assert np.array_equal(np.concatenate([reader.next(n).copy() for n in (3, 4, 1)]), stream.run(0, 8))


def test_integers_of_a_range_are_uniform_over_it():
    """The high half of the 64-bit product with the range; each of six numbers n/6 times, +- four standard errors."""
    stream, n = RandomStream.of("range"), 90_000
    drawn = Reader(stream).integers(-2, 4, n)
    assert drawn[:50].tolist() == [-2 + (integer(stream, position) * 6 >> 32) for position in range(50)]
    counts = np.bincount(drawn + 2)
    assert counts.size == 6
    assert np.abs(counts - n / 6).max() < 4 * np.sqrt(n * 5 / 36)
    assert Reader(stream).integers(0, 5, 0).size == 0
