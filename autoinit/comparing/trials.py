"""One training: a model from one start, at one learning rate, with one seed."""

from __future__ import annotations

import hashlib
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from autoinit.errors import ArgumentError
from autoinit.errors.arguments import refusal
from autoinit.errors.calling import calling

Write = Callable[[nn.Module, int], object]
"""Writes a start into a model, with a seed."""
Train = Callable[[nn.Module, float], Iterator[Any]]
"""A training loop: a generator that yields the loss of each step."""
Score = Callable[[nn.Module], Any]

LAST = 10
"""Without a score, the mean of the last of so many parts of the losses counts."""
_DATA_SEED = 10_000
"""Between the seed of the weights and that of the training: from one seed, batches would know the weights."""


@dataclass(frozen=True)
class Trial:
    """What became of one training.

    Attributes:
        start: its name.
        lr: the learning rate.
        seed: of the weights, and of the batches.
        losses: one for each step that was taken.
        score: lower is better; infinite where the training was given up.
        given_up: why; empty where it went to its end.
        seconds: of the training.
    """

    start: str
    lr: float
    seed: int
    losses: tuple[float, ...]
    score: float
    given_up: str
    seconds: float


@dataclass(frozen=True, eq=False)
class Course:
    """What is the same for all trainings of a comparison: `compare`'s arguments of these names."""

    make_model: Callable[[], nn.Module]
    train: Train
    steps: int
    score: Score | None = None
    give_up: float = math.inf
    limit: float = math.inf

    def model(self, start: str, write: Write, seed: int) -> nn.Module:
        """A model at its start. Everybody's random state is left as it was."""
        with seeded(seed):
            with calling(f"make_model() for start {start!r}, seed {seed},"):
                model = self.make_model()
            if not isinstance(model, nn.Module):
                raise refusal("make_model()", model, "a module")
            torch.manual_seed(seed)
            with calling(f"start {start!r}, seed {seed},"):
                write(model, seed)
        return model

    def run(self, start: str, model: nn.Module, lr: float, seed: int) -> Trial:
        """Train a model that has its start."""
        began, of = time.perf_counter(), f"for start {start!r}, lr {lr:g}, seed {seed},"
        with seeded(seed + _DATA_SEED):
            with calling(f"model.train() {of}"):
                model.train()
            losses, given_up = self._losses(model, lr, of)
            with calling(f"score(model) {of}"):
                score = math.inf if given_up else self._score(model, losses)
        if not given_up and not math.isfinite(score):
            given_up = f"the score is {score}"
        return Trial(
            start, lr, seed, losses, score if not given_up else math.inf, given_up, time.perf_counter() - began
        )

    def _losses(self, model: nn.Module, lr: float, of: str) -> tuple[tuple[float, ...], str]:
        """Those of the steps that were taken, and why no more were. of: which training, in words."""
        losses: list[float] = []
        with calling(lambda: f"train(model, lr) at step {len(losses) + 1} {of}"):
            loop = self.train(model, lr)
            return self._taken(loop, losses)

    def _taken(self, loop: Iterator[Any], losses: list[float]) -> tuple[tuple[float, ...], str]:
        """Appends the losses as the steps are taken."""
        if not isinstance(loop, Iterator):
            raise refusal("train(model, lr)", loop, "a generator: a training loop that yields the loss of each step")
        end = time.monotonic() + self.limit
        try:
            for _, loss in zip(range(self.steps), loop, strict=False):
                value = _number(loss)
                losses.append(value)
                if not math.isfinite(value):
                    return tuple(losses), f"the loss is {value} at step {len(losses)}"
                if abs(value) > self.give_up * max(1.0, abs(losses[0])):
                    return tuple(losses), f"the loss is {value:.3g} at step {len(losses)}, {losses[0]:.3g} at the first"
                if time.monotonic() > end:
                    return tuple(losses), f"{self.limit:g} seconds were over at step {len(losses)}"
        finally:
            close = getattr(loop, "close", None)
            if close is not None:
                close()
        if not losses:
            raise ArgumentError("train(model, lr) yielded no loss: expected a loop with `yield loss` in each step")
        return tuple(losses), ""

    def _score(self, model: nn.Module, losses: tuple[float, ...]) -> float:
        if self.score is None:
            return statistics.fmean(losses[-max(1, len(losses) // LAST) :])
        model.eval()
        with torch.no_grad():
            return _number(self.score(model))


def _number(loss: Any) -> float:
    """A loss or a score, which may be a tensor of one element."""
    value = loss.detach() if isinstance(loss, torch.Tensor) else loss
    try:
        return float(value)
    except Exception as error:
        raise refusal("loss", loss, "a number, or a tensor of one element, for each step") from error


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch (CPU and CUDA), numpy and Python follow from a seed; afterwards they go on as before."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def fingerprint(model: nn.Module) -> str:
    """The same for models whose parameters and buffers are the same numbers."""
    found = hashlib.sha256()
    for name, each in model.state_dict().items():
        found.update(name.encode())
        if isinstance(each, torch.Tensor):
            found.update(each.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
