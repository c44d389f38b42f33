"""Statistics against numpy in float64 and values known by construction."""

import math

import numpy as np
import pytest
import torch

from autoinit.tensors import elements
from autoinit.tensors.measuring import BLOCK, is_zero, moments, sampled_moments, weight_stats


def reference(tensor):
    values = tensor.detach().to(torch.float64).numpy().reshape(-1)
    return values.mean(), values.std(), values.min(), values.max(), (values == 0).mean()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 7, 1000, BLOCK, 3 * BLOCK + 5])
def test_agrees_with_numpy(dtype, size):
    tensor = (torch.randn(size, generator=torch.Generator().manual_seed(size)) * 0.3 + 0.1).to(dtype)
    tensor[:: max(3, size // 7)] = 0
    stats = weight_stats(tensor)
    mean, std, minimum, maximum, zeros = reference(tensor)
    assert stats.numel == size
    assert stats.mean == pytest.approx(mean, abs=1e-6)
    assert stats.std == pytest.approx(std, rel=1e-5, abs=1e-9)
    assert (stats.minimum, stats.maximum, stats.nonfinite) == (minimum, maximum, 0)
    assert stats.zeros == pytest.approx(zeros)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_sample_stands_for_all(dtype):
    """2^18 / 16 numbers of N(0.3, 0.2): mean to 0.2 / 128, std to 1 / sqrt(2 * 2^14) = 0.6 %, within four of these."""
    tensor = (torch.randn(512, 512, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.3).to(dtype)
    held = elements.Elements(tensor)
    found = sampled_moments(held, 0, tensor.numel())
    stats = found.stats()
    assert stats.sampled
    assert stats.numel == tensor.numel()
    assert abs(found.finite - 2**14) <= 509
    assert stats.mean == pytest.approx(0.3, abs=4 * 0.2 / 128)
    assert stats.std == pytest.approx(0.2, rel=0.023)
    few = sampled_moments(held, 1000, 9000)
    assert few == moments(held, 1000, 9000)
    assert not few.stats().sampled
    fewer = sampled_moments(held, 0, tensor.numel(), 64)
    assert abs(fewer.finite - 2**12) <= 509
    both = (found + few).repeated(2).stats()
    assert (both.numel, both.sampled) == (2 * (tensor.numel() + 8000), True)


def test_a_sample_sees_all_columns():
    """Of 64 columns one is 8, all others 0: 64 / 64 = 1 on average, in a sixteenth of the rows' worth of runs."""
    tensor = torch.zeros(4096, 64)
    tensor[:, 5] = 8
    found = sampled_moments(elements.Elements(tensor), 0, tensor.numel())
    assert found.mean == pytest.approx(8 / 64, rel=0.02)
    assert found.stats().zeros == pytest.approx(63 / 64, rel=0.001)


def test_constants_have_no_spread():
    stats = weight_stats(torch.full((3, 50_000), 0.1))
    assert stats.std == 0.0
    assert stats.mean == pytest.approx(0.1, rel=1e-6)


def test_small_spread_beside_large_mean():
    values = torch.tensor([1000.0, 1000.5]).repeat(40_000)
    stats = weight_stats(values)
    assert stats.mean == pytest.approx(1000.25, rel=1e-9)
    assert stats.std == pytest.approx(0.25, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_squares_may_leave_float32(scale):
    values = torch.tensor([-1.0, 1.0]).repeat(1000) * scale
    stats = weight_stats(values)
    assert stats.std == pytest.approx(scale, rel=1e-5)
    assert stats.nonfinite == 0


def test_nonfinite_elements_are_counted_and_left_out():
    stats = weight_stats(torch.tensor([1.0, math.nan, 3.0, math.inf, -math.inf, 0.0]))
    assert stats.nonfinite == 3
    assert stats.mean == pytest.approx(4 / 3)
    assert (stats.minimum, stats.maximum) == (0.0, 3.0)
    assert stats.zeros == pytest.approx(1 / 6)


def test_nothing_finite():
    stats = weight_stats(torch.full((4,), math.nan))
    assert stats.nonfinite == 4
    assert math.isnan(stats.std)
    assert math.isnan(stats.minimum)


def test_empty_and_meta():
    assert weight_stats(torch.empty(0, 3)).numel == 0
    assert weight_stats(torch.empty(5, device="meta")) is None
    assert not is_zero(torch.empty(5, device="meta"))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.contiguous(memory_format=torch.channels_last),
        lambda t: t.transpose(0, 1),
        lambda t: t[:, ::2],
        lambda t: t.flip(0)[1:, 1:, 1:],
        lambda t: t[:1].expand(3, -1, -1, -1),
    ],
)
def test_any_memory_format(change):
    tensor = change(torch.randn(6, 8, 5, 7, generator=torch.Generator().manual_seed(0)))
    stats = weight_stats(tensor)
    mean, std, minimum, maximum, _ = reference(tensor.contiguous())
    assert stats.mean == pytest.approx(mean, abs=1e-6)
    assert stats.std == pytest.approx(std, rel=1e-5)
    assert (stats.minimum, stats.maximum) == (minimum, maximum)


def test_parameters_that_require_grad():
    parameter = torch.nn.Parameter(torch.ones(3, 3))
    assert weight_stats(parameter).mean == 1.0
    assert parameter.grad is None


def test_is_zero_sees_the_last_element():
    tensor = torch.zeros(2 * BLOCK + 3)
    assert is_zero(tensor)
    tensor[-1] = 1e-30
    assert not is_zero(tensor)


@pytest.mark.parametrize("shape", [(), (7,), (4, 5), (3, 4, 5), (2, 3, 1, 4)])
def test_boxes_cover_every_run_in_order(shape):
    array = np.arange(math.prod(shape)).reshape(shape)
    for start in range(array.size + 1):
        for stop in range(start, array.size + 1):
            parts = list(elements.boxes(shape, start, stop))
            for index, begin, end in parts:
                assert np.asarray(array[index]).reshape(-1).tolist() == list(range(begin, end))
            assert [n for _, begin, end in parts for n in range(begin, end)] == list(range(start, stop))
            assert len(parts) <= max(1, 2 * len(shape) - 1)


@pytest.mark.parametrize(("factor", "low", "high"), [(2.0, -2.0, 6.0), (-2.0, -6.0, 2.0)])
def test_statistics_of_a_weight_times_a_factor(factor, low, high):
    """Of -1, 1 and 3: mean 1, std sqrt(8 / 3). A negative factor turns the ends round."""
    found = weight_stats(torch.tensor([-1.0, 1.0, 3.0])).scaled(factor)
    assert (found.mean, found.std) == (pytest.approx(factor), pytest.approx(2 * math.sqrt(8 / 3)))
    assert (found.minimum, found.maximum, found.numel) == (low, high, 3)
