"""Constant factors around a nonlinearity and on inputs: std = gain / (|c| |k|) / sqrt(fan).

c multiplies the argument, which has variance 1 at 1 / |c| of the std; k what comes out, which has second moment 1 then.
Every std is derived by hand from these two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import autoinit, check, plan
from autoinit.models import ModelView
from autoinit.planning import plan_dataflow
from autoinit.plans.options import PlanOptions
from autoinit.tracing import trace
from tests.shared.written_nets import Net, numbers

WIDTH = 16
HE = math.sqrt(2 / WIDTH)
"""Before a relu."""
XAVIER = math.sqrt(2 / (WIDTH + WIDTH))
SIN = 1 / math.sqrt((1 - math.exp(-2)) / 2)
"""E[sin(z)^2] = (1 - e^-2) / 2."""
TIERS = ("recorded", "symbolic", "exported")


def planned(model: nn.Module, tier: str, x: Tensor | None = None) -> Any:
    x = numbers(3, WIDTH) if x is None else x
    if tier == "recorded":
        return plan(model, x)
    if tier == "exported":
        return plan(torch.export.export(model, (x,)))
    return plan_dataflow(trace(model, tier="symbolic"), ModelView.of(model), PlanOptions())


def between(change: Callable[[Any, Tensor], Tensor], **parts: Any) -> Net:
    """last(change(first(x)))"""
    return Net(
        lambda net, x: net.last(change(net, net.first(x))),
        first=nn.Linear(WIDTH, WIDTH),
        last=nn.Linear(WIDTH, WIDTH),
        **parts,
    )


# The argument.

SCALED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "number_first": lambda net, z: torch.sin(30 * z),
    "number_last": lambda net, z: torch.sin(z * 30.0),
    "function": lambda net, z: torch.sin(torch.mul(z, 30)),
    "method": lambda net, z: z.mul(30).sin(),
    "in_place": lambda net, z: z.mul_(30).sin_(),
    "quotient": lambda net, z: torch.sin(z / (1 / 30)),
    "negative": lambda net, z: torch.sin(-30 * z),
    "in_two_steps": lambda net, z: torch.sin(5 * (z * 6)),
    "buffer": lambda net, z: torch.sin(net.frequency * z),
    "buffer_of_equal_elements": lambda net, z: torch.sin(net.frequencies * z),
    "tensor": lambda net, z: torch.sin(torch.tensor(30.0) * z),
    "then_moved": lambda net, z: torch.sin((30 * z).unsqueeze(1).flatten(1)),
    "with_a_phase": lambda net, z: torch.sin(30 * z + 0.5),
}


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("key", SCALED)
def test_a_frequency_inside_a_sine(key: str, tier: str):
    """SIREN: sin(30 z), 1.5209 / 30 / sqrt(16)."""
    model = between(SCALED[key], frequency=torch.tensor(30.0), frequencies=torch.full((WIDTH,), 30.0))
    layer = planned(model, tier)["first"]
    assert (layer.nonlinearity, layer.reason) == ("sin", "activation")
    assert layer.std == pytest.approx(SIN / 30 / math.sqrt(WIDTH), rel=1e-5)
    assert "multiplied by 30 before sin" in layer.note


FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], str, float]] = {
    "relu": (lambda z: torch.relu(4 * z), "relu", HE / 4),
    "leaky_relu": (lambda z: F.leaky_relu(4 * z, 0.2), "leaky_relu", math.sqrt(2 / 1.04 / WIDTH) / 4),
    "sigmoid": (lambda z: torch.sigmoid(0.01 * z), "sigmoid", XAVIER / 0.01),
    "tanh": (lambda z: torch.tanh(0.01 * z), "tanh", 5 / 3 * XAVIER / 0.01),
    "scaled_tanh": (lambda z: 1.7159 * torch.tanh(2 / 3 * z), "tanh", 5 / 3 * XAVIER / (2 / 3) / 1.7159),
    "module": (lambda z: nn.Sigmoid()(z * 0.01), "sigmoid", XAVIER / 0.01),
    "written_relu": (lambda z: torch.where(4 * z > 0, 4 * z, torch.zeros_like(z)), "relu", HE),
    "written_silu": (lambda z: (lambda y: y * torch.sigmoid(y))(2 * z), "silu", 1.67653 / 4 / 2),
}


@pytest.mark.parametrize("key", sorted(FUNCTIONS.keys() - {"written_relu"}))
def test_a_factor_before_a_function(key: str):
    change, nonlinearity, std = FUNCTIONS[key]
    layer = plan(between(lambda net, z: change(z)), (3, WIDTH))["first"]
    assert (layer.nonlinearity, layer.std) == (nonlinearity, pytest.approx(std, rel=1e-4))


WHOLE: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "quick_gelu": (lambda z: z * torch.sigmoid(1.702 * z), "quick_gelu"),
    "gelu": (lambda z: 0.5 * z * (1 + torch.erf(z / math.sqrt(2))), "gelu"),
    "tanh_by_sigmoid": (lambda z: 2 * torch.sigmoid(2 * z) - 1, "tanh"),
    "softplus_of_a_beta": (lambda z: torch.log1p(torch.exp(3 * z)) / 3, "softplus"),
    "relu_that_is_scaled_back": (lambda z: torch.relu(4 * z) / 4, "relu"),
    "hardsigmoid": (lambda z: (z / 6 + 0.5).clamp(0, 1), "hardsigmoid"),
}


@pytest.mark.parametrize("key", WHOLE)
def test_a_factor_that_is_part_of_a_known_function_is_no_other(key: str):
    change, nonlinearity = WHOLE[key]
    layer = plan(between(lambda net, z: change(z)), (3, WIDTH))["first"]
    assert layer.nonlinearity == nonlinearity
    assert "multiplied" not in layer.note


@pytest.mark.parametrize("slope", [0.2, 0.5])
def test_a_hard_sigmoid_of_another_slope_is_a_gate(slope: float):
    """clamp(0.2 z + 0.5, 0, 1), Keras's: gain 1, as hardsigmoid and sigmoid have."""
    layer = plan(between(lambda net, z: z * (slope * net.first(z) + 0.5).clamp(0, 1)), (3, WIDTH))["first"]
    (gate,) = (each for each in layer.alternatives if each.nonlinearity == "hardsigmoid")
    assert gate.reason == "activation"
    only = plan(between(lambda net, z: (slope * z + 0.5).clamp(0, 1)), (3, WIDTH))["first"]
    assert (only.nonlinearity, only.std) == ("hardsigmoid", pytest.approx(XAVIER))


