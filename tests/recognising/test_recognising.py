"""Portraits against numpy and scipy; recipes against torch.nn.init and torch.nn's own first weights."""

from __future__ import annotations

import json
import math
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats
from torch import nn
from torch.nn import init

from autoinit import plan
from autoinit.recognising._totals import totals
from autoinit.recognising.families import kurtosis_fits, likelihoods, log_gamma_part, truncated_std
from autoinit.recognising.portrait import portray, spread
from autoinit.recognising.recipes import Recipe, written
from autoinit.recognising.recognition import Recognition, recognise
from tests.shared.plan_builders import layer_plan, slice_plan
from tests.shared.started import python

ROOT_2 = math.sqrt(2)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=seeded(seed)) * 2 - 1


def cut(*shape, seed=0, at=2.0):
    return init.trunc_normal_(torch.empty(*shape), 0, 1, -at, at, generator=seeded(seed))


DRAWN = {"normal": normal, "uniform": uniform, "truncated_normal": cut}


def recognised(weight, layer=None, rows=(), axes=None):
    layer = layer or layer_plan("weight", tuple(weight.shape))
    return recognise(portray(weight, axes or layer.axes), layer, rows)


def names(recognition):
    return [recipe.name for recipe in recognition.recipes]


# The pass over all of a weight.


@pytest.mark.parametrize(
    ("axes", "shape"),
    [("oi", (5, 7)), ("io", (5, 7)), ("oikk", (6, 5, 3, 2)), ("iokk", (6, 5, 3, 2)), ("bio", (3, 4, 5)),
     ("ioo", (4, 3, 5)), ("boi", (2, 3, 5)), ("oii", (3, 4, 5)), ("kio", (3, 4, 5)), ("o", (6,)), ("ob", (4, 3))],
)  # fmt: skip
@pytest.mark.parametrize("order", ["row major", "reversed", "every other"])
def test_power_of_every_output_feature(axes, shape, order):
    weight = normal(*shape).double()
    if order == "reversed":
        weight = weight.permute(*reversed(range(len(shape)))).contiguous().permute(*reversed(range(len(shape))))
    elif order == "every other":
        weight = torch.stack([weight, weight + 1], -1)[..., 0]
    by_hand = weight.numpy().transpose([axis for letter in "boik" for axis, each in enumerate(axes) if each == letter])
    copies = math.prod(size for size, each in zip(shape, axes, strict=True) if each == "b")
    outputs = math.prod(size for size, each in zip(shape, axes, strict=True) if each == "o")
    found = totals(weight, axes)
    expected = np.square(by_hand.reshape(copies, outputs, -1)).mean(-1)
    np.testing.assert_allclose(found.power, expected, rtol=1e-12)
    assert found.stats.std == pytest.approx(float(weight.std(correction=0)), rel=1e-9)


@pytest.mark.parametrize(("axes", "shape"), [("oi", (700, 900)), ("io", (3, 300_000)), ("bio", (2, 600, 500))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_power_over_several_blocks(axes, shape, dtype):
    weight = normal(*shape).to(dtype)
    width = [size for size, each in zip(shape, axes, strict=True) if each == "i"]
    reduced = weight.double().square().sum([axis for axis, each in enumerate(axes) if each == "i"]) / math.prod(width)
    found = totals(weight, axes).power
    np.testing.assert_allclose(found, reduced.reshape(found.shape).numpy(), rtol=1e-5)


def test_values_that_are_not_finite_spoil_nothing():
    weight = normal(5, 6)
    clean = weight.double().square()
    weight[0, 2], weight[1, 0], weight[3] = math.nan, math.inf, -math.inf
    portrait = portray(weight, "oi")
    assert portrait.stats.nonfinite == 8
    expected = [(clean[0].sum() - clean[0, 2]) / 5, clean[1, 1:].mean(), clean[2].mean(), 0, clean[4].mean()]
    np.testing.assert_allclose(portrait.power[0], [float(each) for each in expected], rtol=1e-6)
    assert not portrait.orthogonal
    assert portray(torch.full((3, 3), math.nan), "oi").family == "unknown"


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1.0, 1e25])
def test_extreme_scales(scale):
    weight = normal(64, 50) * scale
    portrait = portray(weight, "oi")
    assert portrait.rms() == pytest.approx(float(weight.double().square().mean().sqrt()), rel=1e-5)
    assert portrait.families == ("normal",)


