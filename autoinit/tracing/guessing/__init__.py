"""Guesses of what a model takes, when no example input is given.

To guess another kind of argument by its name, add its entry to `_arguments`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from autoinit.tracing.guessing._arguments import made
from autoinit.tracing.guessing._composing import calls
from autoinit.tracing.guessing._declared import batched, configured, dummies, dummy_inputs, main_argument
from autoinit.tracing.guessing._declared_sizes import from_patterns
from autoinit.tracing.guessing._filling import filled
from autoinit.tracing.guessing._request import Request
from autoinit.tracing.guessing._resizing import repairing
from autoinit.tracing.guessing._subject import GuessedModel
from autoinit.tracing.guessing._takers import from_takers
from autoinit.tracing.guessing._weights import for_argument, from_weights
from autoinit.tracing.inputs import Inputs

__all__ = ["filled", "guessed_inputs"]

_MOST = 18


def guessed_inputs(model: nn.Module) -> Iterator[Inputs]:
    """Inputs worth trying, most telling first.

    What the model itself declares; then each argument made by its name; then what its first weights take.
    """
    forwards = type(model).forward is not nn.Module.forward or "forward" in vars(model)
    return itertools.islice(
        _guesses(GuessedModel.of(model)), _MOST if forwards else 1
    )  # one, for what torch says of it


def _guesses(subject: GuessedModel) -> Iterator[Inputs]:
    yield from configured(subject)
    yield from calls(subject)
    declared = dummy_inputs(subject)
    yield from dummies(declared)
    main = main_argument(subject, declared)
    if not main:
        yield from from_patterns(subject)
        yield from from_takers(subject)
    for inputs in from_weights(subject):
        if main:
            yield Inputs((), {**declared, main: batched(inputs.args[0], declared)}, inputs.origin)
        else:
            args = _positional(subject, inputs.args[0])
            yield repairing(replace(inputs, args=args), subject.positional)
    if subject.arguments and not subject.required:
        yield Inputs((), {}, "left out")


def _positional(subject: GuessedModel, first: torch.Tensor) -> tuple[Any, ...]:
    """The tensor, and the other arguments that must be passed: by their names, or alike (two images, say)."""
    _, *others = subject.positional or ("",)
    request = Request(subject)
    found = [(made(request, name), name) for name in others]
    return (first, *(for_argument(subject, name, first) if value is None else value for value, name in found))
