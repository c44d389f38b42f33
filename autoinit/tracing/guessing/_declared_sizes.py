"""Sizes of an input that a model tells by the pattern of an einops layer and by its tables of positions."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from autoinit.ops import REGISTRY
from autoinit.tracing.guessing._request import BATCH, numbers
from autoinit.tracing.guessing._resizing import repairing
from autoinit.tracing.guessing._subject import GuessedModel
from autoinit.tracing.inputs import Inputs

_GROUP = re.compile(r"\(([^)]*)\)|(\S+)")
_PATCHES = 7
"""Along each axis, where nothing says how many."""
_EXTRA = (0, 1, 2)
"""Tokens beside those of the patches: none, a class token, a distillation token."""


def from_patterns(subject: GuessedModel) -> Iterator[Inputs]:
    """What the first einops layer takes: `b c (h p1) (w p2) -> ...`, where it says how large p1 and p2 are."""
    for path, module in subject.model.named_modules():
        pattern, lengths = getattr(module, "pattern", None), getattr(module, "axes_lengths", None)
        if isinstance(pattern, str) and "->" in pattern and isinstance(lengths, Mapping):
            for shape in _shapes(subject.model, module, pattern, lengths):
                inputs = Inputs(
                    (numbers(shape, subject.dtype),), origin=f"guessed from the pattern of {path or 'the model'}"
                )
                yield repairing(inputs, subject.positional)
            return
        if REGISTRY.of_module(module) is not None and any(True for _ in module.parameters(recurse=False)):
            return  # what comes after a weight is no input


def _shapes(model: nn.Module, module: nn.Module, pattern: str, lengths: Mapping[str, Any]) -> Iterator[tuple[int, ...]]:
    """Shapes that the left side of a pattern allows, with as many patches as a table of positions has."""
    left, right = (side.strip() for side in pattern.split("->"))
    groups = [(grouped or single).split() for grouped, single in _GROUP.findall(left)]
    known = {name: int(size) for name, size in lengths.items()}
    counted = [group[0] for group in groups if len(group) > 1 and group[0] not in known]
    channels = _channels(model, module, right, known)
    for features, sizes in itertools.product([channels, {}] if channels else [{}], _factors(model, len(counted))):
        sized = {**known, **features, **dict(zip(counted, sizes, strict=True))}
        yield tuple(
            BATCH if index == 0 and group[0] not in sized else math.prod(sized.get(name, _COLOURS) for name in group)
            for index, group in enumerate(groups)
        )


_COLOURS = 3


def _channels(model: nn.Module, module: nn.Module, right: str, known: Mapping[str, int]) -> dict[str, int]:
    """The one unknown size of the features that the next layer takes, by that layer's width."""
    grouped = re.findall(r"\(([^)]*)\)", right)
    names = grouped[-1].split() if grouped else []
    unknown = [name for name in names if name not in known]
    width = _width_after(model, module)
    rest = math.prod(known[name] for name in names if name in known)
    return {unknown[0]: width // rest} if len(unknown) == 1 and width and width % rest == 0 else {}


def _width_after(model: nn.Module, module: nn.Module) -> int | None:
    """How wide what the next layer takes is."""
    passed = False
    for each in model.modules():
        if each is module:
            passed = True
        elif passed and isinstance(each, nn.Linear):
            return each.in_features
        elif passed and isinstance(each, nn.LayerNorm):
            return int(each.normalized_shape[-1])
        elif passed and isinstance(weight := getattr(each, "weight", None), torch.Tensor):
            return weight.shape[-1]
    return None


def _factors(model: nn.Module, axes: int) -> Iterator[tuple[int, ...]]:
    """Numbers of patches along each axis that make up a table of positions, those nearest to a cube first."""
    found: dict[tuple[int, ...], None] = {}
    for size in _positions(model):
        for extra in _EXTRA:
            if size > extra:
                found |= dict.fromkeys(_split(size - extra, axes)[:2])
    yield from [*found, (_PATCHES,) * axes][:6]


def _positions(model: nn.Module) -> Iterator[int]:
    """How many tokens the tables of positions have."""
    for module in model.modules():
        held = {**module.__dict__, **module._parameters, **module._buffers}
        for name, table in held.items():
            if isinstance(table, torch.Tensor) and "pos" in name and table.dim() > 1:
                yield math.prod(table.shape[:-1])


def _split(size: int, axes: int) -> list[tuple[int, ...]]:
    """The ways to write a number as a product of so many, those of factors nearest to each other first."""
    if axes < 2:
        return [(size,) * axes]
    found = [
        (each, *rest) for each in range(1, size + 1) if size % each == 0 for rest in _split(size // each, axes - 1)
    ]
    return sorted(found, key=lambda each: max(each) / min(each))
