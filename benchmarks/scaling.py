"""Learning rates over widths: does what was tuned on a narrow model hold on a wide one?

    python benchmarks/scaling.py

Part `coordinates`: by how much the outputs of layers change in 5 steps of AdamW, as a slope over widths 64 to 512 (MLP,
GPT, GPT with a tied head, ResNet), and that of the model's output over 2 to 32 blocks. Part `rates`: the best learning
rate at each width on two tasks, scikit-learn's digits (MLP) and characters of a text that ships with Python (GPT).
The standard parametrisation, `autoinit`'s plan and one rate for all, stands beside the scaled one in the same run.

Exits with 1 when a figure misses its target.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _families import GPT, MLP, ResNet
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from autoinit import coordinate_check, scaling

WIDTHS, DEPTHS = (64, 128, 256, 512), (2, 4, 8, 16, 32)
FLAT = 0.2
"""The steepest slope of a scaled model."""
OCTAVE = 0.5
"""How far the best rates of a scaled model may lie apart, in octaves."""
CONTEXT = 32

Loss = Callable[[Any, torch.Tensor], torch.Tensor]
Batches = Callable[[int], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Slopes:
    """The steepest slope of a family over widths, or that of its output over depths, by parametrisation."""

    family: str
    over: str
    scaled: float
    standard: float

    @property
    def holds(self) -> bool:
        """Whether the scaled one is flat."""
        return abs(self.scaled) <= FLAT


@dataclass(frozen=True)
class Rates:
    """The best log2 learning rate at each width, and the loss there."""

    task: str
    parametrisation: str
    widths: tuple[int, ...]
    best: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def spread(self) -> float:
        """In octaves."""
        return max(self.best) - min(self.best)

    @property
    def holds(self) -> bool:
        """Whether one rate fits every width; nothing is asked of the standard parametrisation."""
        return self.parametrisation == "standard" or self.spread <= OCTAVE


def classified(output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross entropy over all positions."""
    return F.cross_entropy(output.flatten(0, -2), targets.flatten())


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """1,797 images of 64 pixels, standardised as a whole, and their digits."""
    found = load_digits()
    images = torch.tensor(found.data, dtype=torch.float32)
    return (images - images.mean()) / images.std(), torch.tensor(found.target)


def characters() -> torch.Tensor:
    """The source of Python's argparse, as ids of at most 64 characters."""
    text = Path(argparse.__file__).read_text("utf-8")
    frequent = sorted(set(text), key=text.count, reverse=True)[:63]
    return torch.tensor([frequent.index(each) + 1 if each in frequent else 0 for each in text])


def image_batches(size: int, seed: int = 0, *, square: bool = False) -> Batches:
    """Batches of digits, drawn by the step's number."""
    images, labels = digits()

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = torch.randint(len(labels), (size,), generator=torch.Generator().manual_seed(1000 * seed + step))
        return images[chosen].view(-1, 1, 8, 8) if square else images[chosen], labels[chosen]

    return batch


def text_batches(size: int, seed: int = 0) -> Batches:
    """Batches of pieces of the text and what follows each character."""
    ids = characters()

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        random = torch.Generator().manual_seed(1000 * seed + step)
        starts = torch.randint(len(ids) - CONTEXT - 1, (size,), generator=random)
        pieces = torch.stack([ids[start : start + CONTEXT + 1] for start in starts])
        return pieces[:, :-1], pieces[:, 1:]

    return batch


FAMILIES: dict[str, tuple[Callable[..., nn.Module], Batches]] = {
    "MLP": (MLP, image_batches(64)),
    "GPT": (GPT, text_batches(8)),
    "GPT, tied head": (lambda width, **more: GPT(width, tied=True, **more), text_batches(8)),
    "ResNet": (ResNet, image_batches(16, square=True)),
}


def over_widths(family: str, widths: Sequence[int]) -> Slopes:
    """The steepest slopes of a family."""
    make, batches = FAMILIES[family]
    found = coordinate_check(make, widths, batches, classified, lr=2**-8, example_inputs=batches(0)[0])
    return Slopes(family, "widths", found.worst("scaled")[1], found.worst("standard")[1])


def over_depths(family: str, depths: Sequence[int], width: int = 64) -> Slopes:
    """The slopes of a family's output over its number of blocks."""
    make, batches = FAMILIES[family]

    def of_depth(blocks: int) -> nn.Module:
        return make(width, blocks=blocks)

    found = coordinate_check(of_depth, depths, batches, classified, lr=2**-8, example_inputs=batches(0)[0])
    return Slopes(family, "depths", found.slopes["scaled"][""], found.slopes["standard"][""])


@dataclass(frozen=True)
class Task:
    """A task, trained by Adam over a grid of rates.

    Attributes:
        grid: log2 rates at the narrowest width.
        seeds: trainings that are averaged.
        held: a large batch; the loss on it after the training counts.
    """

    name: str
    make: Callable[[int], nn.Module]
    batches: Callable[[int], Batches]
    widths: tuple[int, ...]
    grid: tuple[float, ...]
    steps: int
    seeds: int
    held: Callable[[], tuple[torch.Tensor, torch.Tensor]]


