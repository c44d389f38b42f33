"""Weights that a signal changes on the way: StyleGAN2's modulated convolutions, grouped by the batch.

A weight (16, 8, 3, 3) sums 8 * 9 = 72 products in an output, and an input reaches 16 * 9 = 144, whatever the batch.
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
from tests.shared.written_nets import Many, numbers

IN, OUT, CODE, SIZE = 8, 16, 12, 6
FAN_IN, FAN_OUT = 72, 144
HE = math.sqrt(2 / FAN_IN)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def batch(count: int = 2) -> tuple[Tensor, Tensor]:
    return numbers(count, IN, SIZE, SIZE), numbers(count, CODE)


def grouped(x: Tensor, weight: Tensor) -> Tensor:
    """Each sample's convolution with its own weight, as one convolution of as many groups."""
    count = x.shape[0]
    y = F.conv2d(x.reshape(1, -1, SIZE, SIZE), weight.reshape(count * OUT, IN, 3, 3), padding=1, groups=count)
    return y.reshape(count, OUT, SIZE, SIZE)


def modulated(net: Any, style: Tensor) -> Tensor:
    return net.weight * style.view(-1, 1, IN, 1, 1)


def by_root(weight: Tensor) -> Tensor:
    return weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4], keepdim=True) + 1e-8)


def by_normalize(weight: Tensor) -> Tensor:
    return F.normalize(weight.flatten(2), dim=-1).view_as(weight)


def by_norm(weight: Tensor) -> Tensor:
    return weight / weight.flatten(2).norm(dim=-1).view(-1, OUT, 1, 1, 1)


DEMODULATED: dict[str, Callable[[Tensor], Tensor]] = {"root": by_root, "normalize": by_normalize, "norm": by_norm}
MODULATED: dict[str, tuple[Callable[[Any, Tensor], Tensor], float]] = {
    "plain": (modulated, 1.0),
    "equalised": (lambda net, style: modulated(net, style) / math.sqrt(FAN_IN), 1 / math.sqrt(FAN_IN)),
    "around_one": (lambda net, style: modulated(net, 1 + style), 1.0),  # whatever it is, the signal stands at 1
    "in_place": (lambda net, style: net.weight.repeat(2, 1, 1, 1, 1).mul_(style.view(-1, 1, IN, 1, 1)), 1.0),
}


def model(change: Callable[[Any, Tensor], Tensor], shape: tuple[int, ...] = (1, OUT, IN, 3, 3)) -> Many:
    return Many(
        lambda net, x, code: F.relu(grouped(x, change(net, net.style(code)))),
        style=nn.Linear(CODE, IN),
        weight=parameter(*shape),
    )


@pytest.mark.parametrize("tier", ["recorded", "exported"])
@pytest.mark.parametrize("key", MODULATED)
def test_a_modulated_convolution(key: str, tier: str):
    """relu(conv(x, factor * w * style)): sqrt(2 / 72) / factor; the style feeds a weight."""
    change, factor = MODULATED[key]
    net = model(change)
    made = plan(net, batch()) if tier == "recorded" else plan(torch.export.export(net, batch()))
    layer = made["weight"]
    assert (layer.op.startswith("conv"), layer.nonlinearity, layer.status) == (True, "relu", "planned")
    assert (layer.fan_in, layer.fan_out) == (FAN_IN, FAN_OUT)
    assert layer.std == pytest.approx(HE / factor, rel=1e-4)
    assert "scaled by a signal" in layer.note
    assert (made["style"].nonlinearity, made["style"].reason) == ("linear", "weight")


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("key", DEMODULATED)
def test_a_demodulated_convolution(key: str, count: int):
    """The scale is normalised away, as by weight standardisation, whatever the batch."""
    layer = plan(model(lambda net, style: DEMODULATED[key](modulated(net, style))), batch(count))["weight"]
    assert (layer.nonlinearity, layer.fan_in, layer.fan_out) == ("relu", FAN_IN, FAN_OUT)
    assert layer.std == pytest.approx(HE)
    assert "scaled by a signal, which normalises its scale away" in layer.note


def test_a_weight_without_an_axis_for_samples():
    layer = plan(model(lambda net, style: net.weight[None] * style.view(-1, 1, IN, 1, 1), (OUT, IN, 3, 3)), batch())
    assert (layer["weight"].axes, layer["weight"].fan_in, layer["weight"].fan_out) == ("oikk", FAN_IN, FAN_OUT)


