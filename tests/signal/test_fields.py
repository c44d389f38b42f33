"""Gaussian fields: their rows have the covariances asked for, exactly, whatever the size and the order of the axes."""

from __future__ import annotations

import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings

from autoinit.signal.predicting.fields import Axes, Covariance, Rows, covariance, draw, row_moments, second_moment

Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def by_pairs(x: torch.Tensor, letters: str) -> Covariance:
    """The four covariances by the definition: a loop over all pairs of rows. Kinds that have no pair count as equal."""
    order = [at for kind in ("b", "t", "gc") for at, letter in enumerate(letters) if letter in kind]
    sizes = {kind: math.prod(x.shape[at] for at, letter in enumerate(letters) if letter in kind) for kind in ("b", "t")}
    rows: Numbers = x.double().permute(order).reshape(sizes["b"], sizes["t"], -1).numpy()
    found: dict[tuple[bool, bool], list[float]] = {}
    places = list(itertools.product(range(sizes["b"]), range(sizes["t"])))
    for (b, t), (c, u) in itertools.product(places, places):
        found.setdefault((b == c, t == u), []).append(float((rows[b, t] * rows[c, u]).mean()))
    own = float(np.mean(found[True, True]))
    position = float(np.mean(found[True, False])) if sizes["t"] > 1 else own
    sample = float(np.mean(found[False, True])) if sizes["b"] > 1 else own
    if sizes["b"] == 1:
        apart = position
    elif sizes["t"] == 1:
        apart = sample
    else:
        apart = float(np.mean(found[False, False]))
    return Covariance(own, position, sample, apart)


def from_spectrum(both: float, sample: float, position: float, mean: float, b: int, t: int) -> Covariance:
    """A matrix of rows whose eigenvalues these are: on contrasts of both axes, of one of them, and on the mean.

    The matrix is sum of eigenvalue * projection, the projections being Kronecker products of J / n and I - J / n.
    """

    def average(n: int) -> Numbers:
        return np.full((n, n), 1 / n)

    def contrast(n: int) -> Numbers:
        made: Numbers = np.eye(n) - average(n)
        return made

    whole = (
        both * np.kron(contrast(b), contrast(t))
        + sample * np.kron(contrast(b), average(t))
        + position * np.kron(average(b), contrast(t))
        + mean * np.kron(average(b), average(t))
    )
    own = float(whole[0, 0])
    other_position = float(whole[0, 1]) if t > 1 else own
    other_sample = float(whole[0, t]) if b > 1 else own
    apart = float(whole[0, t + 1]) if b > 1 and t > 1 else other_sample if t == 1 else other_position
    return Covariance(own, other_position, other_sample, apart)


def assert_same(found: Covariance, wanted: Covariance, scale: float, ulps: float = 100) -> None:
    """Equal up to rounding: so many units of float32 of the scale."""
    for name in ("own", "position", "sample", "apart"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=ulps * 1.2e-7 * scale), name


LETTERS = ["".join(order) for order in itertools.permutations("btc")] + [
    "bc", "tc", "ct", "cb", "c", "btgc", "btgct", "tbtc", "bgct", "gbtc", "ctcb", "btctc", "bttc"
]  # fmt: skip


@st.composite
def shapes(draws: st.DrawFn) -> tuple[str, tuple[int, ...]]:
    letters = draws(st.sampled_from(LETTERS))
    return letters, tuple(draws(st.integers(1, 4)) for _ in letters)


@settings(max_examples=150)
@given(shapes(), st.integers(0, 2**31))
@example(("bc", (3, 4)), 0)
@example(("btc", (1, 1, 1)), 0)
@example(("cbt", (2, 3, 3)), 0)
def test_covariance_is_what_pairs_of_rows_say(of: tuple[str, tuple[int, ...]], seed: int) -> None:
    letters, shape = of
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + 0.3
    assert_same(covariance(x, Axes(letters)), by_pairs(x, letters), float(x.square().mean()))


@settings(max_examples=200)
@given(shapes(), st.tuples(*[st.sampled_from([0.0, 0.1, 1.0, 4.0]) for _ in range(4)]), st.integers(0, 2**31))
@example(("bct", (3, 5, 4)), (1.0, 0.0, 0.0, 0.0), 1)
@example(("btc", (1, 4, 8)), (1.0, 1.0, 0.0, 0.0), 1)
@example(("btc", (4, 1, 8)), (0.0, 1.0, 0.0, 2.0), 1)
def test_a_draw_has_the_covariances_asked_for(
    of: tuple[str, tuple[int, ...]], spectrum: tuple[float, ...], seed: int
) -> None:
    letters, shape = of
    axes = Axes(letters)
    both, sample, position, mean = spectrum
    wanted = from_spectrum(both, sample, position, mean, axes.size(shape, "b"), axes.size(shape, "t"))
    x = draw(shape, axes, wanted, torch.Generator().manual_seed(seed))
    assert x.shape == shape
    assert_same(by_pairs(x, letters), wanted, max(spectrum))


