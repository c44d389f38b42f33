"""Published recipes, built on small models as their references say: declared, undeclared, and with a planted fault."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import autoinit
from autoinit.checking._part import Part
from autoinit.checking._subject import subject
from autoinit.checking.checker import check
from autoinit.checking.recipes import published, recognised
from autoinit.models import ModelView
from autoinit.tracing import trace
from tests.shared.models.gpt2 import GPT2, FlashAttention, NewGELU
from tests.shared.models.published import PVT, ConvNeXt, ViT
from tests.shared.published_cases import CASES, IMAGES, PATCHES, WEIGHT_LAYERS, WORDS, every_weight, gpt2, normal, t5


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def parts_of(model: nn.Module, inputs: Any) -> tuple[Part, ...]:
    return subject(ModelView.of(model), trace(model, inputs)).parts


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_weight_of_a_published_model_fits_its_recipe(case):
    recipe = published(case.recipe)
    misfits = [
        (part.layer.name, part.actual, recipe.stds(part))
        for part in parts_of(case.build(), case.inputs)
        if recipe.stds(part) and not recipe.fits(part, 0.01)
    ]
    assert misfits == []


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_declared_nothing_above_info(case):
    result = check(case.build(), case.inputs, recipe=case.recipe)
    assert [str(each) for each in result.findings if each.severity != "info"] == []
    assert result.ok
    assert result.recipe == case.recipe


# The generator's image starts near zero, 0.02 where tanh wants 0.14: an error unless the recipe is declared.
UNDECLARED = CASES


@pytest.mark.parametrize("case", UNDECLARED.values(), ids=UNDECLARED)
def test_undeclared_does_not_fail(case):
    result = check(case.build(), case.inputs)
    assert [str(each) for each in result.findings if each.severity == "error"] == []
    assert result.ok


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_recognised_where_weights_leave_no_doubt(case):
    found = recognised(parts_of(case.build(), case.inputs))
    assert (found.name if found else None) == case.recognised


def scale(name: str, factor: float) -> Callable[[nn.Module], None]:
    def fault(model: nn.Module) -> None:
        with torch.no_grad():
            model.get_parameter(name).mul_(factor)

    return fault


def swap_depth_scale(model: nn.Module) -> None:
    """transformers#47458, llama2.c#579: the scale of the down projection is on the gate."""
    feed_forward = model.layers[0].feed_forward
    nn.init.normal_(feed_forward.w1.weight, std=0.01)
    nn.init.normal_(feed_forward.w2.weight, std=0.02)


# case, fault, parameter that is wrong, the std that the recipe gives it (two blocks of two branches: 0.02 / sqrt(4))
FAULTS = {
    "no_depth_scale": ("gpt2", scale("blocks.1.mlp.c_proj.weight", 2), "blocks.1.mlp.c_proj.weight", 0.01),
    "scaled_gate": ("llama", swap_depth_scale, "layers.0.feed_forward.w1.weight", 0.02),
    "unscaled_down": ("llama", swap_depth_scale, "layers.0.feed_forward.w2.weight", 0.02 / math.sqrt(2)),
    "d_model_for_d_ff": ("t5", scale("encoder.1.wo.weight", 2), "encoder.1.wo.weight", 1024**-0.5),
    "0.2_for_0.02": ("vit", scale("attentions.1.proj.weight", 10), "attentions.1.proj.weight", 0.02),
    "he_without_groups": (
        "pvt",
        scale("stages.1.0.dwconv.weight", 512**-0.5),
        "stages.1.0.dwconv.weight",
        (2 / 9) ** 0.5,
    ),
    "unscaled_end": ("beit", scale("mlps.0.2.weight", 2**0.5), "mlps.0.2.weight", 0.02 / 2**0.5),
    "0.02_for_0.2": ("convnext", scale("stages.0.1.fc1.weight", 10), "stages.0.1.fc1.weight", 0.02),
    "twice_he": ("resnet", scale("blocks.1.conv1.weight", 2), "blocks.1.conv1.weight", (2 / 288) ** 0.5),
    "he_before_gelu": ("dit", scale("blocks.0.mlp.0.weight", 2), "blocks.0.mlp.0.weight", (2 / (5 * 192)) ** 0.5),
    "head_0.1": ("nfnet", scale("fc.weight", 10), "fc.weight", 0.01),
    "ten_times_lsuv": ("lsuv_mlp", scale("2.weight", 10), "2.weight", 2.5 / 16),
    "half": ("dcgan_g", scale("main.3.weight", 0.5), "main.3.weight", 0.02),
}