@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    data=st.data(),
)
@settings(max_examples=60)
def test_portraits_of_any_shape(shape, data):
    axes = "o" + "".join(data.draw(st.lists(st.sampled_from("oikb"), min_size=len(shape) - 1, max_size=len(shape) - 1)))
    axes = "".join(data.draw(st.permutations(axes)))
    weight = normal(*shape, seed=data.draw(st.integers(0, 99)))
    before = weight.clone()
    portrait = portray(weight, axes)
    assert torch.equal(weight, before)
    assert portrait.count() == weight.numel()
    assert portrait.rms() == pytest.approx(float(weight.square().mean().sqrt()), rel=1e-5)
    assert portrait.family in portrait.families
    recognise(portrait, layer_plan("weight", tuple(shape), axes=axes))


def test_rows_and_copies():
    weight = torch.stack([torch.full((4, 3), 1.0), torch.full((4, 3), 2.0)])
    weight[:, 2:] *= 10
    portrait = portray(weight, "boi")
    assert (portrait.width, portrait.power.shape) == (3, (2, 4))
    assert portrait.rms(((0, 2),)) == pytest.approx(math.sqrt((1 + 4) / 2))
    assert portrait.rms(((1, 2), (3, 4))) == pytest.approx(math.sqrt((1 + 4 + 100 + 400) / 4))
    assert portrait.count(((1, 2), (3, 4))) == 12
    assert portrait.count() == 24


def test_meta_weights_and_empty_ones():
    assert portray(torch.empty(3, 4, device="meta"), "oi") is None
    empty = portray(torch.empty(0, 4), "oi")
    assert (empty.stats.numel, empty.twins) == (0, ())
    assert math.isnan(empty.rms())


# Noise.


@pytest.mark.parametrize("count", [30, 1000, 100_000])
@pytest.mark.parametrize("kurtosis", [3.0, 1.8])
def test_spread_is_that_of_chi_square(count, kurtosis):
    freedom = 2 * count / (kurtosis - 1)
    low, high = spread(count, kurtosis)
    assert low == pytest.approx(math.sqrt(stats.chi2.ppf(5e-8, freedom) / freedom), rel=0.04)
    assert high == pytest.approx(math.sqrt(stats.chi2.isf(5e-8, freedom) / freedom), rel=0.01)
    assert low < 1 < high


def test_spread_at_the_ends():
    assert spread(0) == (0.0, math.inf)
    assert spread(100, 1.0) == (1.0, 1.0)
    assert spread(1)[0] == 0.0


@pytest.mark.parametrize("family", DRAWN)
def test_fresh_weights_stay_within_the_spread(family):
    kurtosis = {"normal": 3.0, "uniform": 1.8, "truncated_normal": stats.truncnorm.stats(-2, 2, moments="k") + 3}
    true = {"normal": 1.0, "uniform": 1 / math.sqrt(3), "truncated_normal": stats.truncnorm.std(-2, 2)}
    for count in (16, 400):
        low, high = spread(count, float(kurtosis[family]))
        ratios = DRAWN[family](2000, count).square().mean(1).sqrt() / float(true[family])
        assert ((ratios > low) & (ratios < high)).all()


# Families.


@pytest.mark.parametrize("values", [[0.3, -1.1], [0.5, -0.2, 0.9, 0.1], [2.0, 0.1, -0.4, 0.3, 1.9, -0.7]])
def test_likelihoods_are_averages_over_scales(values):
    x = np.array(values)
    found = likelihoods(len(x), float(np.square(x).sum()), float(np.abs(x).max()))
    density = {
        "normal": stats.norm.pdf,
        "uniform": lambda z: stats.uniform.pdf(z, -1, 2),
        "truncated_normal": lambda z: stats.truncnorm.pdf(z, -2, 2),
    }
    for family, value in found.items():
        kinks = [math.log(np.abs(x).max()), math.log(np.abs(x).max() / 2)]
        integral, _ = integrate.quad(
            lambda t, pdf=density[family]: float(np.prod(pdf(x / math.exp(t)) / math.exp(t))),
            -6, 12, points=kinks, limit=400,
        )  # fmt: skip
        assert value == pytest.approx(math.log(integral), abs=1e-4)


@pytest.mark.parametrize(("a", "x"), [(0.5, 0.2), (2, 1), (2, 3), (100, 50), (100, 99.9), (100, 140)])
def test_incomplete_gamma(a, x):
    assert log_gamma_part(a, x) == pytest.approx(math.log(special.gammainc(a, x)), rel=1e-8)


