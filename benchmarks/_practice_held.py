"""Seven networks that were added when the others had been seen: held out until the rows of the preset were fixed."""

import functools
import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from _practice_others import clouds
from _practice_sequences import KERAS, next_character, recurrent_recipe, written
from _practice_task import (
    Practice,
    adam,
    error,
    excerpts,
    few_images,
    ink,
    mean_loss,
    seen,
    sgd,
    sources,
    stepped,
    supervised,
    unseen,
)  # fmt: skip
from torch import Tensor, nn
from torch.nn import functional as F


class Dense(nn.Module):
    """A layer of a DenseNet: its features are joined to what it is given (Huang et al. 2017)."""

    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(before), nn.Conv2d(before, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images of so many features more."""
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


def densenet(growth: int = 8) -> nn.Sequential:
    """Eight layers, a pooling between them, a norm and a linear head."""
    layers: list[nn.Module] = [Dense(16 + i * growth, growth) for i in range(8)]
    layers.insert(4, nn.AvgPool2d(2))
    width = 16 + 8 * growth
    end = (nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), *layers, *end)


def regression() -> nn.Sequential:
    """Five layers with GELU, one number of ten."""
    hidden = [layer for i in range(4) for layer in (nn.Linear(64 if i else 10, 64), nn.GELU())]
    return nn.Sequential(*hidden, nn.Linear(64, 1))


@functools.cache
def friedman(test: bool) -> tuple[Tensor, Tensor]:
    """Friedman's first function of ten features, five of them of no use (Friedman 1991), standardised; 800 samples."""
    x = torch.rand(800, 10, generator=torch.Generator().manual_seed(int(test)))
    y = 10 * (math.pi * x[:, 0] * x[:, 1]).sin() + 20 * (x[:, 2] - 0.5).square() + 10 * x[:, 3] + 5 * x[:, 4]
    return (x - 0.5) * math.sqrt(12), (y[:, None] - 14.4) / 4.9


class Coupling(nn.Module):
    """An affine coupling: one number is scaled and moved by what a network makes of the other (Dinh et al. 2017)."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of points (samples, 2): points with their numbers changed in order, and the logarithm of the stretch."""
        kept, moved = x.chunk(2, -1)
        scale, shift = self.network(kept).chunk(2, -1)
        return torch.cat([moved * scale.exp() + shift, kept], -1), scale[:, 0]


class Flow(nn.Module):
    """Six couplings."""

    def __init__(self) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(Coupling() for _ in range(6))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of points (samples, 2): where they come to lie, and the logarithm of the whole stretch."""
        whole = torch.zeros(len(x))
        for each in self.couplings:
            x, stretch = each(x)
            whole = whole + stretch
        return x, whole


@functools.cache
def moons(test: bool) -> tuple[Tensor, Tensor]:
    """Two half circles with noise, 1,000 points; without targets."""
    generator = torch.Generator().manual_seed(int(test))
    angle = math.pi * torch.rand(1000, generator=generator)
    upper = torch.arange(1000) % 2 == 0
    x = torch.where(upper, angle.cos(), 1 - angle.cos()) - 0.5
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin()) - 0.25
    points = torch.stack([x, y], 1) + 0.05 * torch.randn(1000, 2, generator=generator)
    return points, torch.zeros(1000)


def surprise(made: tuple[Tensor, Tensor], _: Tensor) -> Tensor:
    """The negative log-likelihood but for a constant, where the ends are a standard normal's; nats a point."""
    z, stretch = made
    return (0.5 * z.square().sum(-1) - stretch).mean()


@torch.no_grad()
def judge_flow(model: nn.Module) -> float:
    """Of unseen points, over the nats of a normal fitted to them, so that it is positive: 0 would be 3 nats better."""
    points, none = moons(test=True)
    return max(0.0, 3 + float(surprise(model(points), none)))


def glow(model: nn.Module) -> None:
    """The last layer of each coupling zero, the others N(0, 0.05^2) (Kingma & Dhariwal 2018, section 3.3)."""
    for name, each in model.named_parameters():
        if each.dim() == 2 and not name.endswith("network.4.weight"):
            nn.init.normal_(each, std=0.05)
        else:
            nn.init.zeros_(each)


class Characters(nn.Module):
    """An LSTM over characters, for the next (Graves 2013)."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        kinds = sources()[1]
        self.characters = nn.Embedding(kinds, width)
        self.recurrent = nn.LSTM(width, width, batch_first=True)
        self.head = nn.Linear(width, kinds)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (samples, places, kinds) of numbers of characters."""
        logits: Tensor = self.head(self.recurrent(self.characters(x))[0])
        return logits


def train_characters(model: nn.Module, rate: float) -> Iterator[Tensor]:
    """Random excerpts of 32 characters."""
    stepping = adam(model, rate)
    while True:
        yield stepped(stepping, next_character(model, excerpts(written()[0], 16, 33)))


@torch.no_grad()
def judge_characters(model: nn.Module) -> float:
    """On excerpts of the end of the text."""
    model.eval()
    return float(next_character(model, excerpts(written()[1], 256, 33, seed=0)))


def upscaler(width: int = 32) -> nn.Sequential:
    """Four convolutions at the coarse resolution, their last features made to pixels (Shi et al. 2016)."""
    convs = (
        layer
        for before, after in pairwise((1, width, width, width))
        for layer in (nn.Conv2d(before, after, 3, padding=1), nn.ReLU())
    )
    return nn.Sequential(*convs, nn.Conv2d(width, 4, 3, padding=1), nn.PixelShuffle(2))


@functools.cache
def coarse(test: bool) -> tuple[Tensor, Tensor]:
    """Images of 4 x 4 pixels, each the mean of four, and those of 8 x 8."""
    fine = (unseen() if test else seen())[0]
    return F.avg_pool2d(fine, 2), fine


class Denoiser(nn.Module):
    """Predicts the noise of a diffusion model: three residual blocks with layer norms (Ho et al. 2020)."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.embed, self.time = nn.Linear(64, width), nn.Linear(1, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(3)
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 64))

    def forward(self, x: Tensor) -> Tensor:
        """Noise (samples, 64) of noisy images beside their times, (samples, 65)."""
        x, time = x.split((64, 1), 1)
        made = self.embed(x) + F.silu(self.time(time))
        for block in self.blocks:
            made = made + block(made)
        noise: Tensor = self.head(made)
        return noise


@functools.cache
def noised(test: bool) -> tuple[Tensor, Tensor]:
    """Images at random times of the way to noise, variance preserved, with their times; and the noise in them."""
    generator = torch.Generator().manual_seed(int(test))
    clean = ink()[int(test)].repeat(1 if test else 4, 1) * 4 - 1.2
    angle = math.pi / 2 * torch.rand(len(clean), 1, generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    return torch.cat([angle.cos() * clean + angle.sin() * noise, angle * 2 - 1.6], 1), noise


def ddpm(model: nn.Module) -> None:
    """Variance 1 / fan_avg, uniform; what ends a branch, and the last layer, zero (hojonathanho/diffusion, nn.py)."""
    for name, each in model.named_modules():
        if isinstance(each, nn.Linear):
            ends = name == "head.1" or name.endswith(".3")
            (nn.init.zeros_ if ends else nn.init.xavier_uniform_)(each.weight)
            nn.init.zeros_(each.bias)


class DeepSet(nn.Module):
    """A network for each point, the mean over points, a network; no norms (Zaheer et al. 2017)."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.each, self.all = (
            nn.Sequential(*(layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())))
            for widths in ((3, width, width, width), (width, width))
        )
        self.head = nn.Linear(width, 6)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of points (samples, 3, points)."""
        logits: Tensor = self.head(self.all(self.each(x.transpose(1, 2)).mean(1)))
        return logits


def first(data: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[], Tensor]:
    """A batch for LSUV."""
    return lambda: data(test=False)[0][:64]


def on(
    data: Callable[..., tuple[Tensor, Tensor]], loss: Callable[..., Tensor]
) -> tuple[Callable[[nn.Module, float], Iterator[Tensor]], Callable[[nn.Module], float]]:
    """The loop over one half of made data by Adam, and the mean loss on the other."""
    return supervised(lambda: data(test=False), loss), mean_loss(lambda: data(test=True), loss)


NEW = {
    "densenet": Practice(
        "DenseNet, 8 layers, batch norm", "error", densenet, supervised(seen, optimizer=sgd), error(unseen), few_images,
        (0.003, 0.01, 0.03, 0.1), 80, "densenet", "Huang et al. 2017, torchvision's densenet.py",
    ),
    "regression": Practice(
        "MLP of GELU, regression", "squared error", regression, *on(friedman, F.mse_loss), first(friedman),
        (0.001, 0.003, 0.01), 300, None, "He: He et al. 2015",
    ),
    "flow": Practice(
        "Flow of 6 couplings", "nats, and 3", Flow, supervised(lambda: moons(test=False), surprise, batch=128),
        judge_flow, first(moons), (0.001, 0.003, 0.01), 200, glow, "Kingma & Dhariwal 2018",
    ),
    "characters": Practice(
        "LSTM on characters", "cross-entropy", Characters, train_characters, judge_characters,
        lambda: excerpts(written()[0], 16, 32, seed=7_919), (0.003, 0.01, 0.03, 0.1), 120, recurrent_recipe, KERAS,
    ),
    "upscaler": Practice(
        "Super-resolution, 4 convolutions", "squared error", upscaler, *on(coarse, F.mse_loss), first(coarse),
        (0.001, 0.003, 0.01, 0.03), 200, None, "He: He et al. 2015",
    ),
    "denoiser": Practice(
        "Diffusion's denoiser, layer norms", "squared error", Denoiser, *on(noised, F.mse_loss), first(noised),
        (0.0003, 0.001, 0.003, 0.01), 300, ddpm, "Ho et al. 2020",
    ),
    "sets": Practice(
        "Deep set, no norm", "error", DeepSet, supervised(lambda: clouds(test=False)),
        error(lambda: clouds(test=True)), first(clouds), (0.001, 0.003, 0.01, 0.03), 200, None, "He: He et al. 2015",
    ),
}  # fmt: skip
