"""What a network of everyday practice is: how it is made, trained and judged; and the data of most of them."""

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from _training import Digits, digits
from torch import Tensor, nn
from torch.nn import functional as F

Loop = Callable[[nn.Module, float], Iterator[Tensor]]
"""Trains a model at a learning rate: one step, one loss, without end."""
Write = Callable[[nn.Module], None]


@dataclass(frozen=True)
class Practice:
    """A network as people build it, and its task.

    Attributes:
        about: what it is, in a few words.
        measure: what `score` gives.
        make: builds the model, by torch's own initialisation.
        train: its loop.
        score: of a trained model, on what it was not trained on where there is such a thing; lower is better.
        batch: an input, for LSUV and for the shapes of `signal`.
        rates: learning rates, the same for every start.
        steps: of training.
        recipe: how the literature starts it: a recipe of autoinit's, or a function; None where that is `loop`.
        source: of the recipe.
    """

    about: str
    measure: str
    make: Callable[[], nn.Module]
    train: Loop
    score: Callable[[nn.Module], float]
    batch: Callable[[], Tensor]
    rates: tuple[float, ...]
    steps: int
    recipe: str | Write | None
    source: str


def adam(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    """Adam, as most of these networks are trained."""
    return torch.optim.Adam(model.parameters(), rate)


def sgd(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    """SGD with momentum, as VGG and ResNet are."""
    return torch.optim.SGD(model.parameters(), rate, momentum=0.9)


def supervised(
    data: Callable[[], tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    optimizer: Callable[[nn.Module, float], torch.optim.Optimizer] = adam,
    batch: int = 32,
) -> Loop:
    """The loop over random batches of (inputs, targets)."""

    def train(model: nn.Module, rate: float) -> Iterator[Tensor]:
        inputs, targets = data()
        stepping = optimizer(model, rate)
        while True:
            chosen = torch.randint(len(inputs), (batch,))
            value = loss(model(inputs[chosen]), targets[chosen])
            yield stepped(stepping, value)

    return train


def stepped(optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
    """One step down; the loss before it."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def error(data: Callable[[], tuple[Tensor, Tensor]]) -> Callable[[nn.Module], float]:
    """The share of inputs whose class is missed."""
    return lambda model: float((outputs(model, data()[0]).argmax(-1) != data()[1]).float().mean())


def mean_loss(
    data: Callable[[], tuple[Tensor, Tensor]], loss: Callable[[Tensor, Tensor], Tensor]
) -> Callable[[nn.Module], float]:
    """The loss over all of the data."""
    return lambda model: float(loss(outputs(model, data()[0]), data()[1]))


@torch.no_grad()
def outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    """In evaluation mode."""
    model.eval()
    made: Tensor = model(inputs)
    return made


@functools.cache
def images() -> Digits:
    """Scikit-learn's digits, standardised, (samples, 1, 8, 8)."""
    found = digits()
    return Digits(found.train.view(-1, 1, 8, 8), found.train_labels, found.test.view(-1, 1, 8, 8), found.test_labels)


def seen() -> tuple[Tensor, Tensor]:
    """Images to train on, and their labels."""
    return images().train, images().train_labels


def unseen() -> tuple[Tensor, Tensor]:
    """Images to test on, and their labels."""
    return images().test, images().test_labels


@functools.cache
def ink() -> tuple[Tensor, Tensor]:
    """The same images with values in [0, 1], (samples, 64): to train on and to test on."""
    found = digits()
    low, high = found.train.min(), found.train.max()
    return (found.train - low) / (high - low), (found.test - low) / (high - low)


def few_images() -> Tensor:
    """A batch for LSUV."""
    return seen()[0][:64]


MODULES = ("argparse", "ast", "ipaddress", "optparse", "tarfile", "typing", "unittest.mock", "zipfile")
"""Modules of Python's library whose source is the text."""


@functools.cache
def sources() -> tuple[tuple[Tensor, ...], int]:
    """The source of each of `MODULES` as numbers of characters, and how many kinds there are."""
    whole = [inspect.getsource(importlib.import_module(name))[:60_000] for name in MODULES]
    kinds = {each: number for number, each in enumerate(sorted(set("".join(whole))))}
    return tuple(torch.tensor([kinds[each] for each in module]) for module in whole), len(kinds)


def excerpts(numbers: Tensor, count: int, length: int, seed: int | None = None) -> Tensor:
    """Pieces of the text, (count, length): at random places, those of a seed, or of torch's state."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    starts = torch.randint(len(numbers) - length, (count, 1), generator=generator)
    return numbers[starts + torch.arange(length)]


@functools.cache
def picture(size: int = 64) -> Tensor:
    """Scikit-learn's photograph of a temple in China, grey, (size, size), values in [-1, 1]."""
    from sklearn.datasets import load_sample_image

    grey = torch.tensor(load_sample_image("china.jpg")).float().mean(-1)[:427, 100:527]
    return F.interpolate(grey[None, None], (size, size), mode="area")[0, 0] / 127.5 - 1
