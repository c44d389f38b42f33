"""Distributions against closed forms and scipy; values against themselves under every change that must not matter."""

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
import torch

from autoinit.plans.distributions import DISTRIBUTIONS
from autoinit.theory.truncation import TRUNCATED_STD
from autoinit.writing.sampling import BLOCK, CHUNK, Draw, fill, fill_all_of
from tests.shared.plan_builders import slice_plan

# Kurtoses of the distributions, for the standard error of a sample's std: std * sqrt((kurtosis - 1) / (4 n)).
KURTOSIS = {"normal": 3.0, "uniform": 1.8, "truncated_normal": 3.0, "orthogonal": 3.0}
LAYOUTS = {
    "linear": ("oi", (96, 64)),
    "wide": ("oi", (32, 300)),
    "conv1d": ("oik", (40, 24, 5)),
    "conv2d": ("oikk", (48, 16, 3, 3)),
    "conv3d": ("oikkk", (16, 12, 3, 3, 3)),
    "grouped": ("oikk", (64, 4, 3, 3)),
    "depthwise": ("oikk", (256, 1, 3, 3)),
    "conv_transpose1d": ("iok", (24, 40, 5)),
    "conv_transpose2d": ("iokk", (16, 48, 4, 4)),
    "conv_transpose3d": ("iokkk", (12, 16, 3, 3, 3)),
    "bilinear": ("oii", (20, 16, 18)),
    "x @ W": ("io", (64, 96)),
    "experts": ("bio", (4, 32, 48)),
    "experts by rows": ("boi", (4, 48, 32)),
    "heads": ("ioo", (64, 4, 24)),
}


def drawn(shape, dtype=torch.float32, **arguments):
    tensor = torch.full(shape, math.nan, dtype=dtype)
    known = {"distribution": "normal", "std": 0.05, "seed": 1, "name": "layer.weight"}
    fill(tensor, **(known | arguments))
    return tensor


def errors(distribution, values, std):
    """By how many standard errors the sample's root mean square misses std."""
    values = values.double()
    error = std * math.sqrt((KURTOSIS[distribution] - 1) / (4 * values.numel()))
    return abs(values.square().mean().sqrt().item() - std) / error


