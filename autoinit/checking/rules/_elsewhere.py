"""What shows that weights which this forward leaves aside are used: by a method, a branch, a training loop."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from types import CodeType

import torch
from torch import nn

from autoinit.checking._subject import Subject
from autoinit.tensors.sharding import is_sharded

_BESIDE = frozenset({"critic", "critics", "discriminator", "ema", "momentum", "targ", "target", "targets", "teacher"})
"""Names of networks that training calls beside the model's forward: targets, their averages, critics."""
_SETTING_UP = ("init", "reset", "freeze")
"""Methods with these in their names mention a weight without computing with it."""


def used_elsewhere(subject: Subject, path: str) -> str:
    """What uses a module or parameter that this forward does not, as a clause; empty if nothing shows that.

    One of: a method that names it, forward itself among them (a branch not taken); a module beside it of which it is
    a copy (a target network); a name by which training calls such networks.
    """
    if not subject.view.has_modules:
        return ""
    method = next(_naming(subject, path), "")
    if method:
        return f"another branch of {method} uses it" if method.endswith(".forward") else f"{method} uses it"
    twin = _twin(subject, path)
    if twin:
        return f"it is a copy of {twin}, as a target network is"
    leaf = path.rpartition(".")[2]
    if _BESIDE & set(leaf.lower().rstrip("0123456789").split("_")):
        return f"a network called {leaf} is for the training loop to call"
    return ""


def _naming(subject: Subject, path: str) -> Iterator[str]:
    """Methods of the modules above that name all of the path from there on; a key of a ModuleDict needs no naming."""
    parts = path.split(".")
    for depth in range(len(parts) - 1, -1, -1):
        names = [
            name
            for at, name in enumerate(parts[depth:], depth)
            if not isinstance(subject.view.submodule(".".join(parts[:at])), nn.ModuleDict)
        ]
        owner = type(subject.view.submodule(".".join(parts[:depth])))
        if names and not owner.__module__.startswith("torch."):
            methods = _methods(owner)
            idle = _set_up(methods)
            yield from (
                f"{owner.__name__}.{name}" for name, used in methods.items() if name not in idle and used >= set(names)
            )


def _methods(owner: type[nn.Module]) -> Mapping[str, frozenset[str]]:
    """The names that each method of a class uses, down to torch's own classes."""
    found: dict[str, frozenset[str]] = {}
    for cls in owner.__mro__:
        if cls.__module__.startswith("torch.") or cls is object:
            continue
        for name, member in vars(cls).items():
            code = _code(member)
            if code is not None:
                found.setdefault(name, frozenset(_names(code)))
    return found


def _code(member: object) -> CodeType | None:
    """The code of a method, a property or what a decorator wrapped."""
    function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return code if isinstance(code, CodeType) else None


def _names(code: CodeType) -> Iterator[str]:
    """The attributes that code uses, those that it asks for by `getattr` too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
        elif isinstance(constant, str) and "getattr" in code.co_names:
            yield constant


def _set_up(methods: Mapping[str, frozenset[str]]) -> set[str]:
    """Methods that only set the model up: `__init__`, what it calls, and what is named like that."""
    found = {name for name in methods if any(word in name for word in _SETTING_UP)}
    waiting = ["__init__"]
    while waiting:
        called = (methods.get(waiting.pop(), frozenset()) & methods.keys()) - found - {"forward"}
        found |= called
        waiting += called
    return found


def _twin(subject: Subject, path: str) -> str:
    """A module beside this one that holds the same values under the same names; empty if there is none.

    Members of a list do not count: stacks of layers are built as copies of one.
    """
    parent, _, leaf = path.rpartition(".")
    if leaf.isdecimal():
        return ""
    beside = {name: child for name, child in subject.view.submodule(parent).named_children() if child is not None}
    mine = _weights(beside.get(leaf))
    for name, child in beside.items():
        theirs = _weights(child) if name != leaf else {}
        if mine and mine.keys() == theirs.keys() and all(_same(mine[key], theirs[key]) for key in mine):
            return f"{parent}.{name}" if parent else name
    return ""


def _weights(module: nn.Module | None) -> Mapping[str, torch.Tensor]:
    """What a module holds of two dimensions or more."""
    return {} if module is None else {name: each for name, each in module.named_parameters() if each.dim() > 1}


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two weights were drawn once: equal, and not by being constant."""
    if any(each.is_meta or is_sharded(each) for each in (one, other)):
        return False
    if one.shape != other.shape or one.numel() == 0 or one.device != other.device:
        return False
    return torch.equal(one, other) and bool((one != one.flatten()[0]).any())