@pytest.mark.parametrize(("name", "fault", "param", "expected"), FAULTS.values(), ids=FAULTS)
def test_fault_against_a_declared_recipe_is_named_with_its_std(name, fault, param, expected):
    case = CASES[name]
    model = case.build()
    fault(model)
    found = [each for each in check(model, case.inputs, recipe=case.recipe).findings if each.param == param]
    assert [each.expected_std for each in found] == [pytest.approx(expected, rel=1e-6)]
    actual = model.get_parameter(param).detach().square().mean().sqrt().item()
    assert found[0].actual_std == pytest.approx(actual, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "param"),
    [
        ("t5", "decoder.0.wi.weight"),
        ("vit", "mlps.2.0.weight"),
        ("pvt", "stages.1.0.fc2.weight"),
        ("beit", "mlps.1.0.weight"),
        ("convnext", "stages.1.0.fc1.weight"),
    ],
)
def test_fault_in_a_recognised_model_is_still_named(name, param):
    case = CASES[name]
    model = case.build()
    scale(param, 10)(model)
    result = check(model, case.inputs)
    assert [each.param for each in result.findings if each.severity != "info"] == [param]


def wide(power: float) -> nn.Module:
    """Yang et al. 2022: four times the base width; hidden weights at 0.02 / 4^power, the head at 0.02."""
    model = every_weight(GPT2(FlashAttention, NewGELU, width=256), normal(0.02 / 4**power))
    nn.init.normal_(model.lm_head.weight, std=0.02)
    return model


def uniform_by(axis: int) -> nn.Module:
    """torch's default is U(-1/sqrt(fan), 1/sqrt(fan)) with the fan on axis 1."""
    layers = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))
    for layer in (layers[0], layers[2]):
        bound = layer.weight.shape[axis] ** -0.5
        nn.init.uniform_(layer.weight, -bound, bound)
    return layers


def vocoder(before: bool) -> nn.Module:
    """hifi-gan#145: N(0, 0.01) written before weight_norm stays; written after it, is lost at the next forward."""
    layers = nn.Sequential(nn.Conv1d(64, 64, 7, padding=3), nn.LeakyReLU(0.1), nn.Conv1d(64, 64, 3, padding=1))
    for layer in (layers[0], layers[2]):
        if before:
            nn.init.normal_(layer.weight, std=0.01)
        nn.utils.parametrizations.weight_norm(layer)
        if not before:
            layer.weight.data.normal_(0, 0.01)
    return layers


# model, whether it is wrong, the recipe that it was meant to follow, inputs, the stds of the first wrong weight
REAL = {
    "width_multiplier": (wide, (1, 0.5), "mup(0.02, 4)", WORDS, (0.02 / 4, 0.02 / 2)),
    "fan_is_shape_0": (uniform_by, (0, 1), "torch", torch.ones(2, 64), ((3 * 256) ** -0.5, (3 * 64) ** -0.5)),
    "weight_norm": (vocoder, (False, True), "normal(0.01)", torch.ones(2, 64, 16), ((3 * 64 * 7) ** -0.5, 0.01)),
}


@pytest.mark.parametrize(("build", "choices", "recipe", "inputs", "stds"), REAL.values(), ids=REAL)
def test_real_faults_are_named_by_the_declared_recipe_and_the_right_ones_pass(build, choices, recipe, inputs, stds):
    wrong, right = choices
    found = [each for each in check(build(wrong), inputs, recipe=recipe).findings if each.severity != "info"]
    assert found[0].actual_std == pytest.approx(stds[0], rel=0.02)
    assert found[0].expected_std == pytest.approx(stds[1], rel=1e-6)
    assert {each.severity for each in check(build(right), inputs, recipe=recipe).findings} <= {"info"}


