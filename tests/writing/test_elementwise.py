"""Numbers made of random integers, against scipy's quantiles and against the same on other vector units."""

import math
import os
import subprocess
import sys
from statistics import NormalDist

import numpy as np
import pytest
import scipy.stats
import torch
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

from autoinit.writing import elementwise
from autoinit.writing._words import BLOCK, RandomStream
from autoinit.writing.sampling import fill

CUTS = {"normal": None, "truncated_normal": 2.0, "truncated_normal_3": 3.0}
ENDS = np.array([-(2**31), -(2**31) + 1, -3, -2, -1, 0, 1, 2, 2**31 - 2, 2**31 - 1], np.int32)


def made(name: str, integers: np.ndarray) -> np.ndarray:
    """What a distribution makes of integers."""
    out = np.empty(integers.size, np.float32)
    getattr(elementwise, name)(integers.copy(), out)
    return out


def oracle(name: str, integers: np.ndarray) -> np.ndarray:
    """Scipy's quantile of unit std for the tail probability |i + 1/2| / 2^31, with the integer's sign."""
    exact = integers.astype(np.float64) + 0.5
    tail, cut = np.abs(exact) / 2**31, CUTS[name]
    if cut is None:
        return np.sign(exact) * scipy.stats.norm.isf(tail / 2)
    beyond = 2 * scipy.stats.norm.sf(cut)
    values = scipy.stats.norm.isf((beyond + (1 - beyond) * tail) / 2)
    return np.sign(exact) * values / scipy.stats.truncnorm.std(-cut, cut)


@pytest.mark.parametrize("name", CUTS)
def test_numbers_are_the_quantiles_of_the_integers(name: str):
    """A straight line over 1/128 of m is off by at most m^2 Q''(m) / 8 / 128^2, and m^2 Q'' is at most 1/x in the tail
    (about 0.25 / 1.1 there): 4e-6. The conversion to float32 adds 2^-24 of m, half a step, times m Q', at most 1.3."""
    spread = np.arange(-(2**31), 2**31, 99991, dtype=np.int64).astype(np.int32)
    powers = np.array([sign * 2**n + off for sign in (-1, 1) for n in range(2, 31) for off in (-1, 0, 1)], np.int32)
    integers = np.concatenate([ENDS, powers, spread[: BLOCK - ENDS.size - powers.size]])
    assert np.abs(made(name, integers) - oracle(name, integers)).max() < 5e-6


@pytest.mark.parametrize("name", [*CUTS, "uniform"])
def test_both_signs_are_alike(name: str):
    """The integer -1 - i is i + 1/2 with the other sign. (Conversion to float32 tells i from i + 1 beyond 2^24.)"""
    integers = np.concatenate([np.arange(3000), 2 ** np.arange(12, 31)]).astype(np.int32)
    assert np.allclose(made(name, -1 - integers), -made(name, integers), rtol=0, atol=2e-7)
    assert (made(name, integers) > 0).all()


def test_the_largest_numbers():
    """2^-33 is surpassed by 6.3 standard deviations; a cut is not surpassed by more than a rounding."""
    assert made("normal", ENDS).max() == pytest.approx(scipy.stats.norm.isf(2.0**-33), abs=1e-5)
    for name, cut in (("truncated_normal", 2.0), ("truncated_normal_3", 3.0)):
        bound = cut / scipy.stats.truncnorm.std(-cut, cut)
        assert bound * (1 - 1e-6) < np.abs(made(name, ENDS)).max() <= bound * (1 + 2**-23)


def test_uniform_numbers_are_the_upper_24_bits():
    integers = np.array([0, 255, 256, -1, -256, -257, 2**31 - 1, -(2**31)], np.int32)
    steps = np.array([0.5, 0.5, 1.5, -0.5, -0.5, -1.5, 2**23 - 0.5, -(2**23) + 0.5])
    np.testing.assert_allclose(made("uniform", integers), steps * math.sqrt(3) / 2**23, rtol=2e-7)