def _halves(low: int, high: int) -> tuple[float, ...]:
    return tuple(low + half / 2 for half in range(2 * (high - low) + 1))


TASKS = (
    Task(
        "digits, MLP", MLP, lambda seed: image_batches(64, seed), (64, 128, 256, 512), _halves(-10, -3), 30, 4, digits
    ),
    Task(
        "characters, GPT",
        GPT,
        lambda seed: text_batches(16, seed),
        (32, 64, 128, 256),
        _halves(-10, -4),
        60,
        1,
        lambda: text_batches(64, 99)(0),
    ),
)


def trained(task: Task, width: int, rate: float, parametrisation: str, seed: int) -> float:
    """The loss after the training; infinite where it was lost."""
    torch.manual_seed(seed)
    model, batches = task.make(width), task.batches(seed)
    base = task.make(task.widths[0]) if parametrisation == "scaled" else model
    scaled = scaling(model, base, example_inputs=batches(0)[0])
    scaled.apply(model, seed, force=True)
    optimizer = torch.optim.Adam(scaled.groups(model, rate))
    for step in range(task.steps):
        inputs, targets = batches(step)
        loss = classified(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    inputs, targets = task.held()
    with torch.no_grad():
        left = classified(model(inputs), targets).item()
    return left if math.isfinite(left) else math.inf


def best_rates(task: Task, parametrisation: str, advance: Callable[[], None]) -> Rates:
    """The vertex of a parabola through the log losses of the best rate and its neighbours, at each width."""
    best, losses = [], []
    for width in task.widths:
        found = []
        for log_rate in task.grid:
            runs = [trained(task, width, 2**log_rate, parametrisation, seed) for seed in range(task.seeds)]
            found.append(sum(runs) / len(runs))
            advance()
        best.append(_vertex(task.grid, found))
        losses.append(min(found))
    return Rates(task.name, parametrisation, task.widths, tuple(best), tuple(losses))


def _vertex(grid: Sequence[float], losses: Sequence[float]) -> float:
    """Where the least loss would lie, by least squares over the rates within two octaves of the best one."""
    at = min(range(len(losses)), key=losses.__getitem__)
    near = [each for each in range(at - 4, at + 5) if 0 <= each < len(grid) and math.isfinite(losses[each])]
    x = np.array([grid[each] for each in near])
    bend, slope, _ = np.polyfit(x, np.log([losses[each] for each in near]), 2) if len(near) > 2 else (0.0, 0.0, 0.0)
    vertex = -slope / (2 * bend) if bend > 0 else grid[at]
    return float(min(max(vertex, x[0]), x[-1]))


def main() -> int:
    """Measure, print, and say whether the targets hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=("coordinates", "rates"), default=("coordinates", "rates"))
    parser.add_argument("--quick", action="store_true", help="two widths, few steps: to see that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    slopes, rates = [], []
    widths, depths = (WIDTHS[:2], DEPTHS[:2]) if chosen.quick else (WIDTHS, DEPTHS)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        if "coordinates" in chosen.part:
            slopes = [over_widths(each, widths) for each in progress.track(list(FAMILIES), description="widths")]
            slopes += [over_depths(each, depths) for each in progress.track(["GPT", "ResNet"], description="depths")]
        for task in (_quick(each) if chosen.quick else each for each in TASKS if "rates" in chosen.part):
            for parametrisation in ("scaled", "standard"):
                doing = progress.add_task(f"{task.name}, {parametrisation}", total=len(task.widths) * len(task.grid))
                rates.append(best_rates(task, parametrisation, lambda doing=doing: progress.advance(doing)))
    show(slopes, rates)
    if chosen.json is not None:
        found = {"slopes": [asdict(each) for each in slopes], "rates": [asdict(each) for each in rates]}
        chosen.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if chosen.quick or all(each.holds for each in (*slopes, *rates)) else 1


def _quick(task: Task) -> Task:
    return Task(task.name, task.make, task.batches, task.widths[:2], task.grid[4:7], 3, 1, task.held)


def show(slopes: Sequence[Slopes], rates: Sequence[Rates]) -> None:
    """The tables."""
    console = Console()
    if slopes:
        table = Table(
            "model", "over", "scaled", "standard", f"within {FLAT:g}", title="Steepest slope, 5 steps of AdamW"
        )
        for each in slopes:
            table.add_row(each.family, each.over, f"{each.scaled:+.2f}", f"{each.standard:+.2f}", _told(each.holds))
        console.print(table)
    if rates:
        table = Table(
            "task", "parametrisation", "best log2 rate by width", "spread", "loss by width", title="Best rates, Adam"
        )
        for one in rates:
            by_width = ", ".join(f"{width}: {rate:.1f}" for width, rate in zip(one.widths, one.best, strict=True))
            losses = ", ".join(f"{loss:.3f}" for loss in one.losses)
            table.add_row(one.task, one.parametrisation, by_width, f"{one.spread:.1f}", losses)
        console.print(table)


def _told(holds: bool) -> str:
    return "yes" if holds else "[red]no[/]"


if __name__ == "__main__":
    raise SystemExit(main())