def mlp() -> nn.Module:
    layers = [each for _ in range(9) for each in (nn.Linear(256, 256), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(256, 10))


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda weight: None, id="torch"),
        pytest.param(normal(0.02), id="normal"),
        pytest.param(nn.init.xavier_uniform_, id="xavier"),
        pytest.param(lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="linear"), id="lecun"),
        pytest.param(lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out"), id="kaiming"),
    ],
)
def test_one_initialiser_for_all_is_no_recipe_for_a_model(write):
    assert recognised(parts_of(every_weight(mlp(), write), torch.ones(2, 256))) is None


def test_a_transformer_at_the_frameworks_default_follows_no_recipe():
    """At width 833 the default of Linear has the std 1 / sqrt(3 * 833) = 0.02."""
    model = nn.TransformerEncoderLayer(832, 4, 832, batch_first=True, norm_first=True)
    assert recognised(parts_of(model, torch.ones(1, 2, 832))) is None


def test_planned_weights_with_a_few_wrong_ones_follow_no_recipe():
    model = gpt2()
    autoinit.autoinit(model, WORDS, seed=0, verbose=False)
    for block in model.blocks:
        nn.init.normal_(block.attn.c_proj.weight, std=0.02)
    assert recognised(parts_of(model, WORDS)) is None


def test_default_weights_with_a_few_at_0_02_follow_no_recipe():
    model = GPT2(FlashAttention, NewGELU, width=256)
    for block in model.blocks:
        nn.init.normal_(block.attn.c_proj.weight, std=0.02)
        nn.init.normal_(block.attn.c_attn.weight, std=0.02)
    assert recognised(parts_of(model, WORDS)) is None


def default(model: nn.Module, _: Any) -> None:
    """Leaves the framework's default."""


def planned(model: nn.Module, inputs: Any) -> None:
    autoinit.autoinit(model, inputs, seed=0, verbose=False)


@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("initialise", [default, planned])
@pytest.mark.parametrize(
    ("build", "inputs"), [(PVT, IMAGES), (ViT, IMAGES), (lambda: ViT(cut=True), PATCHES), (ConvNeXt, IMAGES)]
)
def test_every_seventh_weight_at_0_02_makes_no_recipe(build, inputs, initialise, first):
    model = build()
    initialise(model, inputs)
    for module in [each for each in model.modules() if isinstance(each, WEIGHT_LAYERS)][first::7]:
        nn.init.trunc_normal_(module.weight, std=0.02)
    assert recognised(parts_of(model, inputs)) is None


class Branched(nn.Module):
    """Branches of two convolutions beside skip connections, and no norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 64, 3), nn.Linear(64, 10)
        self.branches = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.GELU(), nn.Conv2d(64, 64, 1)) for _ in range(4)]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for branch in self.branches:
            x = x + branch(x)
        return self.head(x.mean((2, 3)))


def cnn(norm: bool) -> nn.Module:
    """Convolutions one after another."""
    layers: list[nn.Module] = []
    for width, following in itertools.pairwise((3, 64, 64, 64, 64, 64, 64, 64)):
        layers += [nn.Conv2d(width, following, 3, padding=1), *([nn.BatchNorm2d(following)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize("build", [Branched, lambda: cnn(norm=False), lambda: cnn(norm=True)])
def test_0_02_throughout_is_a_recipe_only_with_norms_and_skip_connections(build):
    model = every_weight(build(), normal(0.02))
    assert recognised(parts_of(model, IMAGES)) is None


def test_a_plain_cnn_at_0_02_fails():
    result = check(every_weight(cnn(norm=False), normal(0.02)), IMAGES)
    assert {each.param for each in result.findings if each.severity == "error"} >= {"2.weight", "6.weight", "10.weight"}


def test_few_weights_follow_no_recipe():
    assert recognised(parts_of(t5(), (WORDS, WORDS))[:5]) is None