OTHERWISE: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "parameter": lambda net, z: torch.sin(net.learned * z),
    "parameter_of_one_element": lambda net, z: torch.sin(z * net.learned_too),
    "sum": lambda net, z: torch.sin(torch.add(net.zeros, z, alpha=8)),
    "lerp": lambda net, z: torch.sin(torch.lerp(net.zeros, z, 8.0)),
    "addcmul": lambda net, z: torch.sin(torch.addcmul(net.zeros, z, net.learned, value=1)),
    "ldexp": lambda net, z: torch.sin(torch.ldexp(z, torch.tensor(3))),
    "lent_shape": lambda net, z: torch.sin(torch.full_like(z, 8.0) * z),
    "new_tensor": lambda net, z: torch.sin(z / z.new_full((WIDTH,), 1 / 8)),
    "expanded": lambda net, z: torch.sin(z * net.learned.detach().expand_as(z)),
    "with_itself": lambda net, z: torch.sin(9 * z - z),
    "computed_buffer": lambda net, z: torch.sin(z * net.square.sqrt()),
    "size": lambda net, z: torch.sin(z * z.shape[-1] / 2),
}


@pytest.mark.parametrize("inputs", [(3, WIDTH), None], ids=["input", "no_input"])
@pytest.mark.parametrize("key", OTHERWISE)
def test_a_frequency_of_eight_that_comes_otherwise(key: str, inputs: Any):
    """sin(8 z), 1.5209 / 8 / sqrt(16), whatever holds the eight."""
    eight = torch.tensor(8.0)
    parts = {"learned": nn.Parameter(eight), "learned_too": nn.Parameter(eight[None]), "square": torch.tensor(64.0)}
    layer = plan(between(OTHERWISE[key], zeros=torch.zeros(WIDTH), **parts), inputs)["first"]
    assert (layer.nonlinearity, layer.std) == ("sin", pytest.approx(SIN / 8 / math.sqrt(WIDTH), rel=1e-5))


