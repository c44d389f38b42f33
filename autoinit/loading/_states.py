"""Whether modules from a file hold what torch.nn's classes declare to hold: a pickle may put anything there."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Literal, Union

import torch
from torch import nn

from autoinit.errors import LoadError
from autoinit.tensors.elements import stored

_LONGEST = 60
_HOLDING = ("_parameters", "_buffers", "_modules")
"""What every module has."""


def check_states(model: nn.Module, place: object) -> None:
    """Refuse a model of which a module holds what its class cannot hold, or holds itself.

    Raises:
        LoadError: names the module, its attribute, what is there and what was expected.
    """
    for path, module in _walk(model, "", (), place):
        kind: Any = type(module)
        of = f"{path or 'the model'} ({type(module).__name__})"
        for name, declared in _declared(kind).items():
            if name in vars(module) and not fits(vars(module)[name], declared):
                raise LoadError(
                    f"{place}: {of} holds {_misfit(name, vars(module)[name], declared)}; save the model again"
                )
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None and overlaps(tensor):
                raise LoadError(f"{place}: {name} of {of} has more elements than memory; they overlap")
        for held in (module._parameters, module._buffers, module._modules):
            for name in held:
                if not name or "." in name or any("\ud800" <= each <= "\udfff" for each in name):
                    raise LoadError(
                        f"{place}: {of} holds something named {name!r}, expected a name of whole characters, no dot"
                    )


def _walk(module: nn.Module, path: str, above: tuple[nn.Module, ...], place: object) -> Iterator[tuple[str, nn.Module]]:
    """(path, module) of every module under each of its paths; what holds the others is looked at before they are."""
    missing = [each for each in _HOLDING if not isinstance(vars(module).get(each), dict)]
    if missing:
        raise LoadError(f"{place}: {path or 'the model'} ({type(module).__name__}) has no dictionary {missing[0]}")
    yield path, module
    for name, inner in module._modules.items():
        if inner is None:
            continue
        inside = f"{path}.{name}" if path else name
        if inner is module or inner in above:
            raise LoadError(f"{place}: {inside} holds the module that it is in; a model is a tree")
        yield from _walk(inner, inside, (*above, module), place)


@cache
def _declared(kind: Any) -> dict[str, Any]:
    """What torch's classes among the bases of a module's class say of their attributes."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("torch.nn."):
            try:
                found |= {name: hint for name, hint in typing.get_type_hints(base).items() if name != "forward"}
            except (NameError, TypeError, AttributeError):  # a name that is known to type checkers alone
                continue
    return found


def fits(value: object, declared: Any) -> bool:
    """Whether a value is of a declared type; True where the type says nothing that could be looked at."""
    kind, inner = typing.get_origin(declared), typing.get_args(declared)
    if declared is None or declared is type(None):
        return value is None
    if kind in (Union, types.UnionType):
        return any(fits(value, each) for each in inner)
    if kind is Literal:
        return value in inner
    if kind is Callable or declared is Callable or kind is typing.get_origin(Callable[..., Any]):
        return callable(value)
    if kind in (tuple, list):
        return _fits_sequence(value, inner)
    if kind in (dict, set):
        if not isinstance(value, Mapping if kind is dict else kind):
            return False
        pairs = value.items() if isinstance(value, Mapping) else ((each,) for each in typing.cast("set[Any]", value))
        return all(fits(each, of) for pair in pairs for each, of in zip(pair, inner, strict=False))
    if declared is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    if declared is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return not isinstance(declared, type) or isinstance(value, declared)


def overlaps(tensor: torch.Tensor) -> bool:
    """Whether a tensor has more elements than its storage, what `expand` repeats left out."""
    if tensor.is_meta or tensor.layout is not torch.strided:
        return False
    return stored(tensor).numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def _fits_sequence(value: object, inner: tuple[Any, ...]) -> bool:
    """Tuples and lists stand for each other, as torch.nn's constructors take them."""
    if not isinstance(value, tuple | list):
        return False
    if inner[1:] == (...,) or len(inner) == 1:
        return all(fits(each, inner[0]) for each in value)
    return len(value) == len(inner) and all(map(fits, value, inner))


def _misfit(name: str, value: object, declared: Any) -> str:
    """What is there and what was expected: of a dictionary, the entry that does not fit."""
    inner = typing.get_args(declared)
    if typing.get_origin(declared) is dict and isinstance(value, Mapping):
        for key, held in value.items():
            if not fits(key, inner[0]):
                return f"{name} with the key {_short(key)}, expected {_spelled(inner[0])}"
            if not fits(held, inner[1]):
                return _misfit(f"{name}[{_short(key)}]", held, inner[1])
    return f"{name} = {_short(value)}, expected {_spelled(declared)}"


def _spelled(declared: Any) -> str:
    if isinstance(declared, type) and not typing.get_args(declared):
        return declared.__name__
    if typing.get_origin(declared) in (Union, types.UnionType):
        return " or ".join(_spelled(each) for each in typing.get_args(declared))
    return str(declared)


def _short(value: object) -> str:
    try:
        text = repr(value) if isinstance(value, str | int | float | bool | type(None)) else f"a {type(value).__name__}"
    except ValueError:  # an integer of more digits than Python writes
        text = "a number without end"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
