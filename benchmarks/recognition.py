"""How often a recipe is recognised from the weights that it drew: recipes x layer types x layer sizes.

    python benchmarks/recognition.py
    python benchmarks/recognition.py --types linear conv --sizes 64 --draws 200 --json recognition.json

Weights are drawn with torch.nn.init and torch.nn's constructors; what torch cannot draw, with scipy. A recipe that is
named counts as the true one if it has its kind and distribution and a std within 1 % of torch's formula for it.

`first`: the true recipe is named first. `named`: it is among those named. `false`: others are named, and it is not.
`nothing`: no recipe is named. Two recipes that one weight cannot tell apart, because both give it the same distribution
and the same std up to the noise of its size, are listed with the share of draws in which both are named.
"""

import argparse
import json
import math
import platform
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from scipy import stats
from torch import nn

from autoinit import plan
from autoinit.plans.layers import LayerPlan
from autoinit.recognising.portrait import portray
from autoinit.recognising.recipes import Recipe
from autoinit.recognising.recognition import recognise

Figures = dict[str, Any]

SIZES = (8, 32, 128)
"""Numbers of channels or features."""


class Product(nn.Module):
    """x @ W, with a weight of shape (in, out)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As torch starts a linear layer; it has no layer of this kind."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (..., in) to (..., out)."""
        return (x @ self.weight).relu()


TYPES: dict[str, tuple[Callable[[int], nn.Module], str]] = {
    "linear": (lambda n: nn.Sequential(nn.Linear(n, 2 * n), nn.ReLU()), "0.weight"),
    "square linear": (lambda n: nn.Sequential(nn.Linear(n, n), nn.Tanh()), "0.weight"),
    "conv": (lambda n: nn.Sequential(nn.Conv2d(n, 2 * n, 3), nn.ReLU()), "0.weight"),
    "strided conv": (lambda n: nn.Sequential(nn.Conv2d(n, 2 * n, 3, 2), nn.LeakyReLU(0.2)), "0.weight"),
    "depthwise conv": (lambda n: nn.Sequential(nn.Conv2d(n, n, 3, groups=n), nn.ReLU()), "0.weight"),
    "conv_transpose": (lambda n: nn.Sequential(nn.ConvTranspose2d(2 * n, n, 4, 2), nn.ReLU()), "0.weight"),
    "x @ W": (lambda n: Product(n, 2 * n), "weight"),
    "lstm": (lambda n: nn.LSTM(2 * n, n), "weight_ih_l0"),
    "attention": (lambda n: nn.MultiheadAttention(n, 1), "in_proj_weight"),
}


@dataclass(frozen=True)
class Truth:
    """A way to draw a weight, and what it is by torch's own formulas.

    draw: fills a tensor. kind, distribution: as in `Recipe`. std: of the elements, by the weight's shape; None where a
    name is all that there is to tell.
    """

    draw: Callable[[torch.Tensor], object]
    kind: str
    distribution: str = ""
    std: Callable[[torch.Tensor], float] | None = None
    factor: float = 1.0

    def is_named_by(self, recipe: Recipe, weight: torch.Tensor) -> bool:
        """Whether a recipe is this one."""
        same = recipe.kind == self.kind or (recipe.kind == "default" and recipe.name.startswith(f"{self.kind}_"))
        if not same or recipe.distribution != self.distribution:
            return False
        if abs(recipe.factor / self.factor - 1) > 1e-6 and self.factor != 1:
            return False
        return self.std is None or bool(abs(recipe.std / (self.std(weight) * self.factor) - 1) < 0.01)


def fan(weight: torch.Tensor, mode: str) -> float:
    """torch.nn.init's fans."""
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight)
    return {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]


def kaiming(distribution: str, mode: str, nonlinearity: str, slope: float = 0.0) -> Truth:
    """torch.nn.init.kaiming_*_."""
    gain = nn.init.calculate_gain(nonlinearity, slope)
    draw = nn.init.kaiming_normal_ if distribution == "normal" else nn.init.kaiming_uniform_
    return Truth(
        lambda weight: draw(weight, slope, mode, nonlinearity),  # type: ignore[arg-type]
        "kaiming",
        distribution,
        lambda weight: gain / math.sqrt(fan(weight, mode)),
    )


def xavier(distribution: str, gain: float = 1.0) -> Truth:
    """torch.nn.init.xavier_*_."""
    draw = nn.init.xavier_normal_ if distribution == "normal" else nn.init.xavier_uniform_
    return Truth(lambda weight: draw(weight, gain), "xavier", distribution,
                 lambda weight: gain / math.sqrt(fan(weight, "fan_avg")))  # fmt: skip