@pytest.mark.parametrize(
    "change",
    [
        lambda net, z: torch.relu(net.norm(4 * z)),
        lambda net, z: torch.relu(4 * net.norm(z)),
        lambda net, z: 4 * torch.relu(net.norm(z)),
        lambda net, z: torch.relu(4 * z / z.norm(dim=-1, keepdim=True)),
    ],
    ids=["before_the_norm", "behind_it", "behind_the_relu", "written_norm"],
)
def test_a_factor_beside_a_norm_is_not_undone(change: Callable[[Any, Tensor], Tensor]):
    """A norm takes the layer's scale away: no std would make up for the factor."""
    layer = plan(between(change, norm=nn.LayerNorm(WIDTH)), (3, WIDTH))["first"]
    assert (layer.nonlinearity, layer.normalised, layer.std) == ("relu", True, pytest.approx(HE))


MADE_UP: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "mean_of_a_sum": lambda net, z: torch.relu(z.sum(1) / 5),
    "degree": lambda net, z: torch.relu(net.adjacency @ z / 5).sum(1),
    "parameter": lambda net, z: torch.relu(net.gain * z).sum(1),
    "mask": lambda net, z: torch.relu(net.mask * z).sum(1),
}


@pytest.mark.parametrize("key", MADE_UP)
def test_a_number_that_makes_up_for_a_sum_is_no_factor(key: str):
    """sum / 5 is a mean. Neither a gain that is learned nor a mask is one number."""
    model = between(
        MADE_UP[key],
        gain=nn.Parameter(torch.full((WIDTH,), 2.0)),
        adjacency=torch.ones(5, 5),
        mask=torch.tensor([0.0, 2.0] * (WIDTH // 2)),
    )
    assert plan(model, (3, 5, WIDTH))["first"].std == pytest.approx(HE)


# What comes out.

ROOT_TWO = math.sqrt(2)
BEHIND: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "times": lambda net, z: F.leaky_relu(z, 0.2) * ROOT_TWO,
    "in_place": lambda net, z: F.leaky_relu_(z, 0.2).mul_(ROOT_TWO),
    "module": lambda net, z: ROOT_TWO * net.act(z),
    "quotient": lambda net, z: F.leaky_relu(z, 0.2) / (1 / ROOT_TWO),
    "then_moved": lambda net, z: F.dropout(F.leaky_relu(z, 0.2).unsqueeze(1).flatten(1) * ROOT_TWO, 0.1),
    "with_a_bias": lambda net, z: F.leaky_relu(z + net.bias, 0.2) * ROOT_TWO,
}


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("key", BEHIND)
def test_a_factor_behind_an_activation(key: str, tier: str):
    """StyleGAN2's leaky_relu(z, 0.2) sqrt(2): sqrt(2 / 1.04) / sqrt(2) / sqrt(16)."""
    model = between(BEHIND[key], act=nn.LeakyReLU(0.2), bias=nn.Parameter(torch.zeros(WIDTH)))
    made = planned(model, tier)
    assert made["first"].nonlinearity == "leaky_relu"
    assert made["first"].std == pytest.approx(math.sqrt(1 / 1.04 / WIDTH), rel=1e-6)
    assert made["last"].std == pytest.approx(XAVIER)
    assert "leaky_relu is multiplied by 1.41" in made["first"].note


WEIGHTED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "before_an_addition": lambda net, x: x + 0.1 * torch.relu(net.first(x)),
    "in_attention": lambda net, x: torch.softmax(torch.relu(net.first(x)) @ net.second(x).T / 4, -1),
    "before_an_output": lambda net, x: torch.relu(net.first(x)) * 0.1,
    "before_a_norm": lambda net, x: net.second(F.layer_norm(torch.relu(net.first(x)) * 0.1, (WIDTH,))),
    "in_a_gate": lambda net, x: 2 * torch.relu(net.first(x)) * net.second(x),
}


@pytest.mark.parametrize("key", WEIGHTED)
def test_the_author_s_weighting_is_not_undone(key: str):
    model = Net(lambda net, x: WEIGHTED[key](net, x), first=nn.Linear(WIDTH, WIDTH), second=nn.Linear(WIDTH, WIDTH))
    layer = plan(model, (3, WIDTH))["first"]
    assert (layer.nonlinearity, layer.std) == ("relu", pytest.approx(HE))


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: x + 0.1 * net.first(x),
        lambda net, x: net.first(x) * 0.1,
        lambda net, x: torch.softmax(net.first(x) / 0.1, -1),
    ],
    ids=["branch", "output", "temperature"],
)
def test_a_factor_behind_a_linear_layer_is_not_undone(forward: Callable[[Any, Tensor], Tensor]):
    layer = plan(Net(forward, first=nn.Linear(WIDTH, WIDTH)), (3, WIDTH))["first"]
    assert layer.std == pytest.approx(XAVIER)


