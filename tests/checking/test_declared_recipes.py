"""Recipes by name: how they are written, and the stds that they give to layers of each kind."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from autoinit.checking._part import Part
from autoinit.checking._subject import subject
from autoinit.checking.recipes import published
from autoinit.errors import ArgumentError
from autoinit.models import ModelView
from autoinit.recipes import table
from autoinit.tracing import trace
from tests.recipes.library_models import MODELS
from tests.recipes.test_by_hand import BY_HAND
from tests.shared.published_cases import CASES


def parts_of(model: nn.Module, inputs: Any) -> tuple[Part, ...]:
    return subject(ModelView.of(model), trace(model, inputs)).parts


def stds_of(recipe: str, module: nn.Module, inputs: Any) -> Sequence[float]:
    return [published(recipe).nearest(part) for part in parts_of(module, inputs)]


def test_framework_defaults_by_layer_type():
    """U(-b, b) has the std b / sqrt(3); b by torch's documentation of each layer."""
    image, sequence = torch.ones(2, 8, 6, 6), torch.ones(2, 5, 8)
    assert stds_of("torch", nn.Linear(8, 3), sequence) == [pytest.approx(1 / math.sqrt(3 * 8))]
    assert stds_of("torch", nn.Conv2d(8, 12, 3, groups=4), image) == [pytest.approx(1 / math.sqrt(3 * 2 * 9))]
    assert stds_of("torch", nn.ConvTranspose2d(8, 12, 3, groups=4), image) == [pytest.approx(1 / math.sqrt(3 * 3 * 9))]
    assert stds_of("torch", nn.GRU(8, 16), sequence) == [pytest.approx(1 / math.sqrt(3 * 16))] * 6
    packed, out = math.sqrt(2 / (8 + 24)), 1 / math.sqrt(3 * 8)
    layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    assert stds_of("torch", layer, sequence)[:4] == [pytest.approx(each) for each in (packed, packed, packed, out)]


@pytest.mark.parametrize("module", [nn.LSTM(16, 32), nn.RNN(16, 32), nn.Conv1d(16, 32, 3), nn.Linear(16, 64)])
def test_framework_defaults_fit(module):
    inputs = torch.ones(2, 16, 16)
    assert all(published("torch").fits(part, 0.01) for part in parts_of(module, inputs))


STDS = {
    "normal(0.02)": (0.02,),
    "trunc_normal(0.02)": (0.02, 0.02 * math.sqrt(0.773741)),
    "uniform(0.3)": (0.3 / math.sqrt(3),),
    "torch": (1 / math.sqrt(3) / 12,),
    "xavier": (math.sqrt(2 / (16 * 9 + 32 * 9)),),
    "lecun": (1 / 12,),
    "mup(0.02, 4)": (0.005, 0.02),
    "kaiming": (math.sqrt(2) / 12,),
    "kaiming(fan_out)": (math.sqrt(2 / (32 * 9)),),
    "kaiming(fan_out, linear)": (math.sqrt(1 / (32 * 9)),),
    "kaiming(fan_in, leaky_relu, 0.2)": (math.sqrt(2 / 1.04) / 12,),
    "Kaiming( fan_avg , relu )": (math.sqrt(4 / (16 * 9 + 32 * 9)),),
}
"""By recipe the stds of a convolution of 16 to 32 channels, 3 x 3, that is the whole model: fan_in 144 = 12 x 12.

The variance of N(0, 1) cut at 2, for truncated normals: 1 - 4 phi(2) / (2 Phi(2) - 1) = 0.7737.
"""


@pytest.mark.parametrize("recipe", STDS)
def test_stds_of_initialisers(recipe):
    (part,) = parts_of(nn.Conv2d(16, 32, 3), torch.ones(1, 16, 8, 8))
    assert published(recipe).stds(part) == pytest.approx(STDS[recipe], rel=1e-5)


def test_every_recipe_has_a_case():
    """In the table above, in the table of published cases, among library's models, or in tests of the recipe itself."""
    pytest.importorskip("transformers", reason="most of the library's models are its own")
    tried = {re.match(r"\w+", recipe.lower())[0] for recipe in STDS} | {case.recipe for case in CASES.values()}
    tried |= {re.match(r"\w+", case.recipe)[0] for case in MODELS.values()} | set(BY_HAND)
    ours = {name for name, each in table().items() if each.rule.__module__.startswith("autoinit.")}
    assert ours
    assert not ours - tried


def test_stride_may_count_in_fan_out_but_groups_must():
    (strided,) = parts_of(nn.Conv2d(16, 32, 3, stride=2), torch.ones(1, 16, 8, 8))
    assert sorted(published("kaiming(fan_out)").stds(strided)) == [
        pytest.approx(math.sqrt(2 / (32 * 9))),
        pytest.approx(math.sqrt(2 / (32 * 9 / 4))),
    ]
    (depthwise,) = parts_of(nn.Conv2d(16, 16, 3, groups=16), torch.ones(1, 16, 8, 8))
    assert published("kaiming(fan_out)").stds(depthwise) == (pytest.approx(math.sqrt(2 / 9)),)


@pytest.mark.parametrize("name", table())
def test_every_recipe_has_a_reference(name):
    recipe = published(table()[name].example)
    assert recipe.name.startswith(name)
    assert len(recipe.reference) > 10


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("gpt3", r"no recipe 'gpt3'; did you mean gpt2\? Known are beit, .*kaiming\(fan_out, relu\)"),
        ("truncnormal(0.02)", r"did you mean trunc_normal\(0\.02\)"),
        ("", "recipe '': expected a name such as gpt2"),
        ("normal", r"missing a required argument: 'std'; expected normal\(std\)"),
        ("normal(-1)", "std=-1; expected a positive number"),
        ("normal(big)", "std='big'; expected a positive number"),
        ("kaiming(fan)", "mode='fan'; expected one of 'fan_in', 'fan_out', 'fan_avg'"),
        ("kaiming(fan_in, relu, 1, 2)", "distribution=2; expected one of 'normal', 'uniform'"),
        ("mup(0.02)", r"missing a required argument: 'multiplier'; expected mup\(std, multiplier\)"),
        ("xavier(2)", "distribution=2; expected one of 'uniform', 'normal'"),
        ("lecun(2)", "too many positional arguments; expected no arguments, as lecun takes none"),
    ],
)
def test_unknown_recipes_are_refused(text, match):
    with pytest.raises(ArgumentError, match=match):
        published(text)


def test_a_nonlinearity_without_a_gain_is_refused_when_a_weight_asks_for_it():
    with pytest.raises(ArgumentError, match="no gain is known for the nonlinearity 'relo'; did you mean relu"):
        stds_of("kaiming(fan_in, relo)", nn.Linear(8, 3), torch.ones(2, 8))


@given(st.one_of(st.text(), st.from_regex(r"(kaiming|normal|mup|gpt2)\((\w|[-., ])*\)", fullmatch=True)))
def test_any_text_is_a_recipe_or_refused(text):
    with contextlib.suppress(ArgumentError):
        assert published(text).reference
