"""Coordinate check: whether the outputs of a model's layers change as much in a wide model as in a narrow one.

A few steps are taken in models of several widths. Where a learning rate fits every width, the change of a feature
does not depend on the width: the slope of its logarithm over that of the width is about zero (Yang et al. 2022,
appendix D.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

from autoinit import formats
from autoinit.errors.arguments import all_of, one_of, refusal, require, require_call
from autoinit.errors.calling import calling
from autoinit.transfer.making import scaling
from autoinit.transfer.record import Scaling
from autoinit.transfer.rules import OPTIMIZERS, Optimizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Parametrisation = Literal["scaled", "standard"]
Batch = tuple[Any, Any]
_LEAST_CHANGE = 1e-30
_MOST_STEPS, _MOST_SEEDS, _MOST_WIDTHS, _MOST_WIDTH = 10_000, 1_000, 100, 1 << 20
_MOST_RATE = 1e6
_RATE = f"a learning rate: positive, up to {_MOST_RATE:g}"


@dataclass(frozen=True)
class CoordinateCheck(formats.Printable):
    """How much the outputs of layers changed, in models of several widths.

    Attributes:
        widths: of the models, ascending.
        optimizer, lr, steps: of the training.
        changes: by parametrisation and layer, for each width after the last step: the mean of |h - h at the start|
            over a layer's output on the first batch. The model's own output has the empty name.
        losses: by parametrisation, for each width before the last step.
    """

    _kind = "coordinates"

    widths: tuple[int, ...]
    optimizer: str
    lr: float
    steps: int
    changes: Mapping[Parametrisation, Mapping[str, tuple[float, ...]]]
    losses: Mapping[Parametrisation, tuple[float, ...]]

    @cached_property
    def slopes(self) -> Mapping[Parametrisation, Mapping[str, float]]:
        """By parametrisation and layer the slope of log2 change over log2 width, by least squares."""
        return {
            which: {layer: _slope(self.widths, values) for layer, values in layers.items()}
            for which, layers in self.changes.items()
        }

    def worst(self, which: Parametrisation = "scaled") -> tuple[str, float]:
        """The layer whose slope is farthest from zero, and the slope.

        Raises:
            ArgumentError: there was no such training.
        """
        one_of("which", which, self.slopes)
        return max(self.slopes[which].items(), key=lambda each: abs(each[1]))

    def plot(self) -> Figure:
        """Change against width for each layer, a panel for each parametrisation. Needs matplotlib."""
        made: Figure = formats.tool("coordinates figure")(self)
        return made


def coordinate_check(
    make_model: Callable[[int], nn.Module],
    widths: Sequence[int],
    batches: Callable[[int], Batch] | Batch,
    loss: Callable[[Any, Any], torch.Tensor] = F.cross_entropy,
    *,
    optimizer: Optimizer = "adamw",
    lr: float = 1e-2,
    steps: int = 5,
    seeds: int = 1,
    depth: float = 1.0,
    standard: bool = True,
    example_inputs: Any = None,
) -> CoordinateCheck:
    """Train models of several widths for a few steps, scaled and not, and compare how their layers' outputs change.

        >>> def mlp(d): return nn.Sequential(nn.Linear(4, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU(), nn.Linear(d, 2))
        >>> data = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 2
        >>> result = coordinate_check(mlp, [32, 64, 128], data)
        >>> abs(result.slopes["scaled"]["2"]) < 0.3 < result.slopes["standard"]["2"]
        True

    Only the models that `make_model` builds are trained; torch's random state stays as it was.

    Args:
        make_model: builds a model of a width, such as 256. Its random numbers follow from the seed.
        widths: two to 100, each up to 2^20. The narrowest is the base of the others.
        batches: (inputs, targets) for each step, or one such pair for all. Inputs that are a tuple are arguments, a
            dict keyword arguments.
        loss: of the model's output and the targets.
        optimizer: as for `scaling`; `muon` needs 2-D hidden weights.
        lr: of the narrowest model.
        steps: of training, up to 10,000.
        seeds: starts that are averaged, up to 1,000.
        depth: as for `scaling`.
        standard: whether to train the same models with one learning rate, from `autoinit`'s plan, as well.
        example_inputs: as for `plan`; the first batch's inputs if None and they are needed.

    Raises:
        ArgumentError: an argument has no meaning.
        TraceError: a model could not be traced.
        PlanError: the models are not of one architecture.
        CallbackError: `make_model`, `batches`, a model or `loss` failed.
    """
    chosen = _widths(widths)
    for name, value in (("make_model", make_model), ("loss", loss)):
        if not callable(value):
            raise refusal(name, value, "a function")
    require_call("make_model", make_model, 256)
    if callable(batches):
        require_call("batches", batches, 0)
    elif not (isinstance(batches, tuple) and len(batches) == 2):
        raise refusal("batches", batches, "a pair of inputs and targets, or a function of the step that gives one")
    for name, count, most in (("steps", steps, _MOST_STEPS), ("seeds", seeds, _MOST_SEEDS)):
        require(name, count, int, _whole(most))
        if not 1 <= count <= most:
            raise refusal(name, count, _whole(most))
    require("lr", lr, (int, float), _RATE)
    if not 0 < lr <= _MOST_RATE:
        raise refusal("lr", lr, _RATE)
    require("standard", standard, bool, "True or False")
    draw = batches if callable(batches) else lambda _: batches
    which: tuple[Parametrisation, ...] = ("scaled", "standard") if standard else ("scaled",)
    trained = _Trained(make_model, chosen[0], draw, loss, optimizer, float(lr), steps, depth, example_inputs)
    changes: dict[Parametrisation, dict[str, tuple[float, ...]]] = {}
    losses: dict[Parametrisation, tuple[float, ...]] = {}
    for each in which:
        runs = [[trained.run(width, each, seed) for seed in range(seeds)] for width in chosen]
        layers = list(runs[0][0].changes)
        changes[each] = {
            layer: tuple(sum(run.changes[layer] for run in of_width) / seeds for of_width in runs) for layer in layers
        }
        losses[each] = tuple(sum(run.loss for run in of_width) / seeds for of_width in runs)
    return CoordinateCheck(chosen, optimizer, float(lr), steps, changes, losses)


def _whole(most: int) -> str:
    return f"a whole number from 1 to {most:,}"


def _widths(widths: Sequence[int]) -> tuple[int, ...]:
    found = tuple(sorted(all_of("widths", widths, int, "at least two widths, such as [64, 128, 256]")))
    if len(set(found)) < 2 or len(found) > _MOST_WIDTHS or found[0] < 1 or found[-1] > _MOST_WIDTH:
        raise refusal(
            "widths", list(found), f"at least two different ones, {_MOST_WIDTHS} at most, each {_whole(_MOST_WIDTH)}"
        )
    return found


def _slope(widths: Sequence[int], values: Sequence[float]) -> float:
    """By least squares, of log2 value over log2 width."""
    x = [math.log2(width) for width in widths]
    y = [math.log2(max(value, _LEAST_CHANGE)) for value in values]
    middle = sum(x) / len(x)
    return sum((a - middle) * b for a, b in zip(x, y, strict=True)) / sum((a - middle) ** 2 for a in x)


@dataclass(frozen=True)
class _Outcome:
    """What came of one training."""

    changes: Mapping[str, float]
    loss: float


@dataclass(frozen=True, eq=False)
class _Trained:
    """Trains a model of a width."""

    make_model: Callable[[int], nn.Module]
    base_width: int
    batches: Callable[[int], Batch]
    loss: Callable[[Any, Any], torch.Tensor]
    optimizer: Optimizer
    lr: float
    steps: int
    depth: float
    example_inputs: Any

    def run(self, width: int, which: Parametrisation, seed: int) -> _Outcome:
        """The change of each layer's output over some steps."""
        of = f"({which}, width {width}, seed {seed})"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self._made(width)
            layers, optimizers = self._started(model, which, seed)
            first = self._batch(0)[0]
            with calling(f"model(inputs) of batches(0) {of}"):
                before = _outputs(model, layers, first)
            last = math.nan
            for step in range(self.steps):
                last = self._step(model, optimizers, step, of)
            with calling(f"model(inputs) of batches(0) after the last step {of}"):
                after = _outputs(model, layers, first)
        return _Outcome({name: float((after[name] - before[name]).abs().mean()) for name in before}, last)

    def _made(self, width: int) -> nn.Module:
        with calling(f"make_model({width})"):
            return self.make_model(width)

    def _batch(self, step: int) -> Batch:
        with calling(f"batches({step})"):
            found = self.batches(step)
        if not (isinstance(found, (tuple, list)) and len(found) == 2):
            raise refusal(f"batches({step})", found, "a pair of inputs and targets")
        inputs, targets = found
        return inputs, targets

    def _step(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], step: int, of: str) -> float:
        """One step of training. Returns the loss before it. of: which training, in words."""
        inputs, targets = self._batch(step)
        for each in optimizers:
            each.zero_grad()
        with calling(f"model(inputs) of batches({step}) {of}"):
            output = _called(model, inputs)
        with calling(f"loss(output, targets) of batches({step}) {of}"):
            value = self.loss(output, targets)
        if not (isinstance(value, torch.Tensor) and value.numel() == 1 and value.requires_grad):
            raise refusal("loss(output, targets)", value, "a tensor of one element that follows from the weights")
        with calling(f"step {step} of the training {of}"):
            value.backward()  # type: ignore[no-untyped-call]
            for each in optimizers:
                each.step()
        return float(value.detach())

    def _started(
        self, model: nn.Module, which: Parametrisation, seed: int
    ) -> tuple[list[str], list[torch.optim.Optimizer]]:
        """The model's layers that are modules, in order; it has its start, and its optimizers are made."""
        scaled = self._scaling(model, which)
        scaled.apply(model, seed, force=True)
        modules = dict(model.named_modules())
        layers = [layer.name for layer in scaled.plan.layers if layer.name in modules]
        return layers, _optimizers(self.optimizer, scaled.groups(model, self.lr), self.lr)

    def _scaling(self, model: nn.Module, which: Parametrisation) -> Scaling:
        """Against the narrowest model; against the model itself, all multipliers are 1."""
        if which == "standard":
            return scaling(model, width=1, optimizer=self.optimizer, example_inputs=self.example_inputs)
        with torch.random.fork_rng(devices=[]):
            base = self._made(self.base_width)
        return scaling(model, base, optimizer=self.optimizer, depth=self.depth, example_inputs=self.example_inputs)