def test_a_factor_on_the_way_to_a_weight_and_to_an_addition():
    """h = sqrt(2) relu(z) goes into a weight and beside it: h has second moment 1 for both."""

    def forward(net: Any, x: Tensor) -> Tensor:
        h = ROOT_TWO * torch.relu(net.first(x))
        return h + net.last(h)

    made = plan(Net(forward, first=nn.Linear(WIDTH, WIDTH), last=nn.Linear(WIDTH, WIDTH)), (3, WIDTH))
    assert made["first"].std == pytest.approx(HE / ROOT_TWO)


def test_halves_with_factors_of_their_own():
    """Rows 0 to 7 feed relu(4 z), the others 0.3 tanh(z), which a weight reads: 4 and 0.3 are each half's own."""

    def forward(net: Any, x: Tensor) -> Tensor:
        a, b = net.first(x).chunk(2, -1)
        return net.last(torch.relu(4 * a)) + net.second(0.3 * torch.tanh(b))

    half = nn.Linear(WIDTH // 2, WIDTH)
    model = Net(forward, first=nn.Linear(WIDTH, WIDTH), last=half, second=nn.Linear(WIDTH // 2, WIDTH))
    parts = plan(model, (3, WIDTH))["first"].slices
    tanh = 5 / 3 * math.sqrt(2 / (WIDTH + WIDTH // 2))
    assert [part.std for part in parts] == pytest.approx([HE / 4, tanh / 0.3])


# Inputs.

INPUTS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "linear": lambda net, x: net.first(x * 0.1),
    "functional": lambda net, x: F.linear(0.1 * x, net.first.weight),
    "matmul": lambda net, x: (x / 10) @ net.first.weight.T,
    "moved": lambda net, x: net.first((x * 0.1).clone()),
    "on_the_weight": lambda net, x: F.linear(x, net.first.weight * 0.1),
    "addmm": lambda net, x: torch.addmm(net.first.bias, x, net.first.weight.T, alpha=0.1),
}


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("key", INPUTS)
def test_a_factor_on_the_input_counts_as_on_the_weight(key: str, tier: str):
    """relu(W (0.1 x)): 10 sqrt(2 / 16)."""
    model = Net(lambda net, x: torch.relu(INPUTS[key](net, x)), first=nn.Linear(WIDTH, WIDTH))
    assert planned(model, tier)["first"].std == pytest.approx(10 * HE, rel=1e-5)


COUNTED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "behind_a_layer": lambda net, x: 0.1 * net.before(x),
    "behind_a_norm": lambda net, x: 0.1 * net.norm(x),
    "behind_a_written_norm": lambda net, x: 0.1 * (x / x.square().mean(-1, keepdim=True).sqrt()),
}


@pytest.mark.parametrize("key", COUNTED)
def test_a_factor_on_what_has_second_moment_one_counts(key: str):
    model = Net(
        lambda net, x: torch.relu(net.first(COUNTED[key](net, x))),
        before=nn.Linear(WIDTH, WIDTH),
        first=nn.Linear(WIDTH, WIDTH),
        norm=nn.LayerNorm(WIDTH),
    )
    assert plan(model, (3, WIDTH))["first"].std == pytest.approx(10 * HE)


UNCOUNTED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "an_activation": lambda net, x: 0.1 * torch.relu(x),
    "an_addition": lambda net, x: (x + net.before(x)) / ROOT_TWO,
    "a_sum": lambda net, x: x.unsqueeze(1).expand(-1, 5, -1).sum(1) / 5,
    "bytes": lambda net, x: x / 255,
    "bytes_around_zero": lambda net, x: x / 127.5 - 1,
    "a_shift": lambda net, x: 2 * x - 1,
    "a_unit_length": lambda net, x: F.normalize(x, dim=-1) * math.sqrt(WIDTH),
    "a_written_unit_length": lambda net, x: x / x.norm(dim=-1, keepdim=True) * math.sqrt(WIDTH),
    "an_embedding": lambda net, x: net.table(torch.zeros(3, dtype=torch.long)) * math.sqrt(WIDTH),
}


@pytest.mark.parametrize("key", UNCOUNTED)
def test_a_factor_that_makes_up_for_what_comes_before_does_not_count(key: str):
    """(a + b) / sqrt(2), sum / 5, a vector of length one times sqrt(16), bytes over 255: each has unit scale so."""
    model = Net(
        lambda net, x: torch.relu(net.first(UNCOUNTED[key](net, x))),
        before=nn.Linear(WIDTH, WIDTH),
        first=nn.Linear(WIDTH, WIDTH),
        table=nn.Embedding(4, WIDTH),
    )
    assert plan(model, (3, WIDTH))["first"].std == pytest.approx(HE)


# Networks as published.


class Sine(nn.Module):
    """sin(w0 W x), with weights as the authors draw them (Sitzmann et al. 2020)."""

    def __init__(self, fan_in: int, fan_out: int, frequency: float = 30.0, *, first: bool = False) -> None:
        super().__init__()
        self.linear, self.frequency = nn.Linear(fan_in, fan_out), frequency
        bound = 1 / fan_in if first else math.sqrt(6 / fan_in) / frequency
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.frequency * self.linear(x))


def siren(width: int = 256) -> nn.Sequential:
    last = nn.Linear(width, 1)
    bound = math.sqrt(6 / width) / 30
    nn.init.uniform_(last.weight, -bound, bound)
    return nn.Sequential(Sine(2, width, first=True), Sine(width, width), Sine(width, width), last)


@pytest.mark.parametrize("inputs", [None, (64, 2)], ids=["no_input", "input"])
def test_siren(inputs: Any):
    """Between two layers of 256: sqrt(2 / 256) / 30 times the gain of sin over sqrt(2), 0.003168."""
    std = plan(siren(), inputs)["1.linear"].std
    assert std == pytest.approx(math.sqrt(2 / 256) / 30 * SIN / ROOT_TWO, rel=1e-6)


def test_siren_as_its_authors_draw_it_has_no_error():
    """Its hidden layers are right, 7 % off. The first sets the frequencies on purpose, before a bounded function."""
    torch.manual_seed(0)
    found = check(siren(), torch.rand(64, 2) * 2 - 1).findings
    assert [each for each in found if each.severity == "error"] == []
    assert {each.layer for each in found if each.code.startswith("INI1")} <= {"0.linear", "3"}


class Equalised(nn.Module):
    """A layer of N(0, 1) / lr with its equalised learning rate on the weight, the input or the output."""

    def __init__(self, fan_in: int, fan_out: int, side: str, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in) / rate)
        self.bias = nn.Parameter(torch.zeros(fan_out))
        self.side, self.scale = side, rate / math.sqrt(fan_in)

    def forward(self, x: Tensor) -> Tensor:
        if self.side == "weight":
            return F.linear(x, self.weight * self.scale, self.bias)
        if self.side == "input":
            return F.linear(x * self.scale, self.weight, self.bias)
        return F.linear(x, self.weight) * self.scale + self.bias


