"""Deep networks without norms, trained member by member: convolutions, residual branches, autoencoders, recurrences."""

import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from _methods import TITLES, initialise
from _steps import Record
from _training import CALIBRATION, Digits, digits
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

EPOCHS, BATCH, MOMENTUM = 5, 32, 0.9
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03)
SEEDS = (0, 1, 2)
HOPELESS = 0.2
"""The test accuracy after two epochs below which a member is given up."""


class Convolutional(nn.Module):
    """`depth` - 1 convolutions of 3 x 3, 32 wide, with ReLU, then a linear layer over the mean of positions."""

    def __init__(self, depth: int, width: int = 32) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(nn.Conv2d(width if i else 1, width, 3, padding=1) for i in range(depth - 1))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (samples, 1, 8, 8)."""
        for layer in self.hidden:
            x = F.relu(layer(x))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Residual(nn.Module):
    """A residual network of 20 blocks of two convolutions without norms."""

    def __init__(self, blocks: int = 20, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.first = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (samples, 1, 8, 8)."""
        x = self.stem(x)
        for first, second in zip(self.first, self.second, strict=True):
            x = x + second(F.relu(first(x)))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Recurrent(nn.Module):
    """One recurrent matrix of 64 units unrolled over 50 steps; the image's pixels come in at the first 8."""

    def __init__(self, steps: int = 50, width: int = 64) -> None:
        super().__init__()
        self.steps = steps
        self.into, self.over, self.head = nn.Linear(8, width), nn.Linear(width, width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (samples, 1, 8, 8), a row a step."""
        state = torch.tanh(self.into(x[:, 0, 0]))
        for step in range(1, self.steps):
            state = self.over(state) + (self.into(x[:, 0, step]) if step < 8 else 0.0)
            state = torch.tanh(state)
        logits: Tensor = self.head(state)
        return logits


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convolutional_10": lambda: Convolutional(10),
    "convolutional_30": lambda: Convolutional(30),
    "convolutional_60": lambda: Convolutional(60),
    "residual_20": Residual,
    "recurrent_50": Recurrent,
}


def deep_keys(method: str, name: str) -> list[tuple[str, str]]:
    """Method and name of every run of a network: each learning rate, each seed."""
    return [(method, f"deep:{name}:{rate:g}:{seed}") for rate in RATES for seed in SEEDS]


def deep_trained(method: str, run: str) -> Record:
    """One run, by `name:rate:seed`: the test accuracy at the end of each epoch, and the best of them."""
    name, rate, seed = run.split(":")
    return trained(method, name, float(rate), int(seed))


def deep_totals(records: Sequence[Record]) -> list[Record]:
    """For each network and method the best rate, and the mean over seeds of the best accuracy there."""
    runs: dict[tuple[str, str], dict[str, list[float]]] = {}
    for each in records:
        if each["name"].startswith("deep:") and each["state"] == "done":
            _, name, rate, _ = each["name"].split(":")
            runs.setdefault((name, each["library"]), {}).setdefault(rate, []).append(each["best"])
    found = []
    for (name, method), by_rate in runs.items():
        rate, best = max(by_rate.items(), key=lambda item: statistics.mean(item[1]))
        spread = statistics.stdev(best) / math.sqrt(len(best)) if len(best) > 1 else None
        found.append(
            {
                "part": "deep",
                "network": name,
                "method": method,
                "rate": float(rate),
                "accuracy": statistics.mean(best),
                "standard_error": spread,
                "seeds": len(best),
            }
        )
    return found


def deep_table(totals: Sequence[Record]) -> Table:
    """The same for people: a row a network, a column a method."""
    methods = list(dict.fromkeys(each["method"] for each in totals))
    shown = Table(title="best test accuracy, mean over seeds, at the best learning rate")
    shown.add_column("")
    for method in methods:
        shown.add_column(TITLES[method], justify="right")
    for name in dict.fromkeys(each["network"] for each in totals):
        by_method = {each["method"]: each for each in totals if each["network"] == name}
        cells = (by_method.get(method) for method in methods)
        shown.add_row(name, *("" if each is None else f"{each['accuracy']:.3f} ({each['rate']:g})" for each in cells))
    return shown


def trained(method: str, name: str, rate: float, seed: int) -> Record:
    """One network under one method at one rate."""
    data = digits()
    images = data.train.view(-1, 1, 8, 8)
    torch.manual_seed(seed)
    model = NETWORKS[name]()
    start = time.perf_counter()
    initialise(method, model, images[:CALIBRATION], seed)
    accuracies = _accuracies(model, data, rate)
    return {
        "library": method,
        "name": f"deep:{name}:{rate:g}:{seed}",
        "state": "done",
        "accuracies": accuracies,
        "best": max(accuracies),
        "seconds": time.perf_counter() - start,
    }


def _accuracies(model: nn.Module, data: Digits, rate: float) -> list[float]:
    """By epoch."""
    images, test = data.train.view(-1, 1, 8, 8), data.test.view(-1, 1, 8, 8)
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=MOMENTUM)
    generator = torch.Generator().manual_seed(0)
    found: list[float] = []
    torch.set_flush_denormal(True)
    try:
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(images), generator=generator).split(BATCH):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(images[batch]), data.train_labels[batch])
                if not bool(loss.isfinite()):
                    return [*found, 0.1]
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                found.append(round(float((model(test).argmax(-1) == data.test_labels).float().mean()), 4))
            if len(found) == 2 and found[-1] < HOPELESS:
                break
    finally:
        torch.set_flush_denormal(False)
    return found
