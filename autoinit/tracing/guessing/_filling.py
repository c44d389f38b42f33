"""Arguments that may be left out and whose names say nothing: filled, one after the other, with what layers take.

A guess that has run but left weights uncalled is tried again with one more argument. What to give follows from its
annotation and default (a switch is turned), from a module of its name, and from the layers that were not called.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from autoinit.tracing.guessing._arguments import made
from autoinit.tracing.guessing._request import Request, numbers
from autoinit.tracing.guessing._subject import GuessedModel
from autoinit.tracing.guessing._weights import shapes
from autoinit.tracing.inputs import Inputs

_MOST_LAYERS = 4
"""Kinds of inputs of uncalled layers that are tried for one argument."""


def filled(model: nn.Module, base: Inputs, uncalled: Collection[str]) -> Iterator[Inputs]:
    """The inputs with one more argument of forward, in each way worth trying, most telling first.

    Args:
        model: what is to run.
        base: inputs on which it has run.
        uncalled: names of the weights that were not called.
    """
    subject = GuessedModel.of(model)
    given = base.names(list(subject.arguments))
    open_names = [
        name
        for name, each in subject.arguments.items()
        if each.default is not each.empty and name not in given and each.kind is not each.VAR_KEYWORD
    ]
    for name in open_names:
        for value in _values(subject, name, base, uncalled):
            yield replace(
                base, kwargs={**base.kwargs, name: value}, origin=f"{base.origin}, {name} filled", repaired=None
            )


def _values(subject: GuessedModel, name: str, base: Inputs, uncalled: Collection[str]) -> Iterator[Any]:
    """What an argument may be."""
    default, annotation = subject.arguments[name].default, _spelled(subject.arguments[name])
    if isinstance(default, bool):
        yield not default
    if isinstance(default, (bool, int, float, str)) or (default is not None and default != ()):
        return
    if annotation and not any(word in annotation for word in ("Tensor", "Any", "None", "Optional")):
        return
    if "bool" in annotation:
        yield True
        return
    if (value := made(Request(subject, given=base.kwargs), name)) is not None:
        yield value
    yield from _of_layers(subject, name, uncalled)


def _spelled(argument: inspect.Parameter) -> str:
    annotation = argument.annotation
    return "" if annotation is argument.empty else str(annotation)


def _of_layers(subject: GuessedModel, name: str, uncalled: Collection[str]) -> Iterator[torch.Tensor]:
    """What layers that were not called take: those under the argument's name first, each form once."""
    owners = {each.rpartition(".")[0] for each in uncalled}
    layers = [(path, kind, module) for path, kind, module in subject.layers if path in owners]
    layers.sort(key=lambda each: not _is_alike(name, each[0]))
    seen: list[tuple[int, ...]] = []
    for _, kind, module in layers:
        forms = [(kind, shape) for shape in shapes(kind, module, subject.sides)]
        if not forms or forms[0][1] in seen or len(seen) == _MOST_LAYERS:
            continue
        seen.append(forms[0][1])
        for _, shape in forms[: 1 if kind == "embedding" else 2]:
            yield torch.zeros(shape, dtype=torch.int64) if kind == "embedding" else numbers(shape, subject.dtype)


def _is_alike(name: str, path: str) -> bool:
    """Whether a module's path has the argument's name, or a part of it (`audio_encoder` for `audio`)."""
    return any(name in segment or segment in name for segment in path.split(".") if len(segment) > 2 or segment == name)
