"""The same piece in many words: modules, functions, methods, in place, and written out."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Apply = Callable[..., Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Spelling:
    """Which of its spellings each piece has. With no numbers, and with zeros, the first."""

    numbers: tuple[int, ...] = ()

    def pick(self, name: str, options: Sequence[T]) -> T:
        if not self.numbers:
            return options[0]
        number = self.numbers[zlib.crc32(name.encode()) % len(self.numbers)]
        return options[number % len(options)]


# Activations: functions of a tensor and the parameters. The first of each is made into a module.

MODULES: Mapping[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "prelu": lambda weight: nn.PReLU(init=weight),
    "elu": nn.ELU,
    "celu": nn.CELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "hardswish": nn.Hardswish,
    "hardtanh": nn.Hardtanh,
}

FUNCTIONS: Mapping[str, Sequence[Apply]] = {
    "relu": (
        F.relu,
        torch.relu,
        lambda x: x.relu(),
        lambda x: x.clamp(min=0),
        lambda x: torch.clamp_min(x, 0.0),
        lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
        lambda x: x * (x > 0),
        lambda x: x.masked_fill(x < 0, 0.0),
        lambda x: torch.maximum(x, torch.zeros_like(x)),
        lambda x: (x + x.abs()) / 2,
        lambda x: getattr(F, "relu")(x),  # noqa: B009 as models with an activation's name in their configuration do
    ),
    "relu6": (F.relu6, lambda x: x.clamp(0, 6)),
    "leaky_relu": (
        lambda x, negative_slope: F.leaky_relu(x, negative_slope),
        lambda x, negative_slope: F.leaky_relu(x, negative_slope=negative_slope),
        lambda x, negative_slope: torch.where(x > 0, x, negative_slope * x),
        lambda x, negative_slope: torch.maximum(x, negative_slope * x),
        lambda x, negative_slope: F.relu(x) - negative_slope * F.relu(-x),
    ),
    "prelu": (),
    "elu": (
        lambda x, alpha: F.elu(x, alpha),
        lambda x, alpha: F.elu(x, alpha=alpha),
        lambda x, alpha: torch.where(x > 0, x, alpha * (torch.exp(x) - 1)),
    ),
    "celu": (lambda x, alpha: F.celu(x, alpha), lambda x, alpha: torch.celu(x, alpha)),
    "selu": (F.selu, torch.selu),
    "gelu": (F.gelu, lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))),
    "silu": (F.silu, lambda x: x * torch.sigmoid(x), lambda x: x.sigmoid() * x, lambda x: x / (1 + torch.exp(-x))),
    "mish": (F.mish, lambda x: x * torch.tanh(F.softplus(x))),
    "tanh": (
        torch.tanh,
        lambda x: x.tanh(),
        F.tanh,
        lambda x: (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x)),
    ),
    "sigmoid": (torch.sigmoid, lambda x: x.sigmoid(), F.sigmoid),
    "softplus": (F.softplus, lambda x: F.softplus(x, beta=1)),
    "hardswish": (F.hardswish, lambda x: x * F.relu6(x + 3) / 6, lambda x: x * (x + 3).clamp(0, 6) / 6),
    "hardtanh": (
        lambda x, min_val, max_val: F.hardtanh(x, min_val, max_val),
        lambda x, min_val, max_val: x.clamp(min_val, max_val),
    ),
    "squared_relu": (
        lambda x: F.relu(x) ** 2,
        lambda x: F.relu(x).square(),
        lambda x: torch.pow(x.relu(), 2),
        lambda x: x.relu() * x.relu(),
    ),
    "custom": (lambda x: x * torch.tanh(x), lambda x: torch.mul(x.tanh(), x)),
}

IN_SINGLE_FILE: Mapping[str, Sequence[Apply]] = {
    "relu6": (lambda x: torch.clamp(x.relu(), max=6.0),),
    "tanh": (lambda x: 2 * torch.sigmoid(2 * x) - 1,),
    "sigmoid": (lambda x: 1 / (1 + torch.exp(-x)),),
    "softplus": (lambda x: torch.log(1 + torch.exp(x)), lambda x: torch.log1p(x.exp())),
    "hardtanh": (lambda x, min_val, max_val: torch.clamp(torch.clamp(x, min=min_val), max=max_val),),
}
"""Written out, one operation after another."""

IN_PLACE: Mapping[str, Sequence[Apply]] = {
    "relu": (lambda x: F.relu(x, inplace=True), lambda x: x.relu_(), lambda x: x.clamp_(min=0)),
    "leaky_relu": (lambda x, negative_slope: F.leaky_relu_(x, negative_slope),),
    "elu": (lambda x, alpha: F.elu_(x, alpha),),
    "silu": (lambda x: F.silu(x, inplace=True),),
    "tanh": (lambda x: x.tanh_(), torch.tanh_),
    "sigmoid": (lambda x: x.sigmoid_(),),
    "hardtanh": (lambda x, min_val, max_val: x.clamp_(min_val, max_val),),
}


def activation(spelling: Spelling, name: str, kind: str, params: Mapping[str, float], fresh: bool = False) -> Apply:
    """An activation; an `nn.Module` if it is to be registered. fresh: whether nobody else reads its input."""
    functions = [*FUNCTIONS[kind], *IN_SINGLE_FILE.get(kind, ()), *(IN_PLACE.get(kind, ()) if fresh else ())]
    modules = [MODULES[kind]] * 3 if kind in MODULES else []
    number = spelling.pick(name, range(len(modules) + len(functions)))
    if number < len(modules):
        return modules[number](**params)
    return functools.partial(functions[number - len(modules)], **params)


# Norms, over the features of a tensor with the feature axis `axis` (from the end).


class RootMeanSquare(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class ChannelNorm(nn.Module):
    """Layer norm over the channels of an image, written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        return self.weight * ((x - mean) / torch.sqrt(variance + 1e-6)) + self.bias


