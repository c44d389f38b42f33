"""Four networks that were added when the others had been seen; two of them have been learnt from since."""

import functools
import math
from collections.abc import Callable, Iterator

import torch
from _practice_sequences import KERAS, next_character, recurrent_recipe, written
from _practice_task import (
    Practice,
    adam,
    error,
    excerpts,
    few_images,
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


def first(data: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[], Tensor]:
    """A batch for LSUV."""
    return lambda: data(test=False)[0][:64]


def on(
    data: Callable[..., tuple[Tensor, Tensor]], loss: Callable[..., Tensor]
) -> tuple[Callable[[nn.Module, float], Iterator[Tensor]], Callable[[nn.Module], float]]:
    """The loop over one half of made data by Adam, and the mean loss on the other."""
    return supervised(lambda: data(test=False), loss), mean_loss(lambda: data(test=True), loss)


SEEN = {
    "regression": Practice(
        "MLP of GELU, regression", "squared error", regression, *on(friedman, F.mse_loss), first(friedman),
        (0.001, 0.003, 0.01), 300, None, "He: He et al. 2015",
    ),
    "characters": Practice(
        "LSTM on characters", "cross-entropy", Characters, train_characters, judge_characters,
        lambda: excerpts(written()[0], 16, 32, seed=7_919), (0.003, 0.01, 0.03, 0.1), 120, recurrent_recipe, KERAS,
    ),
}  # fmt: skip
HELD_BACK = {
    "densenet": Practice(
        "DenseNet, 8 layers, batch norm", "error", densenet, supervised(seen, optimizer=sgd), error(unseen), few_images,
        (0.003, 0.01, 0.03, 0.1), 80, "densenet", "Huang et al. 2017, torchvision's densenet.py",
    ),
    "flow": Practice(
        "Flow of 6 couplings", "nats, and 3", Flow, supervised(lambda: moons(test=False), surprise, batch=128),
        judge_flow, first(moons), (0.001, 0.003, 0.01), 200, glow, "Kingma & Dhariwal 2018",
    ),
}  # fmt: skip