@pytest.mark.parametrize(("b", "t"), [(1, 2), (2, 1), (1, 9), (5, 1), (2, 2), (5, 9)])
def test_a_batch_normalised_field(b: int, t: int) -> None:
    """No mean over all rows: covariances are as negative as n exchangeable rows can have them, -q / (n - 1)."""
    n = b * t
    rest = -1.0 / (n - 1)
    wanted = Covariance(1.0, rest if t > 1 else 1.0, rest if b > 1 else 1.0, rest)
    if t == 1 or b == 1:
        wanted = from_spectrum(n / (n - 1), n / (n - 1), n / (n - 1), 0.0, b, t)
    x = draw((b, 16, t), Axes("bct"), wanted, torch.Generator().manual_seed(3))
    assert float(x.square().mean()) == pytest.approx(1, rel=1e-5)
    assert x.mean(dim=(0, 2)).abs().max() < 1e-5
    assert_same(by_pairs(x, "bct"), wanted, 1.0)


def test_what_no_rows_can_have_is_drawn_as_near_as_they_can() -> None:
    """Three rows of covariance -0.9 do not exist: the eigenvalue of the mean would be -0.8; it becomes 0."""
    wanted = Covariance(1.0, -0.9, 1.0, -0.9)
    x = draw((1, 3, 64), Axes("btc"), wanted, torch.Generator().manual_seed(0))
    found = by_pairs(x, "btc")
    assert found.own - found.position == pytest.approx(1.9, rel=1e-5)  # the contrasts keep theirs
    assert x.mean(dim=1).abs().max() < 1e-5


@pytest.mark.parametrize("features", [1, 2, 3, 7, 64, 1000])
def test_what_all_rows_share_is_spread_like_normal_quantiles(features: int) -> None:
    """Equal rows: the features are the stratified numbers themselves, of second moment q, mean 0 and normal shape."""
    x = draw((2, 3, features), Axes("btc"), Covariance(4.0, 4.0, 4.0, 4.0), torch.Generator().manual_seed(0))
    values = x[0, 0]
    assert x.sub(values).abs().max() < 1e-5
    assert float(values.square().mean()) == pytest.approx(4, rel=1e-5)
    if features == 1:
        assert float(values) == pytest.approx(2, rel=1e-5)
    else:
        assert float(values.mean()) == pytest.approx(0, abs=1e-5)
    if features == 1000:
        assert float(values.pow(4).mean()) == pytest.approx(3 * 16, rel=0.03)  # E z^4 = 3; the ends are cut
        assert float(values.relu().square().mean()) == pytest.approx(2, rel=1e-3)


def test_a_draw_is_normal_and_its_own_for_each_seed() -> None:
    axes, wanted = Axes("btc"), Covariance(1.0, 0.3, 0.1, 0.1)
    first, again, other = (draw((4, 25, 200), axes, wanted, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert abs(float((first * other).mean())) < 5 / math.sqrt(200)
    count = first.numel()
    # Var(z^4) = 96; rows are correlated, so that there are fewer independent numbers than elements.
    assert float(first.pow(4).mean()) == pytest.approx(3, abs=5 * math.sqrt(96 / (count / 10)))


@settings(max_examples=80)
@given(shapes(), st.integers(0, 1000))
def test_row_moments_are_means_of_squares_over_features(of: tuple[str, tuple[int, ...]], seed: int) -> None:
    letters, shape = of
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    places = tuple(at for at, letter in enumerate(letters) if letter == "c")
    torch.testing.assert_close(row_moments(x, Axes(letters)), (x * x).mean(dim=places, keepdim=True))


@settings(max_examples=80)
@given(shapes())
def test_rows_go_there_and_back(of: tuple[str, tuple[int, ...]]) -> None:
    letters, shape = of
    x = torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)
    axes = Axes(letters)
    rows = Rows.of(x, axes)
    assert torch.equal(rows.back(shape, axes), x)
    assert rows.counts == (axes.size(shape, "b"), axes.size(shape, "t"), axes.size(shape, "gc"))
    sums = sum(x.permute([*axes.of("b"), *axes.of("t"), *axes.of("gc")]).reshape(rows.counts).unbind(1))
    assert isinstance(sums, torch.Tensor)
    torch.testing.assert_close(rows.sums(), sums)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (3, 2)])
def test_second_moment(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert second_moment(x) == pytest.approx(float((x.double() ** 2).mean()), rel=1e-6)
    assert second_moment(x.T if x.dim() == 2 else x) == pytest.approx(float((x.double() ** 2).mean()), rel=1e-6)


def test_second_moment_of_nothing_is_nothing() -> None:
    assert second_moment(torch.zeros(0, 3)) == 0
