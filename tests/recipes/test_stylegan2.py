"""StyleGAN2's recipe on generators and discriminators as people write them.

Every weight is N(0, 1) where its layer multiplies by 1 / sqrt(fan_in) as it runs, N(0, 100^2) in a mapping network
whose layers multiply by 0.01 / sqrt(fan_in); biases are 0, those of styles 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import autoinit

CODE, WIDTH, CHANNELS = 12, 16, 8


def bent(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


class Equal(nn.Module):
    """A linear layer of an equalised learning rate, the number on the weight."""

    def __init__(self, inputs: int, outputs: int, rate: float = 1.0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(outputs, inputs)), nn.Parameter(torch.empty(outputs))
        self.rate, self.gain = rate, rate / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.gain, self.bias * self.rate)


class OnInput(Equal):
    """The number on the input."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x * self.gain, self.weight) + self.bias * self.rate


class ByMatmul(Equal):
    """The number on the weight, as a product of matrices."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm((self.bias * self.rate)[None], x, (self.weight * self.gain).t())


class EqualConv(nn.Module):
    """A convolution of an equalised learning rate; on_input: where the number stands."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, on_input: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.gain, self.stride, self.on_input = 1 / math.sqrt(inputs * kernel**2), stride, on_input

    def forward(self, x: Tensor) -> Tensor:
        weight, x = (self.weight, x * self.gain) if self.on_input else (self.weight * self.gain, x)
        return F.conv2d(x, weight, self.bias, self.stride, self.weight.shape[-1] // 2)


class Modulated(nn.Module):
    """A convolution whose inputs a style scales.

    fused: whether the style is multiplied into the weight. demodulate, gain: what else is.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, linear: type[Equal], *, fused: bool, up: bool) -> None:
        super().__init__()
        self.style = linear(WIDTH, inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.fused, self.up, self.pad = fused, up, kernel // 2

    def forward(self, x: Tensor, code: Tensor, gain: float = 1.0, *, demodulate: bool = True) -> Tensor:
        (count, inputs, high, wide), style = x.shape, self.style(code) * gain
        weight = self.weight[None] * style.reshape(count, 1, -1, 1, 1)
        scale = (weight.square().sum(dim=(2, 3, 4)) + 1e-8).rsqrt() if demodulate else None
        if not self.fused:
            x = x * style.reshape(count, -1, 1, 1)
            if self.up:
                x = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)[..., : 2 * high, : 2 * wide]
            else:
                x = F.conv2d(x, self.weight, padding=self.pad)
            return x if scale is None else x * scale.reshape(count, -1, 1, 1)
        weight = weight if scale is None else weight * scale.reshape(count, -1, 1, 1, 1)
        x = x.reshape(1, -1, high, wide)
        if self.up:
            weight = weight.transpose(1, 2).reshape(count * inputs, -1, *self.weight.shape[2:])
            x = F.conv_transpose2d(x, weight, stride=2, groups=count)[..., : 2 * high, : 2 * wide]
        else:
            weight = weight.reshape(-1, inputs, *self.weight.shape[2:])
            x = F.conv2d(x, weight, padding=self.pad, groups=count)
        return x.reshape(count, -1, *x.shape[2:])


class Layer(nn.Module):
    """A modulated convolution, noise, a bias and its activation."""

    def __init__(self, linear: type[Equal], *, fused: bool, up: bool = False) -> None:
        super().__init__()
        self.conv = Modulated(CHANNELS, CHANNELS, 3, linear, fused=fused, up=up)
        self.strength, self.bias = nn.Parameter(torch.empty([])), nn.Parameter(torch.empty(CHANNELS))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        x = self.conv(x, code)
        return bent(x + self.strength * torch.randn_like(x[:, :1]) + self.bias.view(1, -1, 1, 1))


class ToImage(nn.Module):
    """Three channels, not demodulated: the number stands on the style."""

    def __init__(self, linear: type[Equal], *, fused: bool) -> None:
        super().__init__()
        self.conv = Modulated(CHANNELS, 3, 1, linear, fused=fused, up=False)
        self.bias = nn.Parameter(torch.empty(3))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return self.conv(x, code, CHANNELS**-0.5, demodulate=False) + self.bias.view(1, -1, 1, 1)


class Generator(nn.Module):
    """A mapping network of two layers, a learned constant, two layers, the second upsampling, and an image."""

    def __init__(self, linear: type[Equal] = Equal, *, fused: bool = True) -> None:
        super().__init__()
        self.mapping = nn.ModuleList([linear(CODE, WIDTH, 0.01), linear(WIDTH, WIDTH, 0.01)])
        self.start = nn.Parameter(torch.empty(CHANNELS, 4, 4))
        self.first, self.second = Layer(linear, fused=fused), Layer(linear, fused=fused, up=True)
        self.image = ToImage(linear, fused=fused)

    def forward(self, code: Tensor) -> Tensor:
        code = code * (code.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.mapping:
            code = bent(layer(code))
        x = self.start.unsqueeze(0).repeat(code.shape[0], 1, 1, 1)
        return self.image(self.second(self.first(x, code), code), code)


class Discriminator(nn.Module):
    """A residual block that halves the image, and two linear layers."""

    def __init__(self, linear: type[Equal] = Equal, *, on_input: bool = False) -> None:
        super().__init__()
        self.image = EqualConv(3, 8, 1, on_input=on_input)
        self.conv = EqualConv(8, 8, 3, on_input=on_input)
        self.down, self.skip = (EqualConv(8, 16, kernel, stride=2, on_input=on_input) for kernel in (3, 1))
        self.linear, self.head = linear(16 * 16, 32), linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = bent(self.image(x))
        x = (bent(self.down(bent(self.conv(x)))) + self.skip(x)) / math.sqrt(2)
        return self.head(bent(self.linear(x.flatten(1))))


CODES, IMAGES = torch.ones(2, CODE), torch.ones(2, 3, 8, 8)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "fused": (Generator, CODES),
    "parted": (lambda: Generator(fused=False), CODES),
    "fused, on the input": (lambda: Generator(OnInput), CODES),
    "parted, by matmul": (lambda: Generator(ByMatmul, fused=False), CODES),
    "discriminator": (Discriminator, IMAGES),
    "discriminator, on the input": (lambda: Discriminator(OnInput, on_input=True), IMAGES),
}


def drawn(model: nn.Module) -> nn.Module:
    """With numbers in place of what memory held."""
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def expected(name: str) -> tuple[float, float]:
    """Mean and std."""
    if name.endswith(("bias", "strength")):
        return float(name.endswith("style.bias")), 0.0
    return 0.0, 100.0 if name.startswith("mapping") else 1.0


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_is_written(name: str):
    build, inputs = NETWORKS[name]
    model = drawn(build())
    plan = autoinit.plan(model, inputs, recipe="stylegan2")
    found = {each.param: (0.0, each.std) for each in plan.layers}
    found |= {each.name: (each.mean, each.std) for each in plan.rest}
    assert found == {name: pytest.approx(expected(name), rel=1e-5) for name, _ in model.named_parameters()}
    plan.apply(model, 0)
    told = autoinit.check(model, inputs, recipe="stylegan2").findings
    assert [str(each) for each in told if "by the recipe" in each.message or each.severity != "info"] == []


def test_a_network_without_such_numbers_gets_them_in_its_weights():
    """The same function: N(0, 1 / fan_in), the 72 products of a 3x3 convolution of 8 channels whatever the stride."""
    model = nn.Sequential(nn.Conv2d(8, 4, 3, stride=2), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(36, 1))
    plan = autoinit.plan(model, torch.ones(1, 8, 8, 8), recipe="stylegan2")
    assert {each.param: each.std for each in plan.layers} == {
        "0.weight": pytest.approx(72**-0.5), "3.weight": pytest.approx(1 / 6),
    }  # fmt: skip


def test_styles_that_stray_are_told():
    model = drawn(Generator())
    autoinit.autoinit(model, CODES, recipe="stylegan2", seed=0, verbose=False, force=True)
    with torch.no_grad():
        model.first.conv.style.bias.zero_()
        model.mapping[0].weight.mul_(0.01)
    told = {
        each.param for each in autoinit.check(model, CODES, recipe="stylegan2").findings if "recipe" in each.message
    }
    assert {"first.conv.style.bias", "mapping.0.weight"} <= told