def _optimizers(name: Optimizer, groups: list[dict[str, Any]], lr: float) -> list[torch.optim.Optimizer]:
    """Torch's optimizers of these groups: of Muon two."""
    if name != "muon":
        return [OPTIMIZERS[name].kind(groups, lr=lr)]
    parts = [[group for group in groups if group["use_muon"] is by_muon] for by_muon in (True, False)]
    for group in parts[0]:
        group.pop("eps")
    found = zip((torch.optim.Muon, torch.optim.AdamW), parts, strict=True)
    return [made(part, lr=lr, weight_decay=0.0) for made, part in found if part]


def _called(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


@torch.no_grad()
def _outputs(model: nn.Module, layers: Sequence[str], inputs: Any) -> dict[str, torch.Tensor]:
    """The output of each of these modules at its first call, and the model's own under the name ``."""
    found: dict[str, torch.Tensor] = {}
    modules = dict(model.named_modules())
    with ExitStack() as hooks:
        for name in layers:
            handle = modules[name].register_forward_hook(lambda _, __, given, name=name: _keep(found, name, given))
            hooks.callback(handle.remove)
        _keep(found, "", _called(model, inputs))
    return found


def _keep(found: dict[str, torch.Tensor], name: str, given: Any) -> None:
    while isinstance(given, (tuple, list)) and given:
        given = given[0]
    if isinstance(given, torch.Tensor) and given.is_floating_point():
        found.setdefault(name, given.detach().clone())