def test_incomplete_gamma_below_all_floats():
    # P(a, x) = x^a e^-x / Gamma(a + 1) * 1F1(1; a + 1; x), the last being nearly 1 / (1 - x / a).
    a, x = 30_000.0, 20_000.0
    leading = a * math.log(x) - x - math.lgamma(a + 1)
    assert leading < -800
    assert log_gamma_part(a, x) == pytest.approx(leading + math.log(1 / (1 - x / a)), abs=1e-3)


@pytest.mark.parametrize("at", [1.0, 2.0, 3.0])
def test_std_of_a_truncated_normal(at):
    assert truncated_std(at) == pytest.approx(stats.truncnorm.std(-at, at), rel=1e-9)


@pytest.mark.parametrize("count", [600, 5000])
def test_kurtosis_of_normal_samples_as_scipy_tests_it(count):
    for seed in range(20):
        sample = normal(count, seed=seed).double().numpy()
        sample[: count // 100] *= 1 + seed / 4
        score = stats.kurtosistest(sample).statistic
        if abs(abs(score) - 5.33) > 0.4:
            assert kurtosis_fits(stats.kurtosis(sample, fisher=False), count, "normal") == (abs(score) < 5.33)


@pytest.mark.parametrize("family", DRAWN)
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 9), (16, 32), (600, 1), (1, 600), (48, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_family_that_drew_a_weight_is_never_ruled_out(family, shape, dtype):
    for seed in range(40):
        weight = (DRAWN[family](*shape, seed=seed) * 0.037).to(dtype)
        assert family in portray(weight, "oi").families


@pytest.mark.parametrize("family", DRAWN)
def test_large_weights_have_one_family(family):
    for seed in range(10):
        weight = DRAWN[family](128, 96, seed=seed)
        assert portray(weight, "oi").families == (family,)
        assert portray(weight.view(32, 4, 96).transpose(1, 2), "oik").families == (family,)


def test_a_truncation_seen_only_far_from_its_cut():
    # The likelihood of the untruncated normal is below the smallest float here.
    weight = cut(512, 512, seed=3)
    assert portray(weight, "oi").families == ("truncated_normal",)
    wide = portray(cut(256, 256, seed=3, at=3.0), "oi")
    assert (wide.family, wide.drawn.cut) == ("truncated_normal", 3.0)


@pytest.mark.parametrize("family", DRAWN)
def test_kurtosis(family):
    weight = DRAWN[family](200, 300)
    expected = {"normal": 3.0, "uniform": 1.8, "truncated_normal": float(stats.truncnorm.stats(-2, 2, moments="k")) + 3}
    assert portray(weight, "oi").kurtosis == pytest.approx(expected[family], abs=0.1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w + 0.2, "mean"),
        (lambda w: w.pow(3), "kurtosis"),
        (lambda w: w.sign() + 0.01 * w, "kurtosis"),
        (lambda w: w * torch.linspace(0.5, 2, 128)[:, None], "kurtosis"),
        (lambda w: w * torch.tensor([0.93, 1.07]).repeat(64)[:, None], "rows differ in scale"),
        (lambda w: w * torch.tensor([0.93, 1.07]).repeat(128), "columns differ in scale"),
        (lambda w: w + 0.3 * torch.tensor([1.0, -1.0]).repeat(64)[:, None], "rows have means of their own"),
        (lambda w: w + 0.4 * torch.outer(torch.tensor([1.0, -1.0]).repeat(64), torch.tensor([1.0, -1.0]).repeat(128)),
         "rows point the same way"),
    ],
)  # fmt: skip
def test_weights_that_nothing_drew(change, told):
    portrait = portray(change(normal(128, 256)), "oi")
    assert portrait.families == ("unknown",)
    assert told in portrait.drawn.misfit


def test_parts_of_different_scale_have_one_family():
    weight = torch.cat([normal(64, 64), 3 * normal(64, 64, seed=1), normal(64, 64, seed=2)])
    portrait = portray(weight, "oi")
    assert portrait.families == ("normal",)
    uneven = torch.cat([uniform(96, 64), 3 * uniform(32, 64, seed=1)])
    assert portray(uneven, "oi").fit(((0, 96),)).likely == ("uniform",)


# Patterns.