def normal(std: float) -> Truth:
    """torch.nn.init.normal_."""
    return Truth(lambda weight: nn.init.normal_(weight, 0.0, std), "absolute", "normal", lambda _weight: std)


def scaled(truth: Truth, factor: float) -> Truth:
    """Another recipe times a factor."""
    return Truth(lambda weight: truth.draw(weight) is None or weight.mul_(factor), truth.kind, truth.distribution,
                 truth.std, factor)  # fmt: skip


def truncated(weight: torch.Tensor, std: float) -> None:
    """N(0, std) cut at 2 std: the elements' own std is 0.88 of that."""
    nn.init.trunc_normal_(weight, 0.0, std, -2 * std, 2 * std)


def lecun(weight: torch.Tensor) -> None:
    """Variance 1 / fan_in, truncated at two sigma, by scipy."""
    shape = tuple(weight.shape)
    drawn = stats.truncnorm.rvs(-2, 2, size=shape, random_state=int(torch.randint(1 << 31, ()).item()))
    weight.copy_(torch.from_numpy(drawn) / stats.truncnorm.std(-2, 2) / math.sqrt(fan(weight, "fan_in")))


def identity(weight: torch.Tensor) -> None:
    """torch.nn.init.eye_, and dirac_ for convolutions."""
    nn.init.eye_(weight) if weight.dim() == 2 else nn.init.dirac_(weight)


TRUTHS: dict[str, Truth] = {
    "kaiming_normal(fan_in, relu)": kaiming("normal", "fan_in", "relu"),
    "kaiming_uniform(fan_in, relu)": kaiming("uniform", "fan_in", "relu"),
    "kaiming_normal(fan_out, relu)": kaiming("normal", "fan_out", "relu"),
    "kaiming_uniform(fan_out, relu)": kaiming("uniform", "fan_out", "relu"),
    "kaiming_normal(fan_in, linear)": kaiming("normal", "fan_in", "linear"),
    "kaiming_normal(fan_in, a=0.2)": kaiming("normal", "fan_in", "leaky_relu", 0.2),
    "kaiming_uniform(fan_in, tanh)": kaiming("uniform", "fan_in", "tanh"),
    "kaiming_normal(fan_in, a=sqrt(2))": kaiming("normal", "fan_in", "leaky_relu", math.sqrt(2)),
    "xavier_normal": xavier("normal"),
    "xavier_uniform": xavier("uniform"),
    "xavier_normal(gain=5/3)": xavier("normal", 5 / 3),
    "normal(0.02)": normal(0.02),
    "normal(0.01)": normal(0.01),
    "uniform(-0.05, 0.05)": Truth(lambda weight: nn.init.uniform_(weight, -0.05, 0.05), "absolute", "uniform",
                                  lambda _weight: 0.05 / math.sqrt(3)),
    "trunc_normal(0.02)": Truth(lambda weight: truncated(weight, 0.02), "absolute", "truncated_normal",
                                lambda _weight: 0.02 * stats.truncnorm.std(-2, 2)),
    "kaiming_truncated_normal(fan_in, linear)": Truth(lecun, "kaiming", "truncated_normal",
                                                      lambda weight: 1 / math.sqrt(fan(weight, "fan_in"))),
    "orthogonal(gain=1)": Truth(nn.init.orthogonal_, "orthogonal", "orthogonal"),
    "orthogonal(gain=sqrt(2))": Truth(lambda weight: nn.init.orthogonal_(weight, math.sqrt(2)), "orthogonal",
                                      "orthogonal"),
    "zeros": Truth(nn.init.zeros_, "zeros"),
    "constant(0.5)": Truth(lambda weight: nn.init.constant_(weight, 0.5), "constant"),
    "identity": Truth(identity, "identity"),
    "kaiming_normal(fan_in, relu) x 0.1": scaled(kaiming("normal", "fan_in", "relu"), 0.1),
    "normal(0.02) / sqrt(2*12)": scaled(normal(0.02), 1 / math.sqrt(24)),
}  # fmt: skip
DEFAULT = "torch's default"


def default_std(weight: torch.Tensor, kind: str) -> float:
    """What the documentation of torch.nn says of its modules' first weights, as a std."""
    if kind == "attention":
        return math.sqrt(2 / sum(weight.shape))
    return 1 / math.sqrt(3 * (weight.shape[0] / 4 if kind == "lstm" else fan(weight, "fan_in")))


