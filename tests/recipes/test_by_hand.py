"""Recipes without a library's model to hold them against: stds by hand, of small networks."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import autoinit
from autoinit.plans.layers import LayerPlan, RestPlan
from tests.shared.models.gpt2 import GPT2, FlashAttention, NewGELU
from tests.shared.models.llama import FeedForward

WORDS = torch.arange(16).reshape(2, 8)


class GatedBlock(nn.Module):
    """A norm, then a gated MLP of two branches' worth: (w2 (silu(w1 x) w3 x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = FeedForward(width, 2 * width), FeedForward(width, 2 * width)
        self.norm_1, self.norm_2 = nn.RMSNorm(width), nn.RMSNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.first(self.norm_1(x))
        return x + self.second(self.norm_2(x))


class Gated(nn.Module):
    """Two blocks of two gated branches: four branches."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.table = nn.Embedding(50, width)
        self.blocks = nn.ModuleList([GatedBlock(width) for _ in range(2)])
        self.norm, self.head = nn.RMSNorm(width), nn.Linear(width, 50, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class PostNorm(nn.Module):
    """An attention and an MLP whose sums are normalised."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm_1(x + self.out(F.softmax(self.q(x) @ self.k(x).mT, dim=-1) @ self.v(x)))
        return self.norm_2(x + self.fc2(F.relu(self.fc1(x))))


class Denoiser(nn.Module):
    """A block of DiT: shifts, scales and gates come from a conditioning vector; labels are looked up."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.time_1, self.time_2 = nn.Linear(32, width), nn.Linear(width, width)
        self.labels = nn.Embedding(10, width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.modulation, self.last_modulation = nn.Linear(width, 6 * width), nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, 48)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)

    def forward(self, image: Tensor, time: Tensor, label: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).mT
        c = F.silu(self.time_2(F.silu(self.time_1(time))) + self.labels(label))[:, None]
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation(c).chunk(6, dim=-1)
        q, k, v = self.qkv(self.norm(x) * (1 + scale_1) + shift_1).chunk(3, dim=-1)
        x = x + gate_1 * self.proj(F.scaled_dot_product_attention(q, k, v))
        x = x + gate_2 * self.fc2(F.gelu(self.fc1(self.norm(x) * (1 + scale_2) + shift_2)))
        shift, scale = self.last_modulation(c).chunk(2, dim=-1)
        return self.head(self.norm(x) * (1 + scale) + shift)


class Plain(nn.Module):
    """Residual branches of two convolutions without norms, each scaled by a number."""

    def __init__(self, width: int = 16, branches: int = 4, shared: bool = False) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, width, 3, padding=1), nn.Linear(width, 10)
        self.first, self.second = (
            nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(branches)]) for _ in range(2)
        )
        scales = [nn.Parameter(torch.ones(1)) for _ in range(branches)]
        self.scales = nn.ParameterList(scales[:1] * branches if shared else scales)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for first, second, scale in zip(self.first, self.second, self.scales, strict=True):
            x = x + scale * second(F.relu(first(x)))
        return self.head(x.mean((2, 3)))


class Sines(nn.Module):
    """SIREN of three layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(2, 64), nn.Linear(64, 64), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.sin(30 * self.second(torch.sin(30 * self.first(x)))))