def gates(parts, height, width, gain=1.0):
    return torch.cat([init.orthogonal_(torch.empty(height, width), gain, seeded(seed)) for seed in range(parts)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("gain", [1.0, ROOT_2, 0.01])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [((64, 64), "oi"), ((40, 90), "oi"), ((90, 40), "oi"), ((90, 40), "io"), ((32, 16, 3, 3), "oikk"),
     ((32, 16, 3, 3), "iokk"), ((64, 1, 3, 3), "oikk"), ((24, 8, 4), "oii")],
)  # fmt: skip
def test_orthogonal_weights(shape, axes, gain, dtype):
    weight = init.orthogonal_(torch.empty(shape), gain, seeded(0)).to(dtype)
    portrait = portray(weight, axes)
    assert portrait.orthogonal
    assert portrait.families == ("orthogonal",)
    layer = layer_plan("weight", shape, axes=axes)
    first = recognise(portrait, layer).recipes[0]
    assert first.name == f"orthogonal(gain={written(gain)})"
    rows, columns = shape[0], math.prod(shape[1:])
    # Each of the shorter side's vectors has squared length gain^2.
    assert first.std == pytest.approx(gain * math.sqrt(min(rows, columns) / (rows * columns)), rel=2e-3)


def test_delta_orthogonal_kernels():
    for outputs, inputs in ((16, 16), (64, 16), (16, 64)):
        weight = torch.zeros(outputs, inputs, 3, 3)
        weight[:, :, 1, 1] = init.orthogonal_(torch.empty(outputs, inputs), ROOT_2, seeded(0))
        assert portray(weight, "oikk").orthogonal
        assert names(recognised(weight))[0] == "orthogonal(gain=sqrt(2))"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (2, 2), (3, 3), (2, 50), (64, 64), (16, 8, 3, 3)])
def test_random_weights_are_not_orthogonal(shape, dtype):
    for seed in range(40):
        for draw in DRAWN.values():
            assert not portray(draw(*shape, seed=seed).to(dtype), "oikk"[: len(shape)]).orthogonal


def test_gates_that_are_orthogonal_together_or_each():
    layer = layer_plan("lstm.weight_hh_l0", (128, 32), op="lstm")
    together = init.orthogonal_(torch.empty(128, 32), 1.0, seeded(0))
    found = recognise(portray(together, "oi"), layer, ((0, 32),)).recipes
    assert [(each.name, each.fans) for each in found] == [("orthogonal(gain=1)", "packed")]
    assert found[0].std == pytest.approx(1 / math.sqrt(128), rel=1e-3)
    each = recognise(portray(gates(4, 32, 32), "oi"), layer, ((0, 32),)).recipes
    assert "orthogonal(gain=1) of each of 4 parts" in [recipe.name for recipe in each]
    assert {round(recipe.std, 5) for recipe in each} == {round(1 / math.sqrt(32), 5)}
    narrow = portray(gates(3, 24, 60), "oi")
    assert [frame.parts for frame in narrow.frames] == [3]


@pytest.mark.parametrize("gain", [1.0, 0.01])
def test_one_row_of_a_usual_length(gain):
    weight = init.orthogonal_(torch.empty(1, 64), gain, seeded(0))
    assert names(recognised(weight))[0] == f"orthogonal(gain={gain:g})"
    assert not any(name.startswith("orthogonal") for name in names(recognised(normal(1, 64))))


@pytest.mark.parametrize(
    ("weight", "axes"),
    [(torch.eye(5), "oi"), (torch.eye(5, 3), "oi"), (torch.eye(3, 5) * 0.5, "io"), (-torch.eye(4), "oi"),
     (init.dirac_(torch.empty(8, 8, 3, 3)), "oikk"), (init.dirac_(torch.empty(8, 2, 3), groups=4), "oik")],
)  # fmt: skip
def test_identities(weight, axes):
    portrait = portray(weight, axes)
    assert portrait.identity
    assert not portrait.orthogonal
    assert portrait.families == ("identity",)


def test_what_is_no_identity():
    two_in_a_row = torch.eye(4)
    two_in_a_row[0, 1] = 1
    unequal = torch.diag(torch.tensor([1.0, 1.0, 1.01]))
    hidden = torch.tensor([[0.6, 0.8, 0, 0], [1.0, 0, 0, 0]])
    for weight in (two_in_a_row, unequal, hidden, torch.ones(3, 3), torch.zeros(3, 3), normal(3, 3)):
        assert not portray(weight, "oi").identity