def measure(kind: str, size: int, name: str, draws: int, seed: int) -> Figures:
    """Draws a weight so many times by one recipe and counts what it is taken for."""
    make, param = TYPES[kind]
    module = make(size)
    inputs = torch.zeros(2, 3, size if kind == "attention" else 2 * size)
    example = {"lstm": inputs, "attention": (inputs,) * 3}.get(kind)
    layer = next(each for each in plan(module, example).layers if each.param == param)
    weight = module.get_parameter(param)
    truth = TRUTHS.get(name) or Truth(
        lambda _weight: reset(module), "default", "uniform", lambda weight: default_std(weight, kind)
    )
    counts: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    beside: Counter[str] = Counter()
    for number in range(draws):
        torch.manual_seed(seed + number)
        with torch.no_grad():
            truth.draw(weight)
        named = named_recipes(weight, layer)
        true = [truth.is_named_by(recipe, weight) for recipe in named]
        counts["first"] += bool(true) and true[0]
        counts["named"] += any(true)
        counts["false"] += bool(true) and not any(true)
        counts["nothing"] += not true
        if not (true and true[0]):
            taken[named[0].name if named else "unknown"] += 1
        beside.update({recipe.name for recipe, same in zip(named, true, strict=True) if not same and any(true)})
    return {
        "recipe": name, "type": kind, "size": size, "weights": weight.numel(), "draws": draws,
        **{key: counts[key] for key in ("first", "named", "false", "nothing")},
        "taken_for": dict(taken.most_common()), "beside": dict(beside.most_common()),
    }  # fmt: skip


def reset(module: nn.Module) -> None:
    """Starts a module again as torch does."""
    for each in module.modules():
        for method in ("reset_parameters", "_reset_parameters"):
            if hasattr(each, method):
                getattr(each, method)()


def named_recipes(weight: torch.Tensor, layer: LayerPlan) -> tuple[Recipe, ...]:
    """All recipes that a weight is taken for."""
    portrait = portray(weight, layer.axes)
    assert portrait is not None
    return recognise(portrait, layer).recipes


def skipped(kind: str, name: str) -> bool:
    """What has no meaning: a default where torch has none."""
    return kind == "x @ W" and name == DEFAULT


def table(title: str, key: Callable[[Figures], str], cases: Sequence[Figures]) -> Table:
    """Shares by whatever `key` tells of a case."""
    made = Table(title=title, title_justify="left")
    made.add_column("")
    for column in ("draws", "first", "named", "false", "nothing"):
        made.add_column(column, justify="right")
    made.add_column("taken for, when not for the true one first")
    groups: dict[str, list[Figures]] = {}
    for case in cases:
        groups.setdefault(key(case), []).append(case)
    for name, group in groups.items():
        draws = sum(case["draws"] for case in group)
        shares = [f"{sum(case[column] for case in group) / draws:.1%}" for column in ("first", "named", "false")]
        nothing = f"{sum(case['nothing'] for case in group) / draws:.1%}"
        others: Counter[str] = Counter()
        for case in group:
            others.update(case["taken_for"])
        made.add_row(name, str(draws), *shares, nothing, "; ".join(f"{told} {n}" for told, n in others.most_common(2)))
    return made


def pairs(cases: Sequence[Figures], size: int) -> Table:
    """What the largest layers cannot tell apart."""
    made = Table(title=f"Named beside the true recipe, size {size}", title_justify="left")
    for column in ("type", "drawn", "named beside it"):
        made.add_column(column)
    made.add_column("draws", justify="right")
    for case in cases:
        for name, number in case["beside"].items():
            if case["size"] == size and number / case["draws"] >= 0.1:
                made.add_row(case["type"], case["recipe"], name, f"{number / case['draws']:.0%}")
    return made


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES), metavar="TYPE", help=", ".join(TYPES))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="channels or features")
    parser.add_argument("--recipes", nargs="+", default=["*"], metavar="GLOB", help="names of recipes")
    parser.add_argument("--draws", type=int, default=50, help="weights for each recipe, type and size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    chosen = arguments(given)
    console = Console()
    names = [name for name in (DEFAULT, *TRUTHS) if any(fnmatchcase(name, glob) for glob in chosen.recipes)]
    if not names:
        console.print(f"no recipe is called {' or '.join(chosen.recipes)}; there are {', '.join((DEFAULT, *TRUTHS))}")
        return 2
    work = [(kind, size, name) for kind in chosen.types for size in chosen.sizes for name in names]
    cases = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for kind, size, name in progress.track(work):
            if not skipped(kind, name):
                cases.append(measure(kind, size, name, chosen.draws, chosen.seed))
    console.print(table("By recipe", lambda case: str(case["recipe"]), cases))
    console.print(table("By layer", lambda case: f"{case['type']}, {case['size']}", cases))
    console.print(pairs(cases, max(chosen.sizes)))
    if chosen.json:
        machine = {"torch": torch.__version__, "python": platform.python_version(), "system": platform.system()}
        chosen.json.write_text(json.dumps({**machine, "seed": chosen.seed, "cases": cases}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
