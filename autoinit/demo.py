"""A residual network of a few layers: what torch's default, a Kaiming loop and autoinit make of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import wrap

import torch
from rich.console import Console
from torch import nn

from autoinit import saving
from autoinit.api import autoinit
from autoinit.plans.layers import LayerPlan
from autoinit.plans.plan import Report

SLOPE = 0.2
_CHANNELS = 32
_CLASSES = 32
_SEED = 0
_SAMPLES = 16
_SIDE = 32


class ResidualBlock(nn.Module):
    """conv, LeakyReLU(0.2), conv, add."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.lrelu = nn.LeakyReLU(SLOPE)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block of the question: the second convolution feeds an addition, not an activation."""
        out: torch.Tensor = self.conv2(self.lrelu(self.conv1(x))) + x
        return out


class ResidualNetwork(nn.Module):
    """A residual block, global pooling, and a classifier that ends in softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.block = ResidualBlock(_CHANNELS)
        self.head = nn.Linear(_CHANNELS, _CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class probabilities."""
        x = self.block(x).mean((2, 3))
        return torch.softmax(self.head(x), 1)


def run(console: Console | None = None, page: Path | None = None) -> None:
    """Print the demonstration. Every number in it is computed here, from fixed seeds.

    Args:
        console: where to; standard output by default.
        page: a file to write the report to as one page of HTML, with the network's graph.

    Raises:
        ArgumentError: the page cannot be written. Nothing was printed.
    """
    if page is not None:
        saving.require_outputs([page], [])
    console = console if console is not None else Console(highlight=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        default = ResidualNetwork()
        loop = copy.deepcopy(default)
        _kaiming_loop(loop)
        model = copy.deepcopy(default)
        report = autoinit(model, seed=_SEED, verbose=False)
        ratios = [_ratios(each) for each in (default, loop, model)]
    console.print("A residual block with LeakyReLU(0.2), then a head that ends in softmax:\n", style="bold")
    console.print("    out = conv2(leaky_relu(conv1(x), 0.2)) + x", style="cyan")
    console.print("    softmax(head(mean(out)))\n", style="cyan")
    report.print(console=console)
    console.print()
    for sentence in _explanations(report):
        for line in wrap(f"- {sentence}", console.width, subsequent_indent="  "):
            console.print(line)
    console.print("\nHow much of the signal's power passes each layer and what it feeds (1 keeps it):\n", style="bold")
    _print_ratios(console, ratios)
    console.print("\nOn your own model:  autoinit(model)  or  autoinit report model.pt")
    if page is not None:
        with saving.replacing(page) as temporary:
            temporary.write_text(report.to("html"), encoding="utf-8")
        console.print(f"The network's graph:  {page.resolve().as_uri()}", soft_wrap=True)


def _kaiming_loop(model: nn.Module) -> None:
    """The loop that most code bases carry."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=SLOPE)
            assert module.bias is not None
            nn.init.zeros_(module.bias)


def _explanations(report: Report) -> Iterator[str]:
    """One sentence for each kind of row."""
    say: dict[str, Callable[[LayerPlan], str]] = {
        "activation": lambda layer: (
            f"feeds {layer.nonlinearity}({SLOPE}), which passes (1 + {SLOPE}^2) / 2 of the power: He, "
            f"sqrt(2 / (1 + {SLOPE}^2)) / sqrt({layer.fan_in:g}) = {layer.gain / math.sqrt(layer.fan_in):.3g}."
        ),
        "add": lambda layer: (
            "feeds the addition, no activation, so there is no loss to make up for: Xavier, "
            f"sqrt(2 / ({layer.fan_in:g} + {layer.fan_out:g})) = {math.sqrt(2 / (layer.fan_in + layer.fan_out)):.3g}."
        ),
        "softmax": lambda layer: (
            "feeds softmax, no rectifier: a larger gain would only make the first guesses overconfident: Xavier, "
            f"sqrt(2 / ({layer.fan_in:g} + {layer.fan_out:g})) = {math.sqrt(2 / (layer.fan_in + layer.fan_out)):.3g}."
        ),
    }
    for layer in report.plan.values():
        yield f"{layer.name} {say[layer.reason](layer)}"


def _ratios(model: ResidualNetwork) -> dict[str, float]:
    """Second moment behind each layer (and its activation) over the second moment before it, for Gaussian input."""
    block = model.block
    with torch.no_grad():
        x = torch.randn(_SAMPLES, _CHANNELS, _SIDE, _SIDE, generator=torch.Generator().manual_seed(_SEED))
        hidden = block.lrelu(block.conv1(x))
        branch = block.conv2(hidden)
        pooled = torch.randn(_SAMPLES * _SIDE, _CHANNELS, generator=torch.Generator().manual_seed(_SEED + 1))
        logits = model.head(pooled)
    steps = {"block.conv1": (x, hidden), "block.conv2": (hidden, branch), "head": (pooled, logits)}
    return {name: float(after.square().mean() / before.square().mean()) for name, (before, after) in steps.items()}


def _print_ratios(console: Console, ratios: list[dict[str, float]]) -> None:
    console.print(f"    {'':12}  {'torch default':>13}  {'Kaiming loop':>12}  {'autoinit':>8}", style="bold")
    for name in ratios[0]:
        default, loop, ours = (each[name] for each in ratios)
        console.print(f"    {name:12}  {default:13.2f}  {loop:12.2f}  [green]{ours:8.2f}[/green]")