def test_an_upsampling_convolution():
    """Transposed, stride 2, kernel 3: an output sums 8 * 9 / 4 = 18 products, an input reaches 16 * 9 outputs."""

    def forward(net: Any, x: Tensor, code: Tensor) -> Tensor:
        count, weight = x.shape[0], modulated(net, net.style(code)).transpose(1, 2)
        weight = weight.reshape(count * IN, OUT, 3, 3)
        y = F.conv_transpose2d(x.reshape(1, -1, SIZE, SIZE), weight, stride=2, groups=count)
        return F.relu(y.view(count, OUT, *y.shape[2:]))

    layer = plan(Many(forward, style=nn.Linear(CODE, IN), weight=parameter(1, OUT, IN, 3, 3)), batch())["weight"]
    assert (layer.fan_in, layer.fan_out, layer.std) == (18, FAN_OUT, pytest.approx(math.sqrt(2 / 18)))


@pytest.mark.parametrize("demodulate", [True, False], ids=["demodulated", "modulated"])
def test_stylegan2_s_layer(demodulate: bool):
    """With its equalised learning rate, bias and leaky_relu(0.2) sqrt(2); it is right once written."""

    def change(net: Any, style: Tensor) -> Tensor:
        weight = modulated(net, style) / math.sqrt(FAN_IN)
        return by_root(weight) if demodulate else weight

    net = Many(
        lambda net, x, code: net.to_rgb(
            F.leaky_relu(grouped(x, change(net, net.style(code))) + net.bias, 0.2) * math.sqrt(2)
        ),
        style=nn.Linear(CODE, IN),
        weight=parameter(1, OUT, IN, 3, 3),
        bias=nn.Parameter(torch.zeros(OUT, 1, 1)),
        to_rgb=nn.Conv2d(OUT, 3, 1),
    )
    layer = plan(net, batch())["weight"]
    std = math.sqrt(1 / 1.04)
    assert layer.std == pytest.approx(std / math.sqrt(FAN_IN) if demodulate else std, rel=1e-4)
    autoinit(net, batch(), seed=0, verbose=False)
    assert check(net, batch()).ok


def test_a_weight_that_another_network_makes_is_no_parameter_s():
    """A hypernetwork's output alone: there is no parameter to list beside its layer."""
    net = Many(
        lambda net, x, code: F.relu(F.conv2d(x, net.make(code)[0].view(OUT, IN, 3, 3))),
        make=nn.Linear(CODE, OUT * IN * 9),
    )
    assert set(plan(net, batch())) == {"make"}


def test_a_weight_that_another_network_adds_to():
    """W + hyper(code): W is a weight, whose scale the sum keeps."""
    net = Many(
        lambda net, x, code: F.relu(F.conv2d(x, net.weight + net.make(code)[0].view(OUT, IN, 3, 3))),
        make=nn.Linear(CODE, OUT * IN * 9),
        weight=parameter(OUT, IN, 3, 3),
    )
    made = plan(net, batch())
    assert (made["weight"].nonlinearity, made["weight"].std) == ("relu", pytest.approx(HE, rel=1e-4))


# One matrix for each sample. Each output sums 8 products and each input reaches 16 outputs, whatever the batch.

POSITIONS = 7
SEQUENCE = (numbers(2, IN, POSITIONS), numbers(2, CODE))
Forward = Callable[[Any, Tensor, Tensor], Tensor]
MATRICES: dict[str, tuple[Forward, tuple[int, ...]]] = {
    "bmm": (lambda net, x, style: torch.bmm(net.weight * style[:, None], x), (OUT, IN)),
    "matmul": (lambda net, x, style: (style.unsqueeze(1) * net.weight) @ x, (1, OUT, IN)),
    "right": (lambda net, x, style: x.mT @ (net.weight * style[..., None]), (IN, OUT)),
    "transposed": (lambda net, x, style: x.mT @ (net.weight * style[:, None]).transpose(1, 2), (OUT, IN)),
    "baddbmm": (lambda net, x, style: torch.baddbmm(net.bias, net.weight * style[:, None], x), (OUT, IN)),
    "einsum": (lambda net, x, style: torch.einsum("boi,bin->bon", net.weight * style[:, None], x), (OUT, IN)),
    "vmap": (lambda net, x, style: torch.vmap(lambda a, b: F.linear(a.T, net.weight * b))(x, style), (OUT, IN)),
    "in_turn": (lambda net, x, style: torch.stack([(net.weight * style[at]) @ x[at] for at in (0, 1)]), (OUT, IN)),
}


