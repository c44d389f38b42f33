"""Shapes that the first weights of a model can take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from autoinit.ops import REGISTRY
from autoinit.tracing.guessing._request import BATCH, LENGTH, numbers
from autoinit.tracing.guessing._subject import GuessedModel
from autoinit.tracing.inputs import Inputs

_SIDES = (224, 32, 28, 64, 84, 256, 96, 128, 299, 512, 16, 8)
_CLIPS = ((16, 112, 112), (16, 224, 224), (8, 224, 224))


def from_weights(subject: GuessedModel) -> Iterator[Inputs]:
    """One tensor for the first weights of each kind, the first in the model first."""
    kinds: dict[str, nn.Module] = {}
    sides = _image_sides(subject)
    for name, module in subject.model.named_modules():
        spec = REGISTRY.of_module(module)
        origin = f"guessed from {name or type(module).__name__}"
        if spec is not None and spec.name not in kinds and any(True for _ in module.parameters(recurse=False)):
            kinds[spec.name] = module
            for shape in shapes(spec.name, module, sides):
                if spec.name == "embedding":
                    yield Inputs((torch.zeros(shape, dtype=torch.int64),), origin=origin)
                else:
                    yield Inputs((numbers(shape, subject.dtype),), origin=origin)
        elif spec is None and "" not in kinds and (weight := _own_weight(module)) is not None:
            kinds[""] = module
            yield from (Inputs((numbers(shape, subject.dtype),), origin=origin) for shape in _anonymous_shapes(weight))


def for_argument(subject: GuessedModel, name: str, like: torch.Tensor) -> torch.Tensor:
    """What the first weight under the argument's name takes, in as many dimensions as another; else that other."""
    for path, kind, module in subject.layers:
        if name in path.split("."):
            sizes = [shape for shape in shapes(kind, module, ()) if kind != "embedding"]
            close = [shape for shape in sizes if len(shape) == like.dim()] or sizes
            return numbers(close[0], subject.dtype) if close else torch.zeros(BATCH, LENGTH, dtype=torch.int64)
    return like


def _own_weight(module: nn.Module) -> torch.Tensor | None:
    """The first weight that a module of no known class holds itself."""
    held = module.parameters(recurse=False)
    return next((parameter for parameter in held if not is_lazy(parameter) and parameter.dim() >= 2), None)


def _image_sides(subject: GuessedModel) -> tuple[int | tuple[int, int], ...]:
    """The `image_size` that a model's configuration names, itself or in a part of it, and those that modules have."""
    found = [subject.settings.number("image_size"), subject.settings.number("image_size", near=("vision", "image"))]
    return tuple(dict.fromkeys((*(side for side in found if side is not None), *subject.sides)))


def shapes(kind: str, module: Any, declared: tuple[int | tuple[int, int], ...]) -> Iterator[tuple[int, ...]]:
    """What a layer of a kind can take, images of the sides that are declared first."""
    if kind.startswith("conv"):
        dims = len(module.kernel_size)
        sides: tuple[int | tuple[int, int], ...] = (32, 16, 64, 128, 1024) if dims == 1 else (16, 32, 64)
        if dims == 2:
            sides = tuple(dict.fromkeys((*declared, *_SIDES)))
        if kind.startswith("conv_transpose"):
            sides = (1, 4, 8, *sides)
        sizes = [(side,) * dims if isinstance(side, int) else side for side in sides] + (
            list(_CLIPS) if dims == 3 else []
        )
        yield from ((BATCH, module.in_channels, *size) for size in sizes)
    elif kind == "linear":
        yield (BATCH, module.in_features)
        yield (BATCH, LENGTH, module.in_features)
    elif kind == "embedding":
        yield (BATCH, LENGTH)
    elif hasattr(module, "input_size"):
        yield (BATCH, LENGTH, module.input_size)
        yield (BATCH, module.input_size)
    elif kind == "multi_head_attention":
        yield (BATCH, LENGTH, module.embed_dim)
    elif isinstance(module, nn.BatchNorm1d):
        yield (BATCH, module.num_features)
        yield (BATCH, module.num_features, LENGTH)


def _anonymous_shapes(weight: torch.Tensor) -> Iterator[tuple[int, ...]]:
    """Inputs that a weight could take, whatever it is used for."""
    if weight.dim() > 2:
        for channels in (weight.shape[1], weight.shape[0]):
            yield from ((BATCH, channels, *(side,) * (weight.dim() - 2)) for side in (32, 64, 224))
    for axis in (-1, -2):
        yield (BATCH, weight.shape[axis])
        yield (BATCH, LENGTH, weight.shape[axis])