def test_biases_of_steps_are_quantiles_too():
    """softplus(b) is log-uniform from 0.001 to 0.1, so the integer i gives the step 0.01 * 10^(i / 2^31).

    Straight lines over 1/4096 of log(100) = 4.6 leave (4.6 / 4096)^2 / 8 times a second derivative below 0.1.
    """
    integers = np.concatenate([ENDS, np.arange(-(2**31), 2**31, 999_983, dtype=np.int64).astype(np.int32)])
    steps = 0.01 * 10 ** ((integers.astype(np.float64) + 0.5) / 2**31)
    expected = np.log(np.expm1(steps))
    numbers = made("step_bias", integers).astype(np.float64)
    scale, at_zero = np.polyfit(numbers, expected, 1)
    np.testing.assert_allclose(numbers * scale + at_zero, expected, rtol=0, atol=2e-6)
    assert abs(numbers.mean()) < 1e-3
    assert numbers.std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("cut", CUTS.values())
def test_no_rounding_of_a_quantile_hangs_on_the_mathematical_library(cut: float | None):
    """Every end of a cell is hundreds of float64 steps away from where its rounding to float32 would change, far more
    than the few by which the logarithm and the error function of two machines can differ."""
    edges = (np.arange(0x3F00, 0x4F00, dtype=np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
    exact = np.array([elementwise.quantile(edge / 2**31, cut) for edge in edges.tolist()])
    near = exact.astype(np.float32)
    steps = np.spacing(near.astype(np.float64))
    for other in (np.nextafter(near, np.float32(-1)), np.nextafter(near, np.float32(9))):
        middle = (near.astype(np.float64) + other) / 2
        assert (np.abs(exact - middle) / steps).min() > 300
    assert elementwise.quantile(0.05, None) == pytest.approx(1.959963984540054, rel=1e-12)  # the tables' 95 %
    assert NormalDist().cdf(-elementwise.quantile(1e-9)) == pytest.approx(5e-10, rel=1e-6)


def test_known_values():
    """The first normal numbers of a stream, by hand: its integers, scipy's quantiles, times std."""
    integers = RandomStream.of(5, "layer.weight", (2, 3)).run(0, 6).copy()
    tensor = torch.empty(2, 3)
    fill(tensor, distribution="normal", std=0.5, seed=5, name="layer.weight")
    np.testing.assert_allclose(tensor.flatten().numpy(), 0.5 * oracle("normal", integers), atol=3e-6)


@pytest.mark.parametrize("name", CUTS)
def test_moments_and_tails(name: str):
    """2^21 numbers: moments within four standard errors of scipy's, and as many beyond each of some bounds."""
    n = 1 << 21
    tensor = torch.empty(n)
    fill(tensor, distribution=name, std=1.0, seed=0, name="moments")
    values, cut = tensor.numpy().astype(np.float64), CUTS[name]
    law = scipy.stats.norm() if cut is None else scipy.stats.truncnorm(-cut, cut)
    law = type(law.dist)(name="law").freeze(*law.args, scale=1 / law.std()) if cut else law
    for order in range(1, 7):
        expected, square = law.moment(order), law.moment(2 * order)
        assert abs((values**order).mean() - expected) < 4 * math.sqrt((square - expected**2) / n)
    for bound in (0.5, 1.0, 2.0, 2.2, 3.0, 4.0, 4.5, 5.0):
        expected = n * 2 * law.sf(bound)
        assert abs((np.abs(values) > bound).sum() - expected) <= 4 * math.sqrt(expected)


PROGRAM = """
import hashlib, torch
from autoinit.writing.sampling import fill
digest = hashlib.sha256()
for distribution in ("normal", "uniform", "truncated_normal", "truncated_normal_3"):
    tensor = torch.empty(300, 1111)
    fill(tensor, distribution=distribution, std=0.1, seed=7, name="w")
    digest.update(tensor.numpy().tobytes())
print(digest.hexdigest())
"""


def test_values_are_the_same_on_processors_without_wide_vectors():
    """Numpy and torch, told not to use what this processor has beyond the oldest that they support."""
    features = [name for name in __cpu_dispatch__ if __cpu_features__[name]]
    plain = {"NPY_DISABLE_CPU_FEATURES": " ".join(features), "ATEN_CPU_CAPABILITY": "default"}
    run = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=os.environ | env
        )
        for env in ({}, plain)
    ]
    assert run[0].stdout == run[1].stdout != ""