def with_matrix(forward: Forward, shape: tuple[int, ...]) -> Many:
    return Many(
        lambda net, x, code: F.relu(forward(net, net.first(x.mT).mT, net.style(code))),
        first=nn.Linear(IN, IN),
        style=nn.Linear(CODE, IN),
        weight=parameter(*shape),
        bias=nn.Parameter(torch.zeros(OUT, 1)),
    )


@pytest.mark.parametrize("key", MATRICES)
def test_a_modulated_matrix(key: str):
    """relu((w * style) x): sqrt(2 / 8); what the style and x come from feeds a weight."""
    made = plan(with_matrix(*MATRICES[key]), SEQUENCE)
    layer = made["weight"]
    assert (layer.nonlinearity, layer.fan_in, layer.fan_out, layer.status) == ("relu", IN, OUT, "planned")
    assert layer.std == pytest.approx(math.sqrt(2 / IN))
    assert "scaled by a signal" in layer.note
    assert [(made[name].nonlinearity, made[name].reason) for name in ("first", "style")] == [("linear", "weight")] * 2


DEMODULATED_MATRICES: dict[str, Callable[[Tensor], Tensor]] = {
    "root": lambda w: w * torch.rsqrt(w.pow(2).sum(-1, keepdim=True) + 1e-8),
    "normalize": lambda w: F.normalize(w, dim=-1),
    "norm": lambda w: w / w.norm(dim=-1, keepdim=True),
}


@pytest.mark.parametrize("product", ["bmm", "einsum"])
@pytest.mark.parametrize("key", DEMODULATED_MATRICES)
def test_a_demodulated_matrix(key: str, product: str):
    def forward(net: Any, x: Tensor, style: Tensor) -> Tensor:
        weight = DEMODULATED_MATRICES[key](net.weight * style[:, None])
        return weight.bmm(x) if product == "bmm" else torch.einsum("boi,bin->bon", weight, x)

    layer = plan(with_matrix(forward, (OUT, IN)), SEQUENCE)["weight"]
    assert (layer.std, layer.fan_out) == (pytest.approx(math.sqrt(2 / IN)), OUT)
    assert "scaled by a signal, which normalises its scale away" in layer.note


SCALED_SIGNALS: dict[str, tuple[Forward, tuple[int, ...]]] = {
    "table": (lambda net, x, _: torch.bmm(x * net.weight, x.mT), (IN, POSITIONS)),
    "positions": (lambda net, x, _: torch.bmm(x + net.weight, x.mT), (IN, POSITIONS)),
    "gain": (lambda net, x, _: torch.bmm(x * net.weight, x.mT), (POSITIONS,)),
    "temperature": (lambda net, x, _: torch.matmul(x * net.weight, x.mT), (1, 1, 1)),
}


@pytest.mark.parametrize("key", SCALED_SIGNALS)
def test_a_signal_that_a_parameter_scales_is_no_weight(key: str):
    """Queries times a table, a gain or a temperature, before they meet the keys."""
    made = plan(with_matrix(*SCALED_SIGNALS[key]), SEQUENCE)
    assert "weight" not in made
    assert (made["first"].nonlinearity, made["first"].reason) == ("linear", "attention")


# Mixtures of several weights.

EXPERTS = 4
MIXTURES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], tuple[int, ...]]] = {
    "sum": (lambda w, shares: (w * shares.view(-1, EXPERTS, 1, 1, 1, 1)).sum(1), (EXPERTS, OUT, IN, 3, 3)),
    "einsum": (lambda w, shares: torch.einsum("be,eoikl->boikl", shares, w), (EXPERTS, OUT, IN, 3, 3)),
    "tensordot": (lambda w, shares: torch.tensordot(shares, w, dims=1), (EXPERTS, OUT, IN, 3, 3)),
}


def with_experts(mix: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...], shares: Any = torch.sigmoid) -> Many:
    return Many(
        lambda net, x, code: F.relu(grouped(x, mix(net.weight, shares(net.route(code))))),
        route=nn.Linear(CODE, EXPERTS),
        weight=parameter(*shape),
    )