class Agent(nn.Module):
    """A policy of 6 actions and a value."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.policy, self.value = nn.Linear(8, 64), nn.Linear(64, 6), nn.Linear(64, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.tanh(self.body(x))
        return self.policy(x), self.value(x)


class LowRank(nn.Module):
    """Weights with an addition of rank 2: of modules, of parameters behind a dropout, two on one, of convolutions.

    Beside them what looks like one: a bottleneck that nothing stands beside, one with a nonlinearity inside, one as
    wide as what it adds to, one whose inside goes elsewhere too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.conv_a, self.conv_b = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 2, 3), nn.Conv2d(2, 8, 1)
        self.base, self.a, self.b = nn.Linear(8, 12), nn.Linear(8, 2, bias=False), nn.Linear(2, 12, bias=False)
        self.more_a, self.more_b = nn.Parameter(torch.ones(2, 8)), nn.Parameter(torch.ones(12, 2))
        self.narrow, self.wide = nn.Linear(12, 2), nn.Linear(2, 12)
        self.bent, self.down, self.up = nn.Linear(12, 12), nn.Linear(12, 2), nn.Linear(2, 12)
        self.full, self.full_a, self.full_b = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 12)
        self.shared, self.shared_a, self.shared_b = nn.Linear(12, 12), nn.Linear(12, 2), nn.Linear(2, 12)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = F.relu(self.conv(x) + self.conv_b(self.conv_a(x)) / 2).mean((2, 3))
        x = F.relu(self.base(x) + 2 * self.b(self.a(x.float())) + F.dropout(x, 0.1) @ self.more_a.t() @ self.more_b.t())
        x = F.relu(self.wide(self.narrow(x)))
        x = F.relu(self.bent(x) + self.up(torch.tanh(self.down(x))))
        x = F.relu(self.full(x) + self.full_b(self.full_a(x)))
        inside = self.shared_a(x)
        return self.shared(x) + self.shared_b(inside), inside


def decoder() -> nn.Module:
    """Up and out again: a transposed convolution of stride 2, kernel 4."""
    return nn.Sequential(nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3))


def planned(model: nn.Module, recipe: str, inputs: object = None) -> dict[str, tuple[str, float, float]]:
    """By parameter its distribution, std and mean."""
    made = autoinit.plan(model, inputs, recipe=recipe)
    found: dict[str, LayerPlan | RestPlan] = {each.param: each for each in made.layers if each.status == "planned"}
    found |= {each.name: each for each in made.rest}
    return {name: (each.distribution, each.std, getattr(each, "mean", 0.0)) for name, each in found.items()}


