"""Example inputs: what the caller gives, in any form."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from autoinit.errors import ArgumentError


@dataclass(frozen=True)
class Inputs:
    """Arguments of a forward, and how they were come by.

    Attributes:
        repaired: other arguments worth trying after a run with these has failed, from what its exception says.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "given"
    repaired: Callable[[BaseException], Inputs | None] | None = field(default=None, repr=False, compare=False)

    def names(self, arguments: Sequence[str]) -> frozenset[str]:
        """Names of the arguments that are given, where forward's are these, in order."""
        named = [*zip(arguments, self.args, strict=False), *self.kwargs.items()]
        return frozenset(name for name, value in named if value is not None)

    def after(self, error: BaseException) -> Inputs | None:
        """What to try next, after a run with these arguments has failed so; None if that says nothing."""
        return self.repaired(error) if self.repaired is not None else None

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
    if is_shape(example):
        return Inputs((floats(example, dtype),))
    if isinstance(example, Mapping):
        return Inputs((), {str(name): _filled(value, dtype) for name, value in example.items()})
    if isinstance(example, (list, tuple)):
        return Inputs(tuple(_filled(value, dtype) for value in example))
    raise ArgumentError(
        f"example_inputs is a {type(example).__name__}: pass a tensor, a tuple of arguments, a dict of keyword "
        f"arguments, or a shape such as (1, 3, 224, 224)"
    )


def is_shape(value: Any) -> bool:
    """Whether a value is a sequence of sizes."""
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in value)
    )


def _filled(value: Any, dtype: torch.dtype) -> Any:
    return floats(value, dtype) if is_shape(value) else value


def floats(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Gaussian numbers, the same ones each time.

    Raises:
        ArgumentError: there is no memory for them.
    """
    generator = torch.Generator().manual_seed(0)
    try:
        return torch.empty(tuple(shape), dtype=torch.float32).normal_(generator=generator).to(dtype)
    except (MemoryError, RuntimeError) as error:
        size = 4 * math.prod(shape)
        raise ArgumentError(
            f"an input of shape {tuple(shape)} takes {size:,} bytes, for which there is no memory: give a smaller one"
        ) from error


def _floating_dtype(model: nn.Module) -> torch.dtype:
    found = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    return next(found, torch.float32)


def arguments_of(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """The arguments of a model's forward; none if it does not say."""
    try:
        return inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return {}