@pytest.mark.parametrize("key", MIXTURES)
def test_a_mixture_of_kernels(key: str):
    """CondConv (Yang et al. 2019): each expert is the kernel of a convolution; 72 products, 144 outputs."""
    layer = plan(with_experts(*MIXTURES[key]), batch())["weight"]
    assert (layer.op, layer.nonlinearity, layer.fan_in, layer.fan_out) == ("conv2d", "relu", FAN_IN, FAN_OUT)
    assert layer.std == pytest.approx(HE)


def test_a_mixture_that_does_not_tell_its_axes_is_left():
    """timm's CondConv2d keeps its kernels flat, (experts, 16 * 8 * 9): the 4 experts are no fan_in."""
    made = plan(with_experts(lambda w, shares: shares @ w, (EXPERTS, OUT * FAN_IN)), batch())
    assert set(made) == {"route"}
    (other,) = made.others
    assert other.note == (
        "left as it is: shares mix its entries into the weight of conv2d, and its axes are not told by that"
    )


def test_shares_of_values_are_no_mixture_of_weights():
    """softmax(q k) v over 4 learned slots: each output sums 4 products."""
    model = Many(
        lambda net, x, code: F.relu(torch.softmax(net.route(code), -1) @ net.weight) * x.mean((1, 2))[:, None],
        route=nn.Linear(CODE, EXPERTS),
        weight=parameter(EXPERTS, OUT),
    )
    layer = plan(model, SEQUENCE)["weight"]
    assert (layer.op, layer.fan_in, layer.std) == ("matmul", EXPERTS, pytest.approx(math.sqrt(2 / EXPERTS)))


def test_a_state_space_s_rates_are_no_weight():
    """Mamba's scan by hand: h = exp(dt A) h + dt B u, y = h C, with A = -exp(log)."""

    def forward(net: Any, x: Tensor, code: Tensor) -> Tensor:
        step = F.softplus(net.style(code))[..., None]
        state = torch.zeros(x.shape[0], IN, EXPERTS)
        for at in range(2):
            drive = step * net.first(x[..., at])[..., None] * x[:, :1, :EXPERTS]
            state = torch.exp(step * -torch.exp(net.weight)) * state + drive
        return F.relu(torch.bmm(state, net.first(x.mT)[:, :EXPERTS, :1]))

    model = Many(forward, style=nn.Linear(CODE, IN), first=nn.Linear(IN, IN), weight=parameter(IN, EXPERTS))
    assert "weight" not in plan(model, SEQUENCE)


# A modulated linear layer: y_o = sum_i w_oi s_i x_i, in whatever order the three are multiplied.

LINEAR: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "linear": lambda w, x, style: F.linear(x * style, w),
    "sum": lambda w, x, style: (w * style[:, None] * x[:, None]).sum(-1),
    "sum_of_signals_first": lambda w, x, style: ((x * style)[:, None] * w).sum(-1),
    "sum_with_the_weight_inside": lambda w, x, style: (x[:, None] * (style[:, None] * w)).sum(dim=-1),
    "einsum": lambda w, x, style: torch.einsum("bi,bi,oi->bo", x, style, w),
    "einsum_of_the_changed": lambda w, x, style: torch.einsum("boi,bi->bo", w * style[:, None], x),
    "bmm": lambda w, x, style: torch.bmm(w * style[:, None], x[:, :, None])[..., 0],
    "matmul": lambda w, x, style: ((w * style[:, None]) @ x[:, :, None]).squeeze(-1),
}