CUT_3 = math.sqrt(1 - 6 * math.exp(-4.5) / math.sqrt(2 * math.pi) / math.erf(3 / math.sqrt(2)))
"""The std of N(0, 1) cut at 3: 1 - 6 phi(3) / (2 Phi(3) - 1), square root."""
_GPT2 = (lambda: GPT2(FlashAttention, NewGELU, width=64), WORDS)
_IMAGE = torch.ones(1, 3, 8, 8)
BY_HAND: Mapping[str, tuple] = {
    "olmo": (*_GPT2, "olmo", {
        "wte.weight": ("truncated_normal_3", CUT_3 / 8, 0),  # d = 64
        "wpe.weight": ("truncated_normal_3", CUT_3 / 8, 0),
        "lm_head.weight": ("truncated_normal_3", CUT_3 / 8, 0),
        "blocks.0.attn.c_attn.weight": ("truncated_normal_3", CUT_3 / 8, 0),
        "blocks.0.attn.c_proj.weight": ("truncated_normal_3", CUT_3 / math.sqrt(2 * 64), 0),
        "blocks.1.attn.c_proj.weight": ("truncated_normal_3", CUT_3 / math.sqrt(4 * 64), 0),
        "blocks.1.mlp.c_proj.weight": ("truncated_normal_3", CUT_3 / math.sqrt(4 * 256), 0),
    }),
    "clip": (*_GPT2, "clip", {
        "wte.weight": ("normal", 0.02, 0),
        "wpe.weight": ("normal", 0.01, 0),
        "blocks.0.attn.c_attn.weight": ("normal", 1 / 8, 0),
        "blocks.0.attn.c_proj.weight": ("normal", 1 / 8 / 2, 0),  # two blocks: (2 * 2)^-1/2
        "blocks.0.mlp.c_fc.weight": ("normal", (2 * 64) ** -0.5, 0),
        "blocks.0.mlp.c_proj.weight": ("normal", 1 / 8 / 2, 0),
        "lm_head.weight": ("normal", 1 / 8, 0),
    }),
    "nanochat": (*_GPT2, "nanochat", {
        "wte.weight": ("normal", 0.8, 0),
        "blocks.0.attn.c_attn.weight": ("uniform", 1 / 8, 0),
        "blocks.0.attn.c_proj.weight": ("constant", 0, 0),
        "blocks.0.mlp.c_fc.weight": ("uniform", 0.4 / 8, 0),
        "blocks.0.mlp.c_proj.weight": ("constant", 0, 0),
        "lm_head.weight": ("normal", 0.001, 0),
    }),
    "small_init": (*_GPT2, "small_init", {
        "blocks.0.attn.c_attn.weight": ("normal", math.sqrt(2 / 320), 0),
        "blocks.0.mlp.c_proj.weight": ("normal", 2 / (2 * 8), 0),
    }),
    "spectral": (*_GPT2, "spectral", {
        "wte.weight": ("normal", 1, 0),
        "blocks.0.mlp.c_fc.weight": ("normal", 1 / 8, 0),  # 64 to 256: min(1, 2) = 1
        "blocks.0.mlp.c_proj.weight": ("normal", 1 / 16 / 2, 0),  # 256 to 64: sqrt(1/4)
    }),
    "llama": (Gated, WORDS, "llama(depth='layer')", {
        "table.weight": ("normal", 1, 0),
        "blocks.0.first.w1.weight": ("normal", 0.02, 0),
        "blocks.0.first.w3.weight": ("normal", 0.02 / math.sqrt(2), 0),
        "blocks.0.first.w2.weight": ("normal", 0.02 / math.sqrt(2), 0),
        "blocks.1.second.w2.weight": ("normal", 0.02 / 2, 0),
        "blocks.1.norm_2.weight": ("constant", 0, 1),
        "head.weight": ("truncated_normal_3", CUT_3 / 8, 0),
    }),
    "deepnorm": (PostNorm, torch.ones(1, 4, 64), "deepnorm(layers=2)", {
        "q.weight": ("normal", 1 / 8, 0),  # sqrt(2 / 128)
        "k.weight": ("normal", 1 / 8, 0),
        "v.weight": ("normal", 1 / 8 / 2, 0),  # (8 * 2)^(1/4) = 2
        "out.weight": ("normal", 1 / 8 / 2, 0),
        "fc1.weight": ("normal", math.sqrt(2 / 320) / 2, 0),
        "fc2.weight": ("normal", math.sqrt(2 / 320) / 2, 0),
    }),
    "dit": (Denoiser, (torch.ones(1, 3, 16, 16), torch.ones(1, 32), torch.zeros(1, dtype=torch.int64)), "dit", {
        "patches.weight": ("uniform", math.sqrt(2 / (64 + 48)), 0),
        "time_1.weight": ("normal", 0.02, 0),
        "time_2.weight": ("normal", 0.02, 0),
        "labels.weight": ("normal", 0.02, 0),
        "qkv.weight": ("uniform", math.sqrt(2 / 256), 0),
        "proj.weight": ("uniform", math.sqrt(2 / 128), 0),
        "fc1.weight": ("uniform", math.sqrt(2 / 320), 0),
        "modulation.weight": ("constant", 0, 0),
        "last_modulation.weight": ("constant", 0, 0),
        "head.weight": ("constant", 0, 0),
        "qkv.bias": ("constant", 0, 0),
    }),
    "fixup": (Plain, _IMAGE, "fixup", {
        "stem.weight": ("normal", math.sqrt(2 / (9 * 16)), 0),
        "first.0.weight": ("normal", math.sqrt(2 / (9 * 16)) / 2, 0),  # L = 4, m = 2: 4^(-1/2)
        "second.0.weight": ("constant", 0, 0),
        "head.weight": ("constant", 0, 0),
        "scales.0": ("constant", 0, 1),
        "first.0.bias": ("constant", 0, 0),
    }),
    "rezero": (Plain, _IMAGE, "rezero", {"scales.3": ("constant", 0, 0)}),
    "rezero, shared": (lambda: Plain(shared=True), _IMAGE, "rezero", {"scales.0": ("constant", 0, 0)}),
    "lora": (LowRank, _IMAGE, "lora", {
        "conv_a.weight": ("uniform", 27**-0.5 / math.sqrt(3), 0),
        "conv_b.weight": ("constant", 0, 0),
        "a.weight": ("uniform", 8**-0.5 / math.sqrt(3), 0),
        "b.weight": ("constant", 0, 0),
        "more_a": ("uniform", 8**-0.5 / math.sqrt(3), 0),
        "more_b": ("constant", 0, 0),
    }),
    "lstm": (lambda: nn.LSTMCell(12, 8), torch.ones(2, 12), "lstm", {
        "weight_ih": ("orthogonal", 12**-0.5, 0),  # four gates of 8 by 12, each orthogonal
        "weight_hh": ("orthogonal", 8**-0.5, 0),
        "bias_ih": ("constant", 0, 0),
    }),
    "siren": (Sines, torch.ones(4, 2), "siren", {
        "first.weight": ("uniform", 1 / 2 / math.sqrt(3), 0),
        "second.weight": ("uniform", math.sqrt(6 / 64) / 30 / math.sqrt(3), 0),
        "last.weight": ("uniform", math.sqrt(6 / 64) / 30 / math.sqrt(3), 0),
        "second.bias": ("uniform", 1 / 8 / math.sqrt(3), 0),
    }),
    "rl": (Agent, torch.ones(4, 8), "rl", {
        "body.weight": ("orthogonal", math.sqrt(2) / 8, 0),  # 64 rows
        "policy.weight": ("orthogonal", 0.01 / 8, 0),
        "value.weight": ("orthogonal", 1 / 8, 0),
    }),
    "orthogonal": (Agent, torch.ones(4, 8), "orthogonal(2)", {"policy.weight": ("orthogonal", 2 / 8, 0)}),
    "dcgan": (decoder, torch.ones(1, 16, 8, 8), "dcgan", {
        "0.weight": ("normal", 0.02, 0),
        "1.weight": ("normal", 0.02, 1),
        "1.bias": ("constant", 0, 0),
    }),
    "nnunet": (decoder, torch.ones(1, 16, 8, 8), "nnunet", {
        "0.weight": ("normal", math.sqrt(2 / 1.0001 / (16 * 16 / 4)), 0),  # 16 channels, 16 taps, every fourth is met
        "3.weight": ("normal", math.sqrt(2 / 1.0001 / 72), 0),
        "3.bias": ("constant", 0, 0),
    }),
    "unet": (decoder, torch.ones(1, 16, 8, 8), "unet", {
        "0.weight": ("normal", math.sqrt(2 / 64), 0),  # 16 channels, 16 taps, of which an output pixel meets four
        "3.weight": ("normal", math.sqrt(2 / 72), 0),
        "3.bias": ("constant", 0, 0),
    }),
    "stylegan2": (decoder, torch.ones(1, 16, 8, 8), "stylegan2", {
        "0.weight": ("normal", 1 / 16, 0),  # nothing multiplies it: 16 channels, 16 taps, whatever the stride
        "3.weight": ("normal", 72**-0.5, 0),
        "3.bias": ("constant", 0, 0),
    }),
    "mup": (*_GPT2, "mup(0.02, 4)", {
        "blocks.0.attn.c_attn.weight": ("normal", 0.01, 0),
        "lm_head.weight": ("normal", 0.005, 0),
    }),
}  # fmt: skip
"""By recipe: a network, its inputs, the recipe as declared, and distribution, std and mean of some parameters."""