class Activated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.2) * ROOT_TWO


class PixelNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8)


def mapping(side: str, width: int = 64, rate: float = 0.01) -> nn.Sequential:
    """StyleGAN2's mapping network."""
    blocks = [block for _ in range(4) for block in (Equalised(width, width, side, rate), Activated())]
    return nn.Sequential(PixelNorm(), *blocks)


@pytest.mark.parametrize("side", ["weight", "input", "output"])
def test_a_stylegan2_mapping_network(side: str):
    """N(0, 1) / 0.01 times 0.01 / sqrt(n), before leaky_relu(0.2) sqrt(2): planned sqrt(1 / 1.04) / 0.01. The last one
    as well: sqrt(2) is the gain, sqrt(2 / 1.04), but for 2 %, and no weighting of an output."""
    torch.manual_seed(0)
    model = mapping(side)
    made = plan(model, (8, 64))
    stds = [made[name].std * 0.01 for name in ("1", "3", "5", "7")]
    assert stds == pytest.approx([math.sqrt(1 / 1.04)] * 4, rel=1e-4)


@pytest.mark.parametrize("side", ["weight", "input", "output"])
def test_a_stylegan2_mapping_network_is_right_as_built(side: str):
    torch.manual_seed(0)
    model, x = mapping(side), torch.randn(8, 64)
    assert check(model, x).ok
    autoinit(model, x, seed=0, verbose=False, force=True)
    assert check(model, x).ok


