"""Ways to initialise a model: the loops that people write, LSUV, and autoinit's methods."""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from _peers import Loss, gradinit, metainit
from torch import nn
from torch.nn import functional as F

from autoinit import autoinit

LOOPS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "he": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "xavier": nn.init.xavier_normal_,
    "orthogonal": nn.init.orthogonal_,
}
LEARNT = ("gradinit", "metainit")
"""Those that tune He's weights by gradients, and need to know what will be trained."""
OURS = ("nonlinearity", "signal", "data", "mirrored")
METHODS = ("library", *LOOPS, "lsuv", *OURS)
INPUTS_SEED = 7_919
"""Of batches. Never a seed of weights: both would be the same numbers, and the weights would know the inputs."""
VARIANTS = {
    "signal_orthogonal": ("signal", "orthogonal"),
    "data_orthogonal": ("data", "orthogonal"),
    "mirrored_normal": ("mirrored", "normal"),
}
"""autoinit's methods with another distribution: they tell what of a difference is due to that."""
TITLES = {
    "library": "library default",
    "he": "He everywhere",
    "xavier": "Xavier everywhere",
    "orthogonal": "orthogonal everywhere",
    "lsuv": "lsuv",
    "gradinit": "GradInit",
    "metainit": "MetaInit",
    **{each: f"autoinit {each}" for each in OURS},
    **{name: f"autoinit {method}, {distribution}" for name, (method, distribution) in VARIANTS.items()},
}


def weight_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What such a loop, and LSUV, know as layers with a weight."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            yield name, module


@dataclass(frozen=True)
class Task:
    """What a model will be trained on, for the methods of `LEARNT`.

    Attributes:
        inputs: (samples, ...).
        targets: of them.
        loss: of outputs and targets.
        adam: training will be by Adam, otherwise by SGD.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    loss: Loss = F.cross_entropy
    adam: bool = False


def initialise(method: str, model: nn.Module, batch: torch.Tensor, seed: int, task: Task | None = None) -> float:
    """Initialise a model in place; the seconds that it took.

    Args:
        method: one of `METHODS`, of `LEARNT` or of `VARIANTS`; `library` leaves the model as its constructor made it.
        model: as constructed.
        batch: for LSUV and `data`, and the shape of the input for `signal`.
        seed: of the weights' values.
        task: for the methods of `LEARNT`.
    """
    torch.manual_seed(seed)
    start = time.perf_counter()
    if method in LOOPS:
        loop(method, model)
    elif method in LEARNT:
        assert task is not None, f"{method} needs a task"
        loop("he", model)
        if method == "gradinit":
            gradinit(model, task.inputs, task.targets, task.loss, seed, adam=task.adam)
        else:
            metainit(model, task.inputs, task.targets, task.loss, seed)
    elif method == "lsuv":
        lsuv(model, batch)
    elif method in OURS:
        given = None if method == "nonlinearity" else (batch,)
        autoinit(model, given, method=method, seed=seed, force=True, verbose=False)
    elif method in VARIANTS:
        own, distribution = VARIANTS[method]
        autoinit(model, (batch,), method=own, distribution=distribution, seed=seed, force=True, verbose=False)
    return time.perf_counter() - start


def loop(method: str, model: nn.Module) -> None:
    """One of `LOOPS` on every weight, biases zero."""
    for _, module in weight_modules(model):
        LOOPS[method](module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def lsuv(model: nn.Module, batch: torch.Tensor) -> None:
    """The package of LSUV's author."""
    from lsuv import lsuv_with_singlebatch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSUV: forward hook")  # a layer that forward does not call
        lsuv_with_singlebatch(model, batch, verbose=False)


def output_moments(model: nn.Module, batch: torch.Tensor, *, training: bool) -> dict[str, tuple[float, float]]:
    """Second moment and std of each layer's output in one forward, by plain hooks, biases included.

    Of a layer that is called several times, the last call's. The model keeps its mode, but not its buffers.
    """
    found: dict[str, tuple[float, float]] = {}

    def taker(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def take(_module: nn.Module, _given: object, made: torch.Tensor) -> None:
            found[name] = (float(made.square().mean()), float(made.std()))

        return take

    handles = [module.register_forward_hook(taker(name)) for name, module in weight_modules(model)]
    before = model.training
    try:
        with torch.no_grad():
            model.train(training)(batch)
    finally:
        model.train(before)
        for handle in handles:
            handle.remove()
    return found


def spread(grads: list[float]) -> float | None:
    """log10 of the largest over the smallest; None without any, or where one is zero or not finite."""
    if not grads or not all(0 < each < math.inf for each in grads):
        return None
    return math.log10(max(grads)) - math.log10(min(grads))


def rounded(value: float) -> float | None:
    """Four digits; None for what is not finite, which JSON cannot write."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
