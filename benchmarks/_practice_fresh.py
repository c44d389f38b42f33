"""Six networks more, written when the rows of the preset were fixed, and tried once: held out."""

import functools
import math
from collections.abc import Iterator

import torch
from _practice_held import first, on
from _practice_sequences import KERAS, recurrent_recipe, written
from _practice_task import (
    Practice,
    adam,
    error,
    few_images,
    seen,
    sgd,
    stepped,
    supervised,
    unseen,
)
from torch import Tensor, nn
from torch.nn import functional as F


class Spacer(nn.Module):
    """A bidirectional GRU over characters: behind which of them did a blank stand?"""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.characters = nn.Embedding(256, width)
        self.recurrent = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (samples, places) of numbers of characters."""
        logits: Tensor = self.head(self.recurrent(self.characters(x))[0]).squeeze(-1)
        return logits


@functools.cache
def without_blanks(test: bool) -> tuple[Tensor, Tensor]:
    """Excerpts of 32 characters without blanks, and 1 where one was left out behind."""
    text = written()[test]
    blank = int(text.mode().values)  # the most frequent character of a source
    kept = text[text != blank]
    followed = (text.roll(-1) == blank)[text != blank].float()
    places = torch.arange(0, len(kept) - 32, 32)[:, None] + torch.arange(32)
    return kept[places], followed[places]


class Waves(nn.Module):
    """Convolutions over a wave, batch norms, a mean over time (Dai et al. 2017)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, width), (width, width), (width, 2 * width), (2 * width, 2 * width)):
            layers += [nn.Conv1d(before, after, 7, stride=2, padding=3), nn.BatchNorm1d(after), nn.ReLU()]
        self.features, self.head = nn.Sequential(*layers), nn.Linear(2 * width, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of waves (samples, 1, times)."""
        logits: Tensor = self.head(self.features(x).mean(-1))
        return logits


@functools.cache
def waves(test: bool) -> tuple[Tensor, Tensor]:
    """800 waves of 128 times in noise: a tone, one that rises, one that falls, two tones; of any pitch."""
    generator = torch.Generator().manual_seed(int(test))
    kind = torch.arange(800) % 4
    time = torch.linspace(0, 1, 128)
    pitch, phase = (10 + 20 * torch.rand(2, 800, 1, generator=generator)).unbind()
    bend = torch.tensor([0.0, 8.0, -8.0, 0.0])[kind][:, None]
    tone = (math.tau * (pitch * time + bend * time.square()) + phase).sin()
    second = (math.tau * 1.5 * pitch * time).sin() * (kind == 3)[:, None]
    noise = torch.randn(800, 128, generator=generator) / 2
    return (tone + second + noise)[:, None], kind


class Modern(nn.Module):
    """A block of a ConvNeXt: depthwise, a norm over channels, two layers, a scale of 1e-6 (Liu et al. 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape (samples, width, rows, columns) of x."""
        made = self.down(F.gelu(self.up(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))))
        out: Tensor = x + (self.scale * made).permute(0, 3, 1, 2)
        return out


def convnext(width: int = 24) -> nn.Sequential:
    """A stem of 2 x 2 pixels, four blocks, a norm and a linear head."""
    blocks = (Modern(width) for _ in range(4))
    end = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(width), nn.Linear(width, 10))
    return nn.Sequential(nn.Conv2d(1, width, 2, 2), *blocks, *end)


class Ratings(nn.Module):
    """What somebody thinks of something, by an MLP over a table of each (He et al. 2017, section 3.3)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.people, self.things = nn.Embedding(60, width), nn.Embedding(60, width)
        self.layers = nn.Sequential(nn.Linear(2 * width, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Ratings (samples, 1) of pairs of numbers (samples, 2)."""
        person, thing = x.unbind(-1)
        rating: Tensor = self.layers(torch.cat([self.people(person), self.things(thing)], -1))
        return rating


@functools.cache
def ratings(test: bool) -> tuple[Tensor, Tensor]:
    """A table 60 x 60 of rank 2 with noise, variance 1: half of its places, and the others."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 60, 2, generator=generator)
    table = 0.67 * left @ right.T + torch.randn(60, 60, generator=generator) / 3
    chosen = torch.randperm(3600, generator=generator).view(2, -1)[int(test)]
    pairs = torch.stack([chosen // 60, chosen % 60], -1)
    return pairs, table[pairs[:, 0], pairs[:, 1]][:, None]


class Reverser(nn.Module):
    """torch.nn's transformer of two layers each way that says a word backwards (Vaswani et al. 2017)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(27, width), nn.Embedding(8, width)
        self.body = nn.Transformer(width, 4, 2, 2, 2 * width, 0.0, batch_first=True)
        self.head = nn.Linear(width, 27)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (samples, 8, 27) of words (samples, 8): of each place from the places before it."""
        places = self.positions(torch.arange(8))
        told = F.pad(x.flip(1), (1, -1), value=26)  # begins with the mark of a begin
        mask = torch.full((8, 8), -math.inf).triu(1)
        made = self.body(self.tokens(x) + places, self.tokens(told) + places, tgt_mask=mask)
        logits: Tensor = self.head(made)
        return logits


def backwards(model: nn.Module, words: Tensor) -> Tensor:
    """Cross-entropy of the reversed words."""
    return F.cross_entropy(model(words).flatten(0, 1), words.flip(1).flatten())


def train_reverser(model: nn.Module, rate: float) -> Iterator[Tensor]:
    """Random words of 8 letters."""
    stepping = adam(model, rate)
    while True:
        yield stepped(stepping, backwards(model, torch.randint(26, (64, 8))))


def few_words() -> Tensor:
    """A batch for LSUV, and to be judged by."""
    return torch.randint(26, (256, 8), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def judge_reverser(model: nn.Module) -> float:
    """On words of a seed."""
    model.eval()
    return float(backwards(model, few_words()))


def equation() -> nn.Sequential:
    """Four layers of tanh, of one number (Raissi et al. 2019)."""
    return nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(),
                         nn.Linear(32, 1))  # fmt: skip


def solution(x: Tensor) -> Tensor:
    """The u of u'' = -pi^2 sin(pi x) - 9 pi^2 sin(3 pi x) with u(-1) = u(1) = 0."""
    return (math.pi * x).sin() + (3 * math.pi * x).sin()


def train_equation(model: nn.Module, rate: float) -> Iterator[Tensor]:
    """The squared error of the equation at random places, over that of u = 0, and of the ends."""
    stepping = adam(model, rate)
    ends = torch.tensor([[-1.0], [1.0]])
    while True:
        x = (2 * torch.rand(64, 1) - 1).requires_grad_()
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        (curve,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
        wanted = -(math.pi**2) * ((math.pi * x).sin() + 9 * (3 * math.pi * x).sin())
        yield stepped(stepping, (curve - wanted).square().mean() / (41 * math.pi**4) + model(ends).square().mean())


def few_numbers() -> Tensor:
    """Places of the equation, (201, 1)."""
    return torch.linspace(-1, 1, 201)[:, None]


@torch.no_grad()
def judge_equation(model: nn.Module) -> float:
    """The squared error of the solution."""
    return float((model(few_numbers()) - solution(few_numbers())).square().mean())


FRESH = {
    "spacer": Practice(
        "BiGRU that finds lost blanks", "cross-entropy", Spacer,
        *on(without_blanks, F.binary_cross_entropy_with_logits), first(without_blanks),
        (0.003, 0.01, 0.03), 80, recurrent_recipe, KERAS,
    ),
    "waves": Practice(
        "1-D convolutions, batch norm", "error", Waves, supervised(lambda: waves(test=False), optimizer=sgd),
        error(lambda: waves(test=True)), first(waves), (0.01, 0.03, 0.1), 120, None, "He: He et al. 2015",
    ),
    "convnext": Practice(
        "ConvNeXt-like, 4 blocks", "error", convnext, supervised(seen), error(unseen), few_images,
        (0.001, 0.003, 0.01), 150, "convnext", "Liu et al. 2022, timm",
    ),
    "ratings": Practice(
        "MLP over two tables, ratings", "squared error", Ratings, *on(ratings, F.mse_loss), first(ratings),
        (0.003, 0.01, 0.03), 300, "normal(0.01)", "He et al. 2017, section 4.1",
    ),
    "reverser": Practice(
        "Transformer, word backwards", "cross-entropy", Reverser, train_reverser, judge_reverser, few_words,
        (0.001, 0.003, 0.01), 120, None, "Xavier: Vaswani et al. 2017, tensor2tensor",
    ),
    "equation": Practice(
        "MLP of tanh, a differential equation", "squared error", equation, train_equation, judge_equation, few_numbers,
        (0.001, 0.003, 0.01), 300, None, "Xavier: Raissi et al. 2019",
    ),
}  # fmt: skip