def _standardised(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()


def norm(spelling: Spelling, name: str, kind: str, form_kind: str, width: int, whole: bool = False) -> Apply:
    """A norm; an `nn.Module` if it is to be registered. whole: whether it is to be one operation."""
    last = form_kind in ("vector", "tokens")
    batch = {"vector": nn.BatchNorm1d, "series": nn.BatchNorm1d, "image": nn.BatchNorm2d}
    instance = {"series": nn.InstanceNorm1d, "image": nn.InstanceNorm2d}
    options: dict[str, list[Callable[[], Apply]]] = {
        "layer": [
            lambda: nn.LayerNorm(width),
            lambda: lambda x: F.layer_norm(x, (width,)),
            lambda: lambda x: F.layer_norm(x, (x.shape[-1],)),
        ]
        if last
        else [
            lambda: nn.GroupNorm(1, width),
            lambda: lambda x: F.layer_norm(x.transpose(1, -1), (width,)).transpose(1, -1),
        ],
        "batch": [
            lambda: batch[form_kind](width),
            lambda: batch[form_kind](width, affine=False),
            lambda: lambda x: F.batch_norm(x, None, None, training=True),
        ],
        "group": [lambda: nn.GroupNorm(2, width), lambda: lambda x: F.group_norm(x, 2)],
        "instance": [
            lambda: instance[form_kind](width),
            lambda: instance[form_kind](width, affine=True),
            lambda: F.instance_norm,
        ],
        "rms": [lambda: nn.RMSNorm(width), lambda: lambda x: F.rms_norm(x, (width,))],
        "unit": [lambda: lambda x: F.normalize(x, dim=-1 if last else 1)],
    }
    written: dict[str, list[Callable[[], Apply]]] = {
        "layer": [lambda: _standardised] if last else [lambda: ChannelNorm(width)] if form_kind == "image" else [],
        "rms": [
            lambda: RootMeanSquare(width),
            lambda: lambda x: x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6),
        ],
        "unit": [lambda: lambda x: x / x.norm(dim=-1 if last else 1, keepdim=True)],
    }
    return spelling.pick(name, [*options[kind], *([] if whole else written.get(kind, []) * 2)])()


NORMS = {
    "vector": ("layer", "batch", "rms", "unit"),
    "tokens": ("layer", "rms", "unit"),
    "series": ("layer", "batch", "group", "instance", "unit"),
    "image": ("layer", "batch", "group", "instance", "unit"),
}
# What passes and keeps the form.

PASSES: Mapping[str, Sequence[Apply]] = {
    "scale": (lambda x: x * -1.0, lambda x: x / -1, lambda x: x.mul(1.0), lambda x: -x),  # others count in the std
    "shift": (lambda x: x + 1, lambda x: x - 0.5, lambda x: 1 + x),
    "dropout": (nn.Dropout(0.1), lambda x: F.dropout(x, 0.1), lambda x: F.dropout(x, p=0.3, training=False)),
    "same": (
        nn.Identity(),
        lambda x: x.clone(),
        lambda x: x.contiguous(),
        lambda x: x.float(),
        lambda x: x.to(torch.float32),
        lambda x: x[:],
    ),
    "there_and_back": (
        lambda x: x.transpose(0, 1).transpose(0, 1),
        lambda x: x.unsqueeze(0).squeeze(0),
        lambda x: x.unsqueeze(1).flatten(1, 2),
        lambda x: x.flatten(1).view_as(x),
        lambda x: x.reshape(x.shape[0], -1).reshape(x.shape),
    ),
}
IMAGE_PASSES: Mapping[str, Sequence[Apply]] = {
    "pool": (
        nn.MaxPool2d(3, 1, 1),
        nn.AvgPool2d(3, 1, 1),
        lambda x: F.max_pool2d(x, 3, 1, 1),
        lambda x: F.avg_pool2d(x, 3, stride=1, padding=1),
        lambda x: F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, stride=1),
    ),
    "resample": (
        nn.Upsample(scale_factor=1.0),
        lambda x: F.interpolate(x, scale_factor=1.0),
        lambda x: F.interpolate(x, size=x.shape[-2:]),
    ),
    "shift_places": (lambda x: torch.roll(x, 1, -1), lambda x: x.flip(-1), lambda x: F.pad(x, (1, 0))[..., :-1]),
}
SERIES_PASSES: Mapping[str, Sequence[Apply]] = {
    "pool": (nn.MaxPool1d(3, 1, 1), lambda x: F.avg_pool1d(x, 3, 1, 1), lambda x: F.pad(x, (1, 0))[..., :-1]),
}


def passing(spelling: Spelling, name: str, kind: str, form_kind: str) -> Apply:
    special = {"image": IMAGE_PASSES, "series": SERIES_PASSES}.get(form_kind, {})
    return spelling.pick(name, {**PASSES, **special}[kind])


def passes(form_kind: str) -> tuple[str, ...]:
    special = {"image": IMAGE_PASSES, "series": SERIES_PASSES}.get(form_kind, {})
    return (*PASSES, *special)
