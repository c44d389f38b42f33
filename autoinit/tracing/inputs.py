"""Example inputs: what the caller gives, in any form, and guesses when nothing is given."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from autoinit.errors import ArgumentError
from autoinit.ops import REGISTRY

_SIDES = (224, 32, 28, 64, 256, 96, 128, 299, 512, 16, 8)
_CLIPS = ((16, 112, 112), (16, 224, 224), (8, 224, 224))
_BATCH = 2
_IMAGE = 4  # dimensions
_NESTED = 3  # configurations in configurations
_FEW = 3  # arguments: fewer than these and **kwargs, and forward passes all it gets on


@dataclass(frozen=True)
class Inputs:
    """Arguments of a forward, and how they were come by."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "given"

    def single(self) -> Inputs:
        """A batch of one, in place of a guessed batch."""
        if self.origin == "given":
            return self
        args = tuple(each[:1] if isinstance(each, torch.Tensor) and each.dim() else each for each in self.args)
        return replace(self, args=args)

    def on(self, device: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with their tensors on a device ("meta" or "cpu")."""
        return tuple(_moved(value, device) for value in self.args), {
            name: _moved(value, device) for name, value in self.kwargs.items()
        }


def _moved(value: Any, device: str) -> Any:
    if isinstance(value, torch.Tensor):
        if value.device.type == device:
            return value.detach()
        if value.device.type == "meta":
            return torch.zeros(value.shape, dtype=value.dtype, device=device)
        return value.detach().to(device)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_moved(item, device) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(item, device) for item in value)
    if isinstance(value, Mapping):
        return {key: _moved(item, device) for key, item in value.items()}
    return value


def given_inputs(example: Any, model: nn.Module) -> Inputs:
    """Arguments from what a caller passes: a tensor, a tuple of arguments, a dict of keyword arguments, or a shape.

    A shape is a sequence of ints; a tuple may hold shapes in place of tensors.

    Raises:
        ArgumentError: it is none of these.
    """
    dtype = _floating_dtype(model)
    if isinstance(example, torch.Tensor):
        return Inputs((example,))
    if _is_shape(example):
        return Inputs((_tensor(example, dtype),))
    if isinstance(example, Mapping):
        return Inputs((), {str(name): _filled(value, dtype) for name, value in example.items()})
    if isinstance(example, (list, tuple)):
        return Inputs(tuple(_filled(value, dtype) for value in example))
    raise ArgumentError(
        f"example_inputs is a {type(example).__name__}: pass a tensor, a tuple of arguments, a dict of keyword "
        f"arguments, or a shape such as (1, 3, 224, 224)"
    )


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in value)
    )


def _filled(value: Any, dtype: torch.dtype) -> Any:
    return _tensor(value, dtype) if _is_shape(value) else value


def _tensor(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.empty(tuple(shape), dtype=torch.float32).normal_(generator=generator).to(dtype)


def _floating_dtype(model: nn.Module) -> torch.dtype:
    found = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    return next(found, torch.float32)


def guessed_inputs(model: nn.Module) -> Iterator[Inputs]:
    """Inputs worth trying, most telling first: what the model itself declares, then what its first weights take."""
    dtype = _floating_dtype(model)
    arguments = _arguments(model)
    declared = _dummy_inputs(model, arguments)
    main = _main_argument(model, arguments, declared)
    yield from _configured(model, dtype)
    if main and declared:
        yield from itertools.islice(_with_images(model, dtype, main, declared), 1)
    yield from _dummies(declared)
    count = max(1, sum(each.kind in _POSITIONAL and each.default is each.empty for each in arguments.values()))
    for inputs in _from_weights(model, dtype):
        if main:
            yield Inputs((), {**declared, main: _batched(inputs.args[0], declared)}, inputs.origin)
        else:
            yield replace(inputs, args=inputs.args * count)  # two images, say, are guessed alike


def _with_images(model: nn.Module, dtype: torch.dtype, main: str, declared: Mapping[str, Any]) -> Iterator[Inputs]:
    """What is declared together with an image for the other tower, so that neither is left out."""
    for inputs in _from_weights(model, dtype):
        if inputs.args[0].dim() == _IMAGE:
            yield Inputs((), {**declared, main: _batched(inputs.args[0], declared)}, inputs.origin)


def _batched(tensor: torch.Tensor, declared: Mapping[str, Any]) -> torch.Tensor:
    """The tensor with as many samples as what the model declares."""
    batch = next(
        (len(each) for each in declared.values() if isinstance(each, torch.Tensor) and each.dim()), len(tensor)
    )
    return tensor[torch.arange(batch) % len(tensor)] if batch != len(tensor) else tensor


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _arguments(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """The arguments of forward; none if it does not say."""
    try:
        return inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return {}


def _configured(model: nn.Module, dtype: torch.dtype) -> Iterator[Inputs]:
    """`pretrained_cfg` and `default_cfg` hold `input_size`."""
    for name in ("pretrained_cfg", "default_cfg"):
        config = getattr(model, name, None)
        size = config.get("input_size") if isinstance(config, Mapping) else None
        if _is_shape(size):
            yield Inputs((_tensor((_BATCH, *(size or ())), dtype),), origin=f"guessed from {name}")


def _dummy_inputs(model: nn.Module, arguments: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Those of the model's `dummy_inputs` that forward takes."""
    try:
        dummy = getattr(model, "dummy_inputs", None)
    except Exception:  # noqa: BLE001 - a property of the model's own, which may fail in any way
        return {}
    if not isinstance(dummy, Mapping):
        return {}
    anything = any(each.kind is each.VAR_KEYWORD for each in arguments.values()) and len(arguments) < _FEW
    return {str(name): value for name, value in dummy.items() if anything or name in arguments}


def _dummies(declared: Mapping[str, Any]) -> Iterator[Inputs]:
    """As declared, and without masks, whose values a model may want to look at."""
    origin = "guessed from dummy_inputs"
    if declared:
        yield Inputs((), declared, origin)
        plain = {name: value for name, value in declared.items() if "mask" not in name}
        if plain and len(plain) < len(declared):
            yield Inputs((), plain, origin)


def _main_argument(
    model: nn.Module, arguments: Mapping[str, inspect.Parameter], declared: Mapping[str, Any]
) -> str | None:
    """The argument that what the first weight takes is for, where the model names one (`main_input_name`)."""
    names = (getattr(model, "main_input_name", None), "pixel_values", "input_values", "input_features")
    return next((name for name in names if isinstance(name, str) and name in arguments and name not in declared), None)


def _from_weights(model: nn.Module, dtype: torch.dtype) -> Iterator[Inputs]:
    """Shapes that the first weights of each kind can take."""
    kinds: dict[str, nn.Module] = {}
    sides = _image_sides(getattr(model, "config", None))
    for name, module in model.named_modules():
        spec = REGISTRY.of_module(module)
        if spec is not None and spec.name not in kinds and any(True for _ in module.parameters(recurse=False)):
            kinds[spec.name] = module
            for shape in _shapes(spec.name, module, sides):
                origin = f"guessed from {name or type(module).__name__}"
                if spec.name == "embedding":
                    yield Inputs((torch.zeros(shape, dtype=torch.int64),), origin=origin)
                else:
                    yield Inputs((_tensor(shape, dtype),), origin=origin)
        elif spec is None and "" not in kinds and (weight := _own_weight(module)) is not None:
            kinds[""] = module
            origin = f"guessed from {name or type(module).__name__}"
            yield from (Inputs((_tensor(shape, dtype),), origin=origin) for shape in _anonymous_shapes(weight))


def _own_weight(module: nn.Module) -> torch.Tensor | None:
    """The first weight that a module of no known class holds itself."""
    return next((parameter for parameter in module.parameters(recurse=False) if parameter.dim() >= 2), None)


def _image_sides(config: Any, depth: int = 0) -> tuple[int, ...]:
    """The `image_size` that a model's configuration names, itself or in a part of it."""
    size = getattr(config, "image_size", None)
    found = [size[0] if isinstance(size, (list, tuple)) and size else size]
    parts = vars(config) if hasattr(config, "__dict__") and depth < _NESTED else {}
    found += [side for name, part in parts.items() if name.endswith("config") for side in _image_sides(part, depth + 1)]
    return tuple(dict.fromkeys(side for side in found if isinstance(side, int) and side > 0))


def _shapes(kind: str, module: Any, declared: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    if kind.startswith("conv"):
        dims = len(module.kernel_size)
        sides: tuple[int, ...] = (32, 16, 64, 128, 1024) if dims == 1 else (16, 32, 64)
        if dims == 2:
            sides = tuple(dict.fromkeys((*declared, *_SIDES)))
        if kind.startswith("conv_transpose"):
            sides = (1, 4, 8, *sides)
        sizes = [(side,) * dims for side in sides] + (list(_CLIPS) if dims == 3 else [])
        yield from ((_BATCH, module.in_channels, *size) for size in sizes)
    elif kind == "linear":
        yield (_BATCH, module.in_features)
        yield (_BATCH, 8, module.in_features)
    elif kind == "embedding":
        yield (_BATCH, 8)
    elif hasattr(module, "input_size"):
        yield (_BATCH, 8, module.input_size)
        yield (_BATCH, module.input_size)
    elif kind == "multi_head_attention":
        yield (_BATCH, 8, module.embed_dim)


def _anonymous_shapes(weight: torch.Tensor) -> Iterator[tuple[int, ...]]:
    """Inputs that a weight could take, whatever it is used for."""
    if weight.dim() > 2:
        for channels in (weight.shape[1], weight.shape[0]):
            yield from ((_BATCH, channels, *(side,) * (weight.dim() - 2)) for side in (32, 64, 224))
    for axis in (-1, -2):
        yield (_BATCH, weight.shape[axis])
        yield (_BATCH, 8, weight.shape[axis])