@pytest.mark.parametrize("normed", [True, False], ids=["pixel_norm", "plain"])
def test_an_equalised_learning_rate_on_every_input(normed: bool):
    """ProGAN: conv(x / sqrt(fan_in)) behind leaky ReLUs, with or without a pixel norm. N(0, 1) times the gain for all;
    the head, 1. Each number is the own one of the layer in whose module it stands."""
    blocks: list[nn.Module] = []
    for _ in range(3):
        blocks += [Equalised(64, 64, "input"), nn.LeakyReLU(0.2), *([PixelNorm()] if normed else [])]
    made = plan(nn.Sequential(*blocks, Equalised(64, 64, "input")), (8, 64))
    stds = [layer.std for layer in made.values()]
    assert stds == pytest.approx([math.sqrt(2 / 1.04)] * 3 + [1.0], rel=1e-4)


def test_an_equalised_learning_rate_in_one_forward():
    """Written out: 1 / sqrt(fan_in) behind an activation is the next layer's own."""

    def forward(net: Any, x: Tensor) -> Tensor:
        h = F.relu(F.linear(x * 0.25, net.a))
        return F.linear(h * 0.25, net.b)

    a, b = (nn.Parameter(torch.randn(WIDTH, WIDTH)) for _ in range(2))
    made = plan(Net(forward, a=a, b=b), (3, WIDTH))
    assert [layer.std for layer in made.values()] == pytest.approx([ROOT_TWO, 1.0])


def test_what_is_made_up_for_is_told():
    made = plan(between(lambda net, z: 0.5 * torch.relu(4 * z)), (3, WIDTH))
    note = "its output is multiplied by 4 before relu: std / 4; relu is multiplied by 0.5: std / 0.5"
    assert made["first"].note == note


# Blocks, and what an activation's argument takes of itself.


def guarded(z: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return torch.sin(30 * z)


def finer(z: Tensor) -> Tensor:
    """FINER (Liu et al. 2024): the frequency grows with |z|, and gets no gradient."""
    with torch.no_grad():
        scale = z.abs() + 1
    return torch.sin(30 * scale * z)


@pytest.mark.parametrize("tier", ["recorded", "exported"])
def test_a_block_under_autocast_is_followed(tier: str):
    """SIREN again: sqrt(2 / (1 - e^-2)) / 30 / sqrt(16)."""
    layer = planned(between(lambda net, z: guarded(z)), tier)["first"]
    assert (layer.nonlinearity, layer.std) == ("sin", pytest.approx(SIN / 30 / math.sqrt(WIDTH), rel=1e-5))


@pytest.mark.parametrize("tier", ["recorded", "exported"])
def test_a_frequency_that_grows_with_its_argument(tier: str):
    """1 / sqrt(E[sin(30 (|z| + 1) z)^2]) by a sum over two million points of the normal density."""
    z = torch.linspace(-8, 8, 2_000_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    moment = float((density * torch.sin(30 * (z.abs() + 1) * z).square()).sum() * (z[1] - z[0]))
    layer = planned(between(lambda net, z: finer(z)), tier)["first"]
    assert layer.reason == "activation"
    assert layer.std == pytest.approx(1 / math.sqrt(moment * WIDTH), rel=1e-3)


def test_a_length_that_is_taken_off_is_no_square():
    """Performer's features, exp(z W - |z|^2 / 2): z feeds a difference, linear, at Xavier's sqrt(2 / 32)."""
    change = between(
        lambda net, z: torch.exp(z @ net.projection - z.square().sum(-1, keepdim=True) / 2),
        projection=torch.eye(WIDTH),
    )
    layer = plan(change, (3, WIDTH))["first"]
    assert (layer.nonlinearity, layer.std) == ("linear", pytest.approx(XAVIER))


def test_an_adjacency_that_is_learned_behind_a_softmax_is_left():
    """Graph WaveNet, softmax(relu(E F)) h: neither E nor F is a weight that a scale belongs to."""
    model = Net(
        lambda net, x: torch.relu(torch.softmax(torch.relu(net.e @ net.f), 1) @ net.layer(x)),
        layer=nn.Linear(WIDTH, WIDTH),
        e=nn.Parameter(torch.randn(3, 2, generator=torch.Generator().manual_seed(0))),
        f=nn.Parameter(torch.randn(2, 3, generator=torch.Generator().manual_seed(1))),
    )
    made = plan(model, (3, WIDTH))
    assert [layer.name for layer in made.layers] == ["layer"]
    assert {other.name for other in made.others if "not proportional" in other.note} == {"e", "f"}