def test_zeros_and_constants():
    zeros = recognised(torch.zeros(3, 4))
    assert (zeros.family, str(zeros)) == ("zeros", "zeros")
    constant = recognised(torch.full((3, 4), 0.5))
    assert (constant.family, str(constant)) == ("constant", "constant(0.5)")
    assert str(recognised(torch.eye(4))) == "identity"
    assert str(recognised(torch.eye(4) / 2)) == "identity x 0.5"
    half = torch.cat([normal(8, 50), torch.zeros(8, 50)])
    assert recognise(portray(half, "oi"), layer_plan("w", (16, 50)), ((8, 16),)).family == "zeros"


def test_twins():
    weight = normal(50, 40)
    assert portray(weight, "oi").twins == ()
    weight[3] = weight[7]
    weight[8] = weight[9] = weight[20]
    assert portray(weight, "oi").twins == ((3, 7), (8, 9), (9, 20))
    weight[21:] = weight[20]
    assert len(portray(weight, "oi").twins) == 8
    experts = normal(3, 6, 5)
    experts[2, :, 1] = experts[0, :, 4]
    assert portray(experts, "bio").twins == ((4, 11),)
    assert portray(torch.cat([normal(2, 9), torch.zeros(5, 9)]), "oi").twins == ()


def test_twins_by_chance_are_none():
    few_digits = uniform(512, 1).bfloat16()
    assert len(few_digits.unique()) < 512
    assert portray(few_digits, "oi").twins == ()
    almost = normal(6, 40)
    almost[1] = almost[0]
    almost[1, 39] += 1e-6
    assert portray(almost, "oi").twins == ()


def test_values_that_pile_up_at_the_bound():
    weight = normal(64, 64).clamp(-1, 1)
    beyond = 2 * stats.norm.sf(1)
    assert portray(weight, "oi").at_bound == pytest.approx(beyond, abs=0.03)
    assert portray(normal(64, 64), "oi").at_bound == pytest.approx(2 / 64**2)


# Recipes: torch's defaults.


class Bilinear(nn.Bilinear):
    def forward(self, x):
        return super().forward(x, x)


class Attention(nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x)[0]