@pytest.mark.parametrize("name", BY_HAND)
def test_recipe_by_hand(name: str):
    build, inputs, recipe, expected = BY_HAND[name]
    found = planned(build(), recipe, inputs)
    assert {param: found.get(param) for param in expected} == {
        param: (distribution, pytest.approx(std, rel=1e-6), mean)
        for param, (distribution, std, mean) in expected.items()
    }


def test_a_recipe_keeps_what_it_does_not_speak_of():
    model = Plain()
    made = autoinit.plan(model, _IMAGE, recipe="rezero")
    assert {each.name for each in made.rest} == {f"scales.{number}" for number in range(4)}
    assert {each.status for each in made.layers} == {"kept"}
    assert {each.note for each in made.others} == {"the recipe rezero says nothing of it"}


def test_a_recipe_for_check_alone_says_what_writes():
    with pytest.raises(autoinit.ArgumentError, match=r"recipe='lsuv' is for check alone: .* use method=.data."):
        autoinit.plan(Agent(), recipe="lsuv")


def test_lora_writes_the_factors_of_additions_alone():
    """The network's four other bottlenecks are no such additions: see `LowRank`."""
    weights = {name for name in planned(LowRank(), "lora", _IMAGE) if not name.endswith("bias")}
    assert weights == {"conv_a.weight", "conv_b.weight", "a.weight", "b.weight", "more_a", "more_b"}
