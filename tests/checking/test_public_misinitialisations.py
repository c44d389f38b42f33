"""Twenty mis-initialisations from public code, rebuilt small: the wrong one is named by its rule, the right one passes.

Every case tells the std of the wrong weight and that of the right one, from the formulas of the code it comes from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from autoinit.checking.checker import check
from tests.shared.models.gpt2 import GPT2, FlashAttention, NewGELU
from tests.shared.models.llama import LLaMA as Llama


def draw(weight: torch.Tensor, std: float) -> None:
    nn.init.normal_(weight, std=std)


def he(layer: nn.Module, slope: float = 0.0) -> None:
    nn.init.kaiming_normal_(layer.weight, a=slope)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Then(nn.Module):
    """A layer, then a function, then possibly the sum with the input."""

    def __init__(self, layer: nn.Module, act: Callable[[Any], Any] = lambda x: x, skip: bool = False):
        super().__init__()
        self.layer, self.act, self.skip = layer, act, skip

    def forward(self, x):
        y = self.act(self.layer(x))
        return x + y if self.skip else y


def conv_relu(right: bool) -> nn.Module:
    model = nn.Sequential(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 32, 3))
    if right:
        he(model[0])
    nn.init.xavier_normal_(model[2].weight)
    return model


def depthwise(right: bool) -> nn.Module:
    model = Then(nn.Conv2d(128, 128, 3, groups=128, bias=False), F.relu)
    draw(model.layer.weight, math.sqrt(2 / 9) if right else math.sqrt(2 / (9 * 128)))
    return model


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(96, 4, batch_first=True)
        nn.init.xavier_normal_(self.attention.out_proj.weight)

    def forward(self, x):
        return x + self.attention(x, x, x, need_weights=False)[0]


def packed(right: bool) -> nn.Module:
    model = SelfAttention()
    for piece in model.attention.in_proj_weight.chunk(3) if right else ():
        nn.init.xavier_uniform_(piece)
    return model


def deconv(right: bool) -> nn.Module:
    model = Then(nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1, bias=False), nn.LeakyReLU(0.2))
    draw(model.layer.weight, math.sqrt(2 * 4 / (1.04 * 16 * 64)) if right else math.sqrt(2 / (16 * 32)))
    return model


def gpt2(right: bool) -> nn.Module:
    model = GPT2(FlashAttention, NewGELU, width=64)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            draw(parameter, 0.01 if right and name.endswith("c_proj.weight") else 0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return model


def llama(right: bool) -> nn.Module:
    model = Llama(width=64, head=32)
    scaled = ("wo.weight", "w2.weight" if right else "w1.weight")
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            draw(parameter, 0.01 if name.endswith(scaled) else 0.02)
    return model


def gain_as_slope(right: bool) -> nn.Module:
    model = Then(nn.Linear(256, 256), F.relu)
    he(model.layer, 0.0 if right else nn.init.calculate_gain("relu"))
    return model


class Standardised(nn.Conv2d):
    def forward(self, x):
        var, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        return F.conv2d(x, (self.weight - mean) * torch.rsqrt(var + 1e-6), self.bias, padding=1)


def standardised(right: bool) -> nn.Module:
    model = Then(Standardised(32, 32, 3, padding=1, bias=False), skip=True)
    draw(model.layer.weight, math.sqrt((1 if right else 2) / (9 * 32)))
    return model


def linear(right: bool, wrong_std: float, right_std: float, skip: bool = False) -> nn.Module:
    model = Then(nn.Linear(256, 256, bias=False), skip=skip)
    draw(model.layer.weight, right_std if right else wrong_std)
    return model


def fourth_root(right: bool) -> nn.Module:
    return linear(right, 256**-0.25, math.sqrt(2 / (256 + 256)))


def width_multiplier(right: bool) -> nn.Module:
    sigma, multiplier = math.sqrt(1 / 64), 4
    return linear(right, sigma / multiplier, sigma / math.sqrt(multiplier), skip=True)


def he_on_output(right: bool) -> nn.Module:
    return linear(right, math.sqrt(2 / 256), math.sqrt(1 / 256))


def shape_zero(right: bool) -> nn.Module:
    model = Then(nn.Linear(64, 256, bias=False), F.relu)
    bound = 1 / math.sqrt(model.layer.weight.shape[1 if right else 0])
    nn.init.uniform_(model.layer.weight, -bound, bound)
    return model


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(48, 64, batch_first=True)
        for piece in self.lstm.weight_ih_l0.chunk(4):
            nn.init.xavier_normal_(piece)
        for bias in (self.lstm.bias_ih_l0, self.lstm.bias_hh_l0):
            nn.init.zeros_(bias)

    def forward(self, x):
        return self.lstm(x)[0]


def lstm(right: bool) -> nn.Module:
    model = Recurrent()
    for piece in model.lstm.weight_hh_l0.chunk(4 if right else 1):
        nn.init.orthogonal_(piece)
    return model


def before_weight_norm(right: bool) -> nn.Module:
    layer = nn.Conv1d(128, 128, 7, padding=3)
    if right:
        draw(layer.weight, 0.01)
    normed = weight_norm(layer)
    nn.init.zeros_(normed.bias)
    if not right:
        normed.weight.data.normal_(0, 0.01)  # writes to what was computed from g and v, and is lost
    return Then(normed, nn.LeakyReLU(0.1))


def skipped_class(right: bool) -> nn.Module:
    model = Then(nn.Conv3d(16, 16, 3, padding=1), skip=True)
    for module in model.modules():
        if isinstance(module, nn.Conv3d if right else nn.Conv2d):
            nn.init.xavier_normal_(module.weight)
            nn.init.zeros_(module.bias)
    return model


def loop_over_a_tensor(right: bool) -> nn.Module:
    model = Then(nn.Linear(256, 256), F.relu)

    def initialise(module):
        if isinstance(module, nn.Linear):
            he(module)

    initialise(model.layer if right else model.layer.weight)
    return model


def low_precision(right: bool) -> nn.Module:
    """One value in 250 at the bounds +-2: sqrt(0.01^2 + 4 / 250) = 0.127."""
    model = Then(nn.Linear(250, 256, bias=False), skip=False)
    draw(model.layer.weight, 0.01)
    if not right:
        with torch.no_grad():
            model.layer.weight[0::2, 0] = 2
            model.layer.weight[1::2, 0] = -2
            model.layer.weight.copy_(model.layer.weight.flatten()[torch.randperm(250 * 256)].view(256, 250))
    return model.bfloat16()


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.head = nn.Embedding(100, 64), nn.Linear(64, 64)
        nn.init.xavier_normal_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids):
        return self.head(self.tokens(ids))


def padding_none(right: bool) -> nn.Module:
    model, padding_idx = Tagger(), 0 if right else None
    draw(model.tokens.weight, 64**-0.5)
    nn.init.zeros_(model.tokens.weight[padding_idx])  # [None] is all of it
    return model


class LowRank(nn.Module):
    def __init__(self):
        super().__init__()
        self.base, self.a, self.b = (nn.Linear(*sizes, bias=False) for sizes in ((64, 64), (64, 8), (8, 64)))
        nn.init.xavier_normal_(self.base.weight)
        nn.init.zeros_(self.b.weight)

    def forward(self, x):
        return self.base(x) + self.b(self.a(x))


def low_rank(right: bool) -> nn.Module:
    model = LowRank()
    draw(model.a.weight, math.sqrt(2 / (64 + 8)) if right else 0.0)
    return model


class Detector(nn.Module):
    def __init__(self, classes_bias: float, boxes_bias: float):
        super().__init__()
        self.classes, self.boxes = nn.Conv2d(64, 90, 3, padding=1), nn.Conv2d(64, 36, 3, padding=1)
        for layer, bias in ((self.classes, classes_bias), (self.boxes, boxes_bias)):
            nn.init.xavier_normal_(layer.weight)
            nn.init.constant_(layer.bias, bias)

    def forward(self, x):
        return torch.sigmoid(self.classes(x)), self.boxes(x)


def detector(right: bool) -> nn.Module:
    prior = -math.log(99)
    return Detector(prior, 0.0) if right else Detector(0.0, prior)


IMAGE, VOLUME, SIGNAL = (2, 32, 12, 12), (2, 16, 6, 6, 6), (2, 128, 20)


@dataclass(frozen=True)
class Case:
    """found: by layer, the code, the wrong std and the right one. recipe: what the code meant, where it is not ours."""

    build: Callable[[bool], nn.Module]
    found: Mapping[str, tuple[str, float, float]]
    inputs: tuple[int, ...] | torch.Tensor
    recipe: str = "auto"
    severity: str = field(default="")


PER_GATE = math.sqrt((3 + (5 / 3) ** 2) / 4) / math.sqrt(64)
"""1 / sqrt(H) for the three gates under sigmoid, tanh's gain of 5/3 for the fourth, which 1 / sqrt(H) passes too."""
TOKENS = torch.arange(12).view(2, 6)
PROJECTIONS = tuple(f"blocks.{block}.{name}" for block in (0, 1) for name in ("attn.c_proj", "mlp.c_proj"))
CASES = {
    1: Case(conv_relu, {"0": ("INI103", 1 / math.sqrt(3 * 288), math.sqrt(2 / 288))}, IMAGE, severity="error"),
    2: Case(depthwise, {"layer": ("INI106", math.sqrt(2 / (9 * 128)), math.sqrt(2 / 9))}, (2, 128, 9, 9)),
    3: Case(packed, {"attention.in_proj_weight": ("INI107", math.sqrt(1 / (2 * 96)), math.sqrt(1 / 96))}, (2, 5, 96)),
    4: Case(deconv, {"layer": ("INI106", math.sqrt(2 / 512), math.sqrt(8 / (1.04 * 1024)))}, (2, 64, 7, 7)),
    5: Case(gpt2, {name: ("INI102", 0.02, 0.02 / math.sqrt(2 * 2)) for name in PROJECTIONS}, TOKENS, "gpt2"),
    6: Case(
        llama,
        {
            name: each
            for block in (0, 1)
            for name, each in {
                f"layers.{block}.feed_forward.w1": ("INI101", 0.01, 0.02),
                f"layers.{block}.feed_forward.w2": ("INI102", 0.02, 0.01),
            }.items()
        },
        TOKENS,
        "gpt2",
    ),
    7: Case(gain_as_slope, {"layer": ("INI105", math.sqrt(2 / 3 / 256), math.sqrt(2 / 256))}, (2, 256)),
    8: Case(standardised, {"layer": ("INI104", math.sqrt(2 / 288), math.sqrt(1 / 288))}, IMAGE, severity="info"),
    9: Case(fourth_root, {"layer": ("INI102", 0.25, 1 / 16)}, (2, 256), severity="error"),
    10: Case(width_multiplier, {"layer": ("INI101", 1 / 32, 1 / 16)}, (2, 256)),
    11: Case(he_on_output, {"layer": ("INI104", math.sqrt(2 / 256), 1 / 16)}, (2, 256), severity="warning"),
    12: Case(shape_zero, {"layer": ("INI106", 1 / math.sqrt(3 * 256), 1 / math.sqrt(3 * 64))}, (2, 64), "torch"),
    13: Case(lstm, {"lstm.weight_hh_l0": ("INI107", 1 / math.sqrt(4 * 64), PER_GATE)}, (2, 5, 48)),
    14: Case(before_weight_norm, {"layer": ("INI103", 1 / math.sqrt(3 * 896), 0.01)}, SIGNAL, "normal(0.01)"),
    15: Case(skipped_class, {"layer": ("INI103", 1 / math.sqrt(3 * 432), math.sqrt(1 / 432))}, VOLUME),
    16: Case(loop_over_a_tensor, {"layer": ("INI103", 1 / math.sqrt(3 * 256), math.sqrt(2 / 256))}, (2, 256)),
    17: Case(
        low_precision,
        {"layer": ("INI102", math.sqrt(0.01**2 + 4 / 250), 0.01)},
        torch.randn(2, 250, dtype=torch.bfloat16),
        "trunc_normal(0.01)",
        severity="error",
    ),
    18: Case(padding_none, {"tokens": ("INI101", 0.0, 64**-0.5)}, TOKENS, severity="error"),
    19: Case(low_rank, {"a": ("INI003", 0.0, math.sqrt(2 / 72))}, (2, 64), severity="error"),
    20: Case(detector, {"boxes": ("INI201", math.log(99), 0.0)}, (2, 64, 9, 9), severity="warning"),
}


@pytest.mark.parametrize("number", CASES)
def test_the_wrong_one_is_named_with_both_stds(number: int):
    case = CASES[number]
    torch.manual_seed(number)
    result = check(case.build(False), case.inputs, recipe=case.recipe)
    grave = "info" if case.severity == "info" else "warning"
    found = {each.layer: each for each in reversed(result.findings) if each.severity.at_least(grave)}  # the gravest
    assert {layer: each.code for layer, each in found.items()} == {k: code for k, (code, _, _) in case.found.items()}
    for layer, (_, wrong, right) in case.found.items():
        assert found[layer].actual_std == pytest.approx(wrong, rel=0.1)
        assert found[layer].expected_std == pytest.approx(right, rel=0.02)
        assert not case.severity or found[layer].severity == case.severity
        assert layer in found[layer].message
        assert found[layer].fix


@pytest.mark.parametrize("number", CASES)
def test_the_right_one_passes(number: int):
    case = CASES[number]
    torch.manual_seed(number)
    result = check(case.build(True), case.inputs, recipe=case.recipe)
    assert result.ok
    assert not {each.layer for each in result.findings if each.severity != "info"} & set(case.found)