DEFAULTS = [
    (lambda: nn.Linear(40, 60), (2, 40), {"": 1 / math.sqrt(3 * 40)}),
    (lambda: nn.Conv1d(10, 20, 5), (2, 10, 9), {"": 1 / math.sqrt(3 * 10 * 5)}),
    (lambda: nn.Conv2d(12, 24, 3, groups=4), (2, 12, 9, 9), {"": 1 / math.sqrt(3 * 3 * 9)}),
    (lambda: nn.ConvTranspose2d(12, 20, 4, 2), (2, 12, 9, 9), {"": 1 / math.sqrt(3 * 20 * 16)}),
    (lambda: Bilinear(9, 9, 20), (2, 9), {"": 1 / math.sqrt(3 * 9)}),
    (lambda: nn.RNN(20, 30), (4, 2, 20), dict.fromkeys(("weight_ih_l0", "weight_hh_l0"), 1 / math.sqrt(90))),
    (lambda: nn.LSTM(20, 30, proj_size=12), (4, 2, 20),
     dict.fromkeys(("weight_ih_l0", "weight_hh_l0", "weight_hr_l0"), 1 / math.sqrt(90))),
    (lambda: nn.GRU(20, 30), (4, 2, 20), dict.fromkeys(("weight_ih_l0", "weight_hh_l0"), 1 / math.sqrt(90))),
    (lambda: Attention(32, 4), (4, 2, 32),
     {"in_proj_weight": math.sqrt(2 / (32 + 96)), "out_proj": 1 / math.sqrt(3 * 32)}),
    (lambda: nn.Sequential(nn.Linear(50, 20), nn.LeakyReLU(0.2)), (2, 50), {"0": 1 / math.sqrt(3 * 50)}),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shape", "stds"), DEFAULTS)
def test_torchs_defaults(make, shape, stds):
    torch.manual_seed(0)
    model = make()
    model = nn.Sequential(model) if "" in stds else model
    for layer in plan(model, torch.zeros(shape)).layers:
        expected = stds.get(layer.name, stds.get(""))
        found = recognised(model.get_parameter(layer.param), layer)
        assert found.family == "uniform"
        first = found.recipes[0]
        assert (first.kind, first.distribution) == ("default", "uniform")
        assert "torch's default" in first.name
        assert first.std == pytest.approx(expected, rel=1e-9)
        for part in layer.slices:
            named = recognised(model.get_parameter(layer.param), layer, part.rows).recipes
            assert any(each.kind == "default" and each.std == pytest.approx(expected) for each in named)


def test_the_default_of_an_embedding_that_is_tied():
    layer = layer_plan("head.weight", (400, 64), note="tied to an embedding, whose table it is too")
    torch.manual_seed(0)
    table = nn.Embedding(400, 64, padding_idx=3).weight
    found = recognised(table, layer)
    assert (found.recipes[0].kind, found.recipes[0].std) == ("default", 1.0)


# Recipes: what torch.nn.init draws.


RELU = layer_plan("conv.weight", (64, 32, 3, 3), op="conv2d", fan_in=32 * 9.0, fan_out=64 * 9.0)
LEAKY = layer_plan("conv.weight", (64, 32, 3, 3), op="conv2d", fan_in=32 * 9.0, fan_out=64 * 9.0,
                   nonlinearity="leaky_relu", params={"negative_slope": 0.2}, gain=math.sqrt(2 / 1.04))  # fmt: skip
CALLS = [
    (lambda w, g: init.kaiming_normal_(w, nonlinearity="relu", generator=g), "kaiming_normal(fan_in, relu)"),
    (lambda w, g: init.kaiming_uniform_(w, nonlinearity="relu", generator=g), "kaiming_uniform(fan_in, relu)"),
    (lambda w, g: init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu", generator=g),
     "kaiming_normal(fan_out, relu)"),
    (lambda w, g: init.kaiming_normal_(w, 0.2, generator=g), "kaiming_normal(fan_in, a=0.2)"),
    (lambda w, g: init.kaiming_normal_(w, nonlinearity="tanh", generator=g), "kaiming_normal(fan_in, tanh)"),
    (lambda w, g: init.kaiming_uniform_(w, a=math.sqrt(5), generator=g), "kaiming_uniform(a=sqrt(5)), torch's default"),
    (lambda w, g: init.xavier_normal_(w, generator=g), "xavier_normal"),
    (lambda w, g: init.xavier_uniform_(w, generator=g), "xavier_uniform"),
    (lambda w, g: init.xavier_normal_(w, 5 / 3, generator=g), "xavier_normal(gain=5/3)"),
    (lambda w, g: init.normal_(w, 0, 0.02, generator=g), "normal(0.02)"),
    (lambda w, g: init.normal_(w, 0, 0.001, generator=g), "normal(0.001)"),
    (lambda w, g: init.uniform_(w, -0.08, 0.08, generator=g), "uniform(-0.08, 0.08)"),
    (lambda w, g: init.trunc_normal_(w, 0, 0.02, -0.04, 0.04, generator=g), "trunc_normal(0.02)"),
    (lambda w, g: init.trunc_normal_(w, 0, 0.02, generator=g), "normal(0.02)"),
    (lambda w, g: init.kaiming_normal_(w, nonlinearity="relu", generator=g).mul_(0.01),
     "kaiming_normal(fan_in, relu) x 0.01"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "name"), CALLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_call_is_among_the_first_two(call, name, dtype):
    layer = LEAKY if "a=0.2" in name else RELU
    weight = call(torch.empty(64, 32, 3, 3), seeded(1)).to(dtype)
    assert name in names(recognised(weight, layer))[:2]


SIZES = [(5, 4), (24, 40), (128, 96)]
PLAIN = [each for each in CALLS if " x " not in each[1]]


@pytest.mark.parametrize(("call", "name"), PLAIN)
@pytest.mark.parametrize("shape", SIZES)
def test_the_truth_is_always_among_those_named(call, name, shape):
    layer = layer_plan("fc.weight", shape, fan_in=float(shape[1]), fan_out=float(shape[0]))
    draws = 60 if shape == SIZES[-1] else 200
    for seed in range(draws):
        assert name in names(recognised(call(torch.empty(shape), seeded(seed)), layer))


def by_name(recognition, name):
    return next(recipe for recipe in recognition.recipes if recipe.name == name)


def test_fans_that_torch_reads_from_the_shape():
    # Stride area 4: a true fan_in of 96 * 16 / 4; torch's fan_in is shape[1] * 16.
    layer = layer_plan("up.weight", (96, 24, 4, 4), axes="iokk", op="conv_transpose2d", fan_in=384.0, fan_out=384.0)
    weight = init.kaiming_normal_(torch.empty(96, 24, 4, 4), mode="fan_out", nonlinearity="relu", generator=seeded(0))
    recipe = recognised(weight, layer).recipes[0]
    assert (recipe.mode, recipe.fans, recipe.gain) == ("fan_out", "torch", ROOT_2)
    assert recipe.std == pytest.approx(math.sqrt(2 / (96 * 16)))


def test_fans_that_ignore_groups():
    layer = layer_plan("dw.weight", (256, 1, 3, 3), op="conv2d", fan_in=9.0, fan_out=9.0)
    weight = init.kaiming_normal_(torch.empty(256, 1, 3, 3), mode="fan_out", nonlinearity="relu", generator=seeded(0))
    found = recognised(weight, layer)
    recipe = by_name(found, "kaiming_normal(fan_out, relu, torch's fans)")
    assert recipe.std == pytest.approx(math.sqrt(2 / (256 * 9)))
    assert "kaiming_normal(fan_out, relu)" not in names(found)


def test_slices_scaled_as_one_matrix():
    parts = tuple(slice_plan(((at, at + 64),), 0.1) for at in (0, 64, 128))
    parts = tuple(type(part)(**{**vars(part), "fan_in": 64.0, "fan_out": 64.0}) for part in parts)
    layer = layer_plan("in_proj_weight", (192, 64), op="multi_head_attention", slices=parts, fan_in=64.0, fan_out=64.0)
    packed = init.xavier_normal_(torch.empty(192, 64), generator=seeded(0))
    recipe = by_name(recognised(packed, layer, ((64, 128),)), "xavier_normal(packed fans)")
    assert (recipe.fans, recipe.std) == ("packed", pytest.approx(math.sqrt(2 / 256)))
    each = torch.cat([init.xavier_normal_(torch.empty(64, 64), generator=seeded(seed)) for seed in range(3)])
    found = recognised(each, layer, ((64, 128),)).recipes[0]
    assert (found.kind, found.fans, found.std) == ("xavier", "true", pytest.approx(math.sqrt(2 / 128)))
    mixed = torch.cat([each[:128], 0.02 * normal(64, 64)])
    assert names(recognised(mixed, layer, ((128, 192),)))[0] == "normal(0.02)"
    assert recognised(mixed, layer, ((64, 128),)).recipes[0].kind == "xavier"


def test_a_weight_that_is_read_the_other_way():
    layer = layer_plan("weight", (40, 160), axes="io", op="matmul", fan_in=40.0, fan_out=160.0)
    weight = init.kaiming_normal_(torch.empty(40, 160), nonlinearity="relu", generator=seeded(0))
    found = by_name(recognised(weight, layer), "kaiming_normal(fan_in, relu, torch's fans)")
    assert (found.fans, found.std) == ("torch", pytest.approx(math.sqrt(2 / 160)))


@pytest.mark.parametrize(("slope", "told"), [(ROOT_2, "a=sqrt(2)"), (5 / 3, "a=5/3")])
def test_a_gain_passed_as_slope(slope, told):
    shape = (200, 100)
    layer = layer_plan("fc.weight", shape, fan_in=100.0, fan_out=200.0, nonlinearity="tanh", gain=5 / 3)
    weight = init.kaiming_normal_(torch.empty(shape), a=slope, generator=seeded(0))
    recipe = by_name(recognised(weight, layer), f"kaiming_normal(fan_in, {told})")
    assert recipe.std == pytest.approx(math.sqrt(2 / (1 + slope**2) / 100))


def test_the_fourth_root_of_the_fan():
    layer = layer_plan("fc.weight", (256, 300), fan_in=300.0, fan_out=256.0)
    assert "normal of std fan_in^(-1/4)" in names(recognised(normal(256, 300) * 300**-0.25, layer))


def test_variance_scaling_of_jax():
    layer = layer_plan("fc.weight", (150, 200), fan_in=200.0, fan_out=150.0)
    weight = cut(150, 200) / float(stats.truncnorm.std(-2, 2)) / math.sqrt(200)
    recipe = by_name(recognised(weight, layer), "kaiming_truncated_normal(fan_in, linear)")
    assert recipe.corrected
    not_corrected = by_name(recognised(cut(150, 200) * 0.02, layer), "trunc_normal(0.02)")
    assert not not_corrected.corrected
    assert not_corrected.std == pytest.approx(0.02 * stats.truncnorm.std(-2, 2))


def test_a_cut_at_three_sigma():
    layer = layer_plan("fc.weight", (300, 200), fan_in=200.0, fan_out=300.0)
    found = by_name(recognised(cut(300, 200, at=3.0) * 0.02, layer), "trunc_normal(0.02)")
    assert found.std == pytest.approx(0.02 * stats.truncnorm.std(-3, 3))


def test_scales_on_top_are_offered_when_nothing_usual_fits():
    layer = layer_plan("fc.weight", (512, 384), fan_in=384.0, fan_out=512.0)
    weight = normal(512, 384) * 0.02 / math.sqrt(2 * 12)
    recipe = by_name(recognised(weight, layer), "normal(0.02) / sqrt(2*12)")
    assert recipe.factor == pytest.approx(1 / math.sqrt(24))
    plain = recognised(normal(512, 384) * 0.02, layer)
    assert not any(each.factor != 1 for each in plain.recipes)


def test_the_plans_own_scale():
    layer = layer_plan("fc.weight", (256, 256), fan_in=256.0, fan_out=256.0, std=0.0333, gain=1.0)
    recipe = recognised(normal(256, 256) * 0.0333, layer).recipes[0]
    assert (recipe.kind, recipe.name, recipe.std) == ("planned", "autoinit's plan", 0.0333)


def test_slopes_that_noise_hides_are_one_recipe():
    layer = layer_plan("fc.weight", (512, 512), fan_in=512.0, fan_out=512.0)
    weight = init.kaiming_normal_(torch.empty(512, 512), 0.01, generator=seeded(0))
    found = recognised(weight, layer)
    assert names(found)[0] == "kaiming_normal(fan_in, relu)"
    assert not any("0.01" in name for name in names(found))


def test_trained_looking_weights_have_no_recipe():
    assert recognised(normal(128, 256).pow(3)).recipes == ()
    assert str(recognised(normal(128, 256).pow(3))).startswith("unknown (std ")


def test_bounds_of_uniform_weights_tell_more_than_their_std():
    # 1 % apart in scale: the std of 2,000 elements cannot tell, the largest of them can.
    layer = layer_plan("fc.weight", (50, 40), fan_in=40.0, fan_out=50.0)
    bound = 1 / math.sqrt(40)
    assert any(each.kind == "default" for each in recognised(uniform(50, 40) * bound, layer).recipes)
    assert not any(each.kind == "default" for each in recognised(uniform(50, 40) * bound * 1.02, layer).recipes)


def recipe(name):
    return Recipe(name, "absolute", "normal", 0.1)


def test_how_a_recognition_reads():
    assert str(Recognition("normal", 0.1, (recipe("A"),))) == "A"
    assert str(Recognition("normal", 0.1, (recipe("A"), recipe("B")))) == "A or B"
    five = Recognition("normal", 0.1, tuple(map(recipe, "ABCDE")))
    assert str(five) == "A or B or C or 2 more"
    assert str(Recognition("normal", 0.03123, ())) == "unknown (normal, std 0.0312)"


@pytest.mark.parametrize(
    ("value", "told"), [(ROOT_2, "sqrt(2)"), (5 / 3, "5/3"), (0.02, "0.02"), (1.0, "1"), (1.5335308, "1.534")]
)
def test_numbers_as_people_write_them(value, told):
    assert written(value) == told


def test_recipes_are_sorted_by_how_plausible_they_are():
    layer = layer_plan("fc.weight", (100, 100), fan_in=100.0, fan_out=100.0)
    found = names(recognised(init.xavier_normal_(torch.empty(100, 100), generator=seeded(0)), layer))
    order = [found.index(name) for name in ("xavier_normal", "kaiming_normal(fan_in, linear)")]
    assert all(before < after for before, after in pairwise(order))


def test_the_benchmark(tmp_path):
    script = Path(__file__).parents[2] / "benchmarks" / "recognition.py"
    file = tmp_path / "found.json"
    command = [script, "--types", "linear", "--sizes", "16", "--draws", "3"]
    command += ["--recipes", "zeros", "normal(0.02)", "torch's default", "--json", file]
    done = python(*command, env={**os.environ, "COLUMNS": "160"})
    assert done.returncode == 0, done.stderr
    cases = json.loads(file.read_text())["cases"]
    assert [(case["recipe"], case["named"]) for case in cases] == [
        ("torch's default", 3), ("normal(0.02)", 3), ("zeros", 3)
    ]  # fmt: skip