@pytest.mark.parametrize("distribution", KURTOSIS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_std_is_the_planned_one_in_every_layout(distribution, layout):
    axes, shape = LAYOUTS[layout]
    values = drawn(shape, distribution=distribution, axes=axes)
    assert errors(distribution, values, 0.05) < 4
    assert abs(values.mean().item()) < 4 * 0.05 / math.sqrt(values.numel())


@pytest.mark.parametrize("distribution", KURTOSIS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_std_in_other_dtypes(distribution, dtype):
    values = drawn((300, 200), dtype, distribution=distribution)
    assert values.dtype == dtype
    assert errors(distribution, values, 0.05) < 4


@pytest.mark.parametrize("distribution", KURTOSIS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_hold_the_float32_values_cast(distribution, dtype):
    arguments = {"distribution": distribution}
    assert torch.equal(drawn((50, 60), dtype, **arguments), drawn((50, 60), **arguments).to(dtype))


@pytest.mark.parametrize("distribution", KURTOSIS)
@pytest.mark.parametrize("layout", ["linear", "x @ W", "conv_transpose2d", "experts", "heads", "bilinear"])
def test_slices_have_their_own_std(distribution, layout):
    axes, shape = LAYOUTS[layout]
    outputs = math.prod(size for size, axis in zip(shape, axes, strict=True) if axis == "o")
    third = outputs // 3
    first, second = ((0, third // 2), (2 * third, outputs)), ((third // 2, third),)
    slices = (slice_plan(first, 0.02), slice_plan(second, 0.3))
    values = drawn(shape, distribution=distribution, axes=axes, slices=slices)
    order = [axis for letter in "obik" for axis, each in enumerate(axes) if each == letter]
    rows = values.permute(order).reshape(outputs, -1)
    assert errors(distribution, torch.cat([rows[a:b] for a, b in first]), 0.02) < 4
    assert errors(distribution, rows[third // 2 : third], 0.3) < 4
    assert errors(distribution, rows[third : 2 * third], 0.05) < 4


ORACLES = {
    "normal": scipy.stats.norm(scale=0.05),
    "uniform": scipy.stats.uniform(loc=-0.05 * math.sqrt(3), scale=0.1 * math.sqrt(3)),
    "truncated_normal": scipy.stats.truncnorm(-2, 2, scale=0.05 / scipy.stats.truncnorm.std(-2, 2)),
}
"""What scipy says of the values; those that are drawn as matrices are held against their definition below."""


def test_every_distribution_has_an_oracle():
    assert set(KURTOSIS) == set(DISTRIBUTIONS)
    assert set(ORACLES) == {name for name, row in DISTRIBUTIONS.items() if row.by_element}
    assert set(DISTRIBUTIONS) - set(ORACLES) == {"orthogonal"}


@pytest.mark.parametrize("distribution", ORACLES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_distribution_by_kolmogorov_and_smirnov(distribution, seed):
    values = drawn((700, 501), distribution=distribution, seed=seed).flatten().numpy()
    assert scipy.stats.kstest(values, ORACLES[distribution].cdf).pvalue > 1e-4


def test_normal_has_independent_elements_and_full_tails():
    values = drawn((4_000_000,), std=1.0).numpy().astype(np.float64)
    assert scipy.stats.kurtosis(values) == pytest.approx(0.0, abs=4 * math.sqrt(24 / values.size))
    beyond = (np.abs(values) > 4.5).sum()
    expected = values.size * 2 * scipy.stats.norm.sf(4.5)
    assert abs(beyond - expected) < 4 * math.sqrt(expected)
    for lag in (1, 2, BLOCK // 2, CHUNK):
        correlation = (values[:-lag] * values[lag:]).mean()
        assert abs(correlation) < 4 / math.sqrt(values.size - lag)
        squares = ((values[:-lag] ** 2 - 1) * (values[lag:] ** 2 - 1)).mean()
        assert abs(squares) < 4 * 2 / math.sqrt(values.size - lag)


def test_truncation_constant():
    assert pytest.approx(scipy.stats.truncnorm.std(-2, 2), rel=1e-12) == TRUNCATED_STD


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_nothing_piles_up_at_the_cut(dtype):
    std = 0.02
    values = drawn((1000, 1000), dtype, distribution="truncated_normal", std=std).float().abs()
    bound = 2 * std / scipy.stats.truncnorm.std(-2, 2)
    assert values.max().item() <= bound * (1 + torch.finfo(dtype).eps)
    # What a cast gathers on one number: the density at the cut times the distance between neighbours there.
    apart = 2.0 ** math.floor(math.log2(bound)) * torch.finfo(dtype).eps
    density = 2 * scipy.stats.truncnorm.pdf(2, -2, 2) * 2 / bound
    expected = max(values.numel() * density * apart, 1)
    assert (values == values.max()).sum().item() < expected + 4 * math.sqrt(expected)


def test_uniform_stays_within_its_bound():
    values = drawn((1000, 1000), distribution="uniform", std=0.02)
    bound = 0.02 * math.sqrt(3)
    assert bound * 0.9999 < values.abs().max().item() <= bound * (1 + 1e-6)


@pytest.mark.parametrize("shape", [(64, 64), (30, 100), (100, 30), (32, 8, 3, 3)])
def test_orthogonal_is_what_torch_makes_scaled(shape):
    matrix = drawn(shape, distribution="orthogonal").flatten(1)
    rows, columns = matrix.shape
    gram = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
    torch.testing.assert_close(gram, 0.05**2 * max(rows, columns) * torch.eye(min(rows, columns)), atol=1e-5, rtol=0)


def test_orthogonal_takes_rows_from_the_output_axis():
    transposed = drawn((32, 8, 3, 3), distribution="orthogonal", axes="iokk")
    matrix = transposed.permute(1, 0, 2, 3).flatten(1)
    torch.testing.assert_close(matrix @ matrix.T, 0.05**2 * 288 * torch.eye(8), atol=1e-5, rtol=0)


def test_orthogonal_per_expert_and_per_slice():
    experts = drawn((3, 20, 30), distribution="orthogonal", axes="bio")
    for each in experts:
        torch.testing.assert_close(each @ each.T, 0.05**2 * 30 * torch.eye(20), atol=1e-5, rtol=0)
    assert not torch.equal(experts[0], experts[1])
    gates = tuple(slice_plan(((at, at + 32),), 0.1) for at in range(0, 128, 32))
    hidden = drawn((128, 32), distribution="orthogonal", slices=gates)
    for gate in hidden.split(32):
        torch.testing.assert_close(gate @ gate.T, 0.1**2 * 32 * torch.eye(32), atol=1e-5, rtol=0)


def test_orthogonal_is_uniform_in_sign():
    diagonals = torch.stack([drawn((6, 6), distribution="orthogonal", seed=n).diagonal() for n in range(400)])
    positive = (diagonals > 0).sum().item()
    assert abs(positive - 1200) < 4 * math.sqrt(2400 / 4)


def test_delta_orthogonal():
    values = drawn((16, 24, 3, 3), distribution="orthogonal", axes="oikk", delta=True)
    centre = values[:, :, 1, 1].clone()
    torch.testing.assert_close(centre @ centre.T, 0.05**2 * 9 * 24 * torch.eye(16), atol=1e-5, rtol=0)
    assert values.square().mean().sqrt().item() == pytest.approx(0.05, rel=1e-5)
    values[:, :, 1, 1] = 0
    assert not values.any()


@pytest.mark.parametrize("distribution", KURTOSIS)
@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.to(memory_format=torch.channels_last),
        lambda t: t.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
        lambda t: torch.empty(64, 32, 6, 5)[:, ::2, ::2, :][:, :, :, :3].copy_(t),
    ],
)
def test_memory_format_changes_nothing(distribution, change):
    arguments = {"distribution": distribution, "std": 0.05, "seed": 4, "name": "w", "axes": "oikk"}
    slices = (slice_plan(((3, 40),), 0.2),)
    plain, other = torch.empty(64, 16, 3, 3), change(torch.empty(64, 16, 3, 3))
    assert not other.is_contiguous()
    fill(plain, slices=slices, **arguments)
    fill(other, slices=slices, **arguments)
    assert torch.equal(plain, other)


@pytest.mark.parametrize("distribution", KURTOSIS)
def test_values_depend_on_seed_name_and_shape(distribution):
    known = {"distribution": distribution}
    one = drawn((12, 12), **known)
    assert torch.equal(one, drawn((12, 12), **known))
    for change in ({"seed": 2}, {"seed": -1}, {"seed": 2**80}, {"name": "other.weight"}):
        assert not torch.equal(one, drawn((12, 12), **(known | change)))
    assert not torch.equal(one.flatten(), drawn((6, 24), **known).flatten())


def test_chunks_differ():
    values = drawn((2 * CHUNK,))
    assert not torch.equal(values[:CHUNK], values[CHUNK:])
    assert len({(piece.start, piece.stop) for piece in Draw("normal", 1.0, 0, "w", (2 * CHUNK + 1,)).pieces}) == 3


def test_torch_random_state_is_left_alone():
    state = torch.get_rng_state()
    for distribution in KURTOSIS:
        drawn((20, 20), distribution=distribution)
    assert torch.equal(state, torch.get_rng_state())


PROGRAM = """
import hashlib, torch
torch.set_num_threads({threads})
from autoinit.writing.sampling import fill
digest = hashlib.sha256()
for distribution in ("normal", "uniform", "truncated_normal", "orthogonal"):
    tensor = torch.empty(300, 200)
    fill(tensor, distribution=distribution, std=0.1, seed=7, name="w")
    digest.update(tensor.numpy().tobytes())
print(digest.hexdigest())
"""


def test_other_processes_and_thread_counts_give_the_same_bits():
    command = [sys.executable, "-c"]
    run = [
        subprocess.run([*command, PROGRAM.format(threads=n)], capture_output=True, text=True, check=True).stdout
        for n in (1, 3)
    ]
    assert run[0] == run[1] != ""


def test_what_only_recipes_write():
    """N(0, 1) cut at +-3 and brought back to unit std ends at 3 / 0.98658 (scipy); a constant is its mean.

    A sample of n has the standard error sqrt((kurtosis - 1) / (4 n)) of its std, here with 3 for the kurtosis.
    """
    cut = scipy.stats.truncnorm(-3, 3)
    values = drawn((400, 500), distribution="truncated_normal_3", std=0.05).double()
    assert errors("normal", values, 0.05) < 4
    assert values.abs().max().item() == pytest.approx(0.05 * 3 / cut.std(), rel=1e-3)
    moved = torch.full((4, 5), math.nan)
    draw = Draw("constant", 0.0, 1, "gain", (4, 5), mean=0.1)
    fill_all_of(moved, draw)
    assert bool((moved == 0.1).all())
