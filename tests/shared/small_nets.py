"""Small models as people write them, drawn by their constructors: the smaller a weight, the more its std strays."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class Mlp(nn.Module):
    """Linear layers with a nonlinearity between; `draw` writes their weights, torch's default without it."""

    def __init__(self, *sizes: int, act: Callable = F.relu, draw: Callable | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(one, other) for one, other in itertools.pairwise(sizes))
        self.act = act
        for layer in self.layers if draw is not None else ():
            draw(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = self.act(layer(x))
        return self.layers[-1](x)


class Between(nn.Module):
    """Two linear layers of one width, with a function between them."""

    def __init__(self, width: int, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.before = nn.Linear(width, width)
        self.function = function
        self.after = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.function(self.before(x)))


class Skip(nn.Module):
    """A branch beside a skip connection: x + branch(x)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


class Cnn(nn.Module):
    """The convolutions of a first tutorial, and a linear head."""

    def __init__(self, norm: bool = False, draw: Callable | None = None) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 64, 3), nn.Linear(64, 10)
        self.norm = nn.BatchNorm2d(32) if norm else nn.Identity()
        for layer in (self.first, self.second) if draw is not None else ():
            draw(layer.weight)

    def forward(self, x):
        return self.head(F.relu(self.second(F.relu(self.norm(self.first(x))))).mean((2, 3)))


class Residual(nn.Module):
    """One branch behind a norm, beside a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer, self.head = (
            nn.Linear(*each) for each in ((8, 32), (32, 32), (32, 32), (32, 4))
        )
        self.norm = nn.LayerNorm(32)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.outer(F.gelu(self.inner(self.norm(x)))))


class Policy(nn.Module):
    """Actor and critic with a common trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.policy, self.value = nn.Linear(64, 2), nn.Linear(64, 1)

    def forward(self, x):
        x = self.trunk(x)
        return F.log_softmax(self.policy(x), -1), self.value(x)


class Tagger(nn.Module):
    """An embedding, an LSTM, and a head for each place."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm, self.head = nn.Embedding(50, 16), nn.LSTM(16, 24, batch_first=True), nn.Linear(24, 50)

    def forward(self, words):
        return self.head(self.lstm(self.words(words))[0])


class Gate(nn.Module):
    """A gated linear unit."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.out = nn.Linear(16, 64), nn.Linear(32, 8)

    def forward(self, x):
        return self.out(F.glu(self.both(x)))


def _normal(weight: torch.Tensor) -> None:
    nn.init.normal_(weight, std=0.02)


def _truncated(weight: torch.Tensor) -> None:
    nn.init.trunc_normal_(weight, std=0.02)


def _orthogonal(weight: torch.Tensor) -> None:
    nn.init.orthogonal_(weight, 2**0.5)


def _fan_out(weight: torch.Tensor) -> None:
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")


IMAGE = (1, 3, 16, 16)
SMALL_NETS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "convolutions": (Cnn, IMAGE),
    "convolutions, norm": (lambda: Cnn(norm=True), IMAGE),
    "convolutions, kaiming fan_out": (lambda: Cnn(draw=_fan_out), IMAGE),
    "linear": (lambda: Mlp(8, 16, 16, 4), (2, 8)),
    "linear, wide": (lambda: Mlp(64, 128, 10), (2, 64)),
    "linear, gelu": (lambda: Mlp(8, 16, 16, 4, act=F.gelu), (2, 8)),
    "linear, xavier": (lambda: Mlp(8, 16, 16, 4, draw=nn.init.xavier_uniform_), (2, 8)),
    "linear, xavier normal": (lambda: Mlp(8, 32, 32, 32, 4, draw=nn.init.xavier_normal_), (2, 8)),
    "linear, 0.02": (lambda: Mlp(16, 32, 32, 4, draw=_normal), (2, 16)),
    "linear, 0.02 cut": (lambda: Mlp(16, 32, 32, 4, draw=_truncated), (2, 16)),
    "linear, orthogonal": (lambda: Mlp(8, 16, 16, 4, draw=_orthogonal), (2, 8)),
    "residual": (Residual, (2, 8)),
    "policy": (Policy, (2, 4)),
    "tagger": (Tagger, torch.zeros(2, 5, dtype=torch.long)),
    "gate": (Gate, (2, 16)),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (2, 5, 16)),
}
"""By name: what builds a model, and what it is checked with."""