class ModulatedLinear(nn.Module):
    def __init__(self, multiply: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.style, self.weight, self.last = nn.Linear(CODE, IN), parameter(OUT, IN), nn.Linear(OUT, 3)
        self.multiply = multiply

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return self.last(F.relu(self.multiply(self.weight, x, self.style(code))))


@pytest.mark.parametrize("inputs", [((4, IN), (4, CODE)), None], ids=["input", "no_input"])
@pytest.mark.parametrize("key", LINEAR)
def test_a_modulated_linear_layer(key: str, inputs: Any):
    """8 products an output, before a ReLU: sqrt(2 / 8). The style multiplies what no weight made."""
    made = plan(ModulatedLinear(LINEAR[key]), inputs)
    assert (made["weight"].nonlinearity, made["weight"].fan_in, made["weight"].std) == ("relu", 8, pytest.approx(0.5))
    assert (made["style"].nonlinearity, made["last"].reason) == ("linear", "output")


def test_the_gain_of_one_of_two_signals_is_no_weight():
    """Cosine attention with a gain for each feature: `g` gives no outputs of its own."""
    made = plan(
        Many(
            lambda net, x, code: ((F.normalize(net.query(x), dim=-1) * net.gain) * net.key(code)).sum(-1),
            query=nn.Linear(IN, OUT),
            key=nn.Linear(CODE, OUT),
            gain=nn.Parameter(torch.ones(OUT)),
        ),
        ((4, IN), (4, CODE)),
    )
    assert list(made) == ["query", "key"]


# The style multiplies the input, and what the weight with the style would be divided by divides the output.

Divisor = Callable[[Tensor, Tensor], Tensor]
UNFUSED: dict[str, Divisor] = {
    "root": lambda w, s: ((w[None] * s[:, None, :, None, None]).square().sum((2, 3, 4)) + 1e-8).rsqrt(),
    "matmul": lambda w, s: torch.rsqrt(s.square() @ w.square().sum((2, 3)).T + 1e-8),
    "einsum": lambda w, s: torch.einsum("oikl,bi->bo", w**2, s**2).pow(-0.5),
    "norm": lambda w, s: 1 / (w * s[:, None, :, None, None]).flatten(2).norm(dim=-1),
    "equalised": lambda w, s: ((w / 9 * s[:, None, :, None, None]) ** 2).sum((2, 3, 4)).rsqrt() / 9,
}


def unfused(divisor: Divisor, divide: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Many:
    def forward(net: Any, x: Tensor, code: Tensor) -> Tensor:
        style = net.style(code)
        y = F.conv2d(net.first(x) * style[..., None, None], net.weight, padding=1)
        return F.relu(divide(y, divisor(net.weight, style)[..., None, None], net.noise))

    return Many(
        forward,
        style=nn.Linear(CODE, IN),
        first=nn.Conv2d(IN, IN, 1),
        weight=parameter(OUT, IN, 3, 3),
        noise=torch.ones(1, 1, SIZE, SIZE),
    )


@pytest.mark.parametrize("tier", ["recorded", "exported"])
@pytest.mark.parametrize("key", UNFUSED)
def test_a_demodulated_convolution_that_is_not_fused(key: str, tier: str):
    """StyleGAN2-ADA without `fused_modconv`: the same function as the fused one, relu(conv(x, w * s / norm))."""
    net = unfused(UNFUSED[key], lambda y, by, _: y * by)
    layers = plan(
        net if tier == "recorded" else torch.export.export(net, batch()), batch() if tier == "recorded" else None
    )
    weight, style = layers["weight"], layers["style"]
    assert (weight.nonlinearity, weight.std, weight.status) == ("relu", pytest.approx(HE), "planned")
    assert "scaled by a signal, which normalises its scale away" in weight.note
    assert (style.nonlinearity, style.reason, layers["first"].reason) == ("linear", "gate", "gate")


def test_noise_is_added_as_the_output_is_divided():
    net = unfused(UNFUSED["root"], lambda y, by, noise: torch.addcmul(noise, y, by))
    assert plan(net, batch())["weight"].nonlinearity == "relu"


NOT_DIVIDED: dict[str, Divisor] = {
    "gate": lambda w, s: (w[None] * s[:, None, :, None, None]).sum((2, 3, 4)),  # grows with the weight
    "square": lambda w, s: 1 / (w[None] * s[:, None, :, None, None]).square().sum((2, 3, 4)),  # outweighs it
    "other": lambda w, s: s.repeat(1, 2),
}


@pytest.mark.parametrize("key", NOT_DIVIDED)
def test_a_gate_that_a_weight_makes_of_itself_is_no_demodulation(key: str):
    layer = plan(unfused(NOT_DIVIDED[key], lambda y, by, _: y * by), batch())["weight"]
    assert (layer.nonlinearity, layer.reason) == ("linear", "gate")
    assert "normalises" not in layer.note


def test_a_classifier_by_cosine():
    """y = (x / |x|) . (w / |w|), by dividing what a linear layer gives: the weight's scale does not matter."""
    net = Many(
        lambda net, x, _: F.linear(F.normalize(x.flatten(1)), net.weight) / net.weight.norm(dim=1),
        weight=parameter(OUT, IN * SIZE * SIZE),
    )
    layer = plan(net, batch())["weight"]
    assert (layer.reason, "normalises its scale away" in layer.note) == ("output", True)
    assert "scaled by a signal" not in layer.note
