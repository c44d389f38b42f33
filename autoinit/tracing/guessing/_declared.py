"""What a model itself declares as its input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from autoinit.tracing.guessing._request import BATCH, numbers
from autoinit.tracing.guessing._subject import GuessedModel
from autoinit.tracing.inputs import Inputs, is_shape

_FEW = 3  # arguments: fewer than these and **kwargs, and forward passes all it gets on


def configured(subject: GuessedModel) -> Iterator[Inputs]:
    """`pretrained_cfg` and `default_cfg` hold `input_size`."""
    for name in ("pretrained_cfg", "default_cfg"):
        config = getattr(subject.model, name, None)
        size = config.get("input_size") if isinstance(config, Mapping) else None
        if is_shape(size):
            yield Inputs((numbers((BATCH, *(size or ())), subject.dtype),), origin=f"guessed from {name}")


def dummy_inputs(subject: GuessedModel) -> dict[str, Any]:
    """Those of the model's `dummy_inputs` that forward takes."""
    try:
        dummy = getattr(subject.model, "dummy_inputs", None)
    except Exception:  # noqa: BLE001 - a property of the model's own, which may fail in any way
        return {}
    if not isinstance(dummy, Mapping):
        return {}
    arguments = subject.arguments
    anything = any(each.kind is each.VAR_KEYWORD for each in arguments.values()) and len(arguments) < _FEW
    return {str(name): value for name, value in dummy.items() if anything or name in arguments}


def dummies(declared: Mapping[str, Any]) -> Iterator[Inputs]:
    """As declared, and without masks, whose values a model may want to look at."""
    origin = "guessed from dummy_inputs"
    if declared:
        yield Inputs((), declared, origin)
        plain = {name: value for name, value in declared.items() if "mask" not in name}
        if plain and len(plain) < len(declared):
            yield Inputs((), plain, origin)


def main_argument(subject: GuessedModel, declared: Mapping[str, Any]) -> str | None:
    """The argument that what the first weight takes is for, where the model names one (`main_input_name`)."""
    names = (getattr(subject.model, "main_input_name", None), "pixel_values", "input_values", "input_features")
    return next(
        (each for each in names if isinstance(each, str) and each in subject.arguments and each not in declared), None
    )


def batched(tensor: torch.Tensor, declared: Mapping[str, Any]) -> torch.Tensor:
    """The tensor with as many samples as what the model declares."""
    batch = next(
        (len(each) for each in declared.values() if isinstance(each, torch.Tensor) and each.dim()), len(tensor)
    )
    return tensor[torch.arange(batch) % len(tensor)] if batch != len(tensor) else tensor
