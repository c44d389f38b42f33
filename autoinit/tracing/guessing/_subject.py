"""The model that inputs are guessed for, and what can be asked of it."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from autoinit.ops import REGISTRY
from autoinit.tracing.guessing._settings import Settings
from autoinit.tracing.inputs import arguments_of

_SIDES = ("image_size", "img_size", "input_resolution", "image_resolution", "input_size", "sample_size")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class GuessedModel:
    """A model, the arguments of its forward, its configuration, and its weight layers in order.

    Attributes:
        layers: (path, kind, module) of the modules with weights that the table of operations knows.
    """

    model: nn.Module
    arguments: Mapping[str, inspect.Parameter]
    settings: Settings
    layers: Sequence[tuple[str, str, Any]]
    dtype: torch.dtype

    @classmethod
    def of(cls, model: nn.Module) -> GuessedModel:
        """Ask the model."""
        dtype = next((each.dtype for each in model.parameters() if each.is_floating_point()), torch.float32)
        return cls(model, arguments_of(model), Settings(model), _layers(model), dtype)

    @property
    def required(self) -> tuple[str, ...]:
        """The arguments that have no default, by name."""
        named = (*_POSITIONAL, inspect.Parameter.KEYWORD_ONLY)
        return tuple(n for n, each in self.arguments.items() if each.kind in named and each.default is each.empty)

    @property
    def optional(self) -> tuple[str, ...]:
        """The arguments that may be left out and then are None: some bring in a part of the model."""
        named = (*_POSITIONAL, inspect.Parameter.KEYWORD_ONLY)
        return tuple(n for n, each in self.arguments.items() if each.kind in named and each.default is None)

    @property
    def positional(self) -> tuple[str, ...]:
        """Those of them that are passed by their place."""
        return tuple(name for name in self.required if self.arguments[name].kind in _POSITIONAL)

    @cached_property
    def sides(self) -> tuple[tuple[int, int], ...]:
        """Heights and widths of images that modules declare as attributes, the outermost first."""
        found = []
        for module in self.model.modules():
            if REGISTRY.of_module(module) is None:
                found += [_pair(getattr(module, name, None)) for name in _SIDES]
        return tuple(dict.fromkeys(each for each in found if each is not None))

    def first(self, kinds: Collection[str], near: Sequence[str] = ()) -> Any:
        """The first layer of one of these kinds: one whose path has one of the words, else any; None if none is."""
        of_kind = [(path, module) for path, kind, module in self.layers if kind in kinds]
        close = [module for path, module in of_kind if any(word in path for word in near)]
        return next(iter(close), of_kind[0][1] if of_kind else None)

    def first_kind(self, kinds: Collection[str], near: Sequence[str] = ()) -> str | None:
        """The kind of the first layer of one of these kinds, as `first`."""
        of_kind = [(path, kind) for path, kind, _ in self.layers if kind in kinds]
        close = [kind for path, kind in of_kind if any(word in path for word in near)]
        return next(iter(close), of_kind[0][1] if of_kind else None)


def _pair(size: Any) -> tuple[int, int] | None:
    pair = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, (list, tuple)) else ()
    sound = len(pair) == 2 and all(isinstance(side, int) and not isinstance(side, bool) and side > 1 for side in pair)
    return (pair[0], pair[1]) if sound else None


def _layers(model: nn.Module) -> list[tuple[str, str, nn.Module]]:
    found = []
    for path, module in model.named_modules():
        spec = REGISTRY.of_module(module)
        if spec is not None and any(True for _ in module.parameters(recurse=False)):
            found.append((path, spec.name, module))
    return found
