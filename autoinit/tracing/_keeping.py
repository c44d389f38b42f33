"""What a shadow shares with the original, kept while the shadow runs: classes, and objects that cannot be copied.

All of it is looked at before and afterwards, and what has changed is put back in place. Of tensors, which may be large,
some are only looked at: a change to one of them is an error.
"""

from __future__ import annotations

import dis
import functools
import io
import itertools
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from autoinit.errors import TraceError
from autoinit.models.walking import modules_once
from autoinit.tracing._holding import ATOMIC, contents, global_names, is_installed
from autoinit.tracing._states import slots_of
from autoinit.tracing.shadow import Shadow

_MOST_BYTES = 64 << 20
"""Of tensors that are copied beforehand."""
_SMALL = 1 << 16
"""Elements of a model's buffer that is copied, too."""
_MOST_OBJECTS = 20_000
_LEFT = (*ATOMIC, types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType, classmethod, staticmethod)
_STORES = frozenset({dis.opmap["STORE_GLOBAL"], dis.opmap["DELETE_GLOBAL"]})
_FIXED = ("torch", "builtins", "typing", "abc", "enum", "collections")
"""Packages whose classes no forward writes to."""
_ABSENT = object()


class Kept:
    """What was found, and how to put it back. changed: tensors that cannot be put back, by name."""

    def __init__(self, shadow: Shadow) -> None:
        self._restores: list[Callable[[], None]] = []
        self._seen: dict[int, Any] = {}
        self._bytes = 0
        self._shadow = shadow
        self._changed: list[str] = []
        kinds = {type(module) for module in modules_once(shadow.module)} | shadow.copies.kinds
        for kind in dict.fromkeys(itertools.chain.from_iterable(each.__mro__ for each in kinds)):
            if kind.__module__.partition(".")[0] not in _FIXED:
                self._class(kind)
        self._look(shadow.copies.shared)
        for tensor in shadow.copies.tensors:
            if tensor.numel() <= _SMALL and not isinstance(tensor, torch.nn.Parameter):
                self._tensor(tensor)
            self._version(tensor)

    def restore(self) -> None:
        """Put back what has changed.

        Raises:
            TraceError: a tensor has changed of which there is no copy.
        """
        for restore in self._restores:
            restore()
        if self._changed:
            raise TraceError(
                f"forward, run on a copy of the model, has written to {', '.join(self._changed)} of the model itself, "
                f"which it reaches past its modules: let it use its own modules and attributes"
            )

    def _look(self, values: Iterable[Any]) -> None:
        waiting = list(values)
        while waiting and len(self._seen) < _MOST_OBJECTS:
            value = waiting.pop()
            if not isinstance(value, _LEFT) and id(value) not in self._seen:
                self._seen[id(value)] = value
                waiting += self._keep(value)

    def _keep(self, value: Any) -> Iterator[Any]:
        """Keep what a value itself is made of, and give what it holds."""
        if isinstance(value, torch.Tensor):
            self._tensor(value)
        elif isinstance(value, functools._lru_cache_wrapper):
            self._cache(value)
        elif isinstance(value, io.IOBase) and not value.closed and value.seekable():
            self._position(value)
        else:
            yield from self._items(value)
            attributes = getattr(value, "__dict__", None)
            if isinstance(attributes, dict):
                self._dict(attributes)
                yield from attributes.values()
            for slot, held in slots_of(value):
                self._slot(value, slot, held)
                yield held

    def _position(self, file: io.IOBase) -> None:
        before = file.tell()

        def restore() -> None:
            file.seek(before)

        self._restores.append(restore)

    def _items(self, value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            self._dict(value)
            yield from dict.values(value)
        for base, fill in _FILLED:
            if isinstance(value, base):
                self._sequence(value, base, fill)
                yield from base.__iter__(value)
        if isinstance(value, tuple):
            yield from tuple.__iter__(value)

    def _dict(self, value: dict[Any, Any]) -> None:
        before = list(dict.items(value))

        def restore() -> None:
            now = list(dict.items(value))
            same = len(now) == len(before)
            if not same or any(a is not c or b is not d for (a, b), (c, d) in zip(now, before, strict=True)):
                dict.clear(value)
                dict.update(value, before)

        self._restores.append(restore)

    def _sequence(self, value: Any, base: Any, fill: Callable[[Any, list[Any]], None]) -> None:
        before = list(base.__iter__(value))

        def restore() -> None:
            now = list(base.__iter__(value))
            if len(now) != len(before) or any(a is not b for a, b in zip(now, before, strict=True)):
                base.clear(value)
                fill(value, before)

        self._restores.append(restore)

    def _slot(self, value: Any, slot: Any, held: Any) -> None:
        def restore() -> None:
            if slot.__get__(value) is not held:
                slot.__set__(value, held)

        self._restores.append(restore)

    def _class(self, kind: type) -> None:
        """A class's attributes, what they hold, and what the globals hold that its methods use."""
        before = {name: held for name, held in vars(kind).items() if not name.startswith(("__", "_abc_"))}

        def restore() -> None:
            now = {name: held for name, held in vars(kind).items() if not name.startswith(("__", "_abc_"))}
            for name in now.keys() | before.keys():
                if name not in before:
                    type.__delattr__(kind, name)
                elif now.get(name, _ABSENT) is not before[name]:
                    type.__setattr__(kind, name, before[name])

        self._restores.append(restore)
        self._look(before.values())
        for function in _functions(kind):
            self._look(held for held in contents(function) if _may_be_cache(held))
            self._look((function.__defaults__, function.__kwdefaults__))
        for namespace, names, stored in _used_globals(kind):
            self._look(namespace[name] for name in names if name in namespace)
            for name in stored:
                self._global(namespace, name)

    def _global(self, namespace: dict[str, Any], name: str) -> None:
        before = namespace.get(name, _ABSENT)

        def restore() -> None:
            if before is _ABSENT:
                namespace.pop(name, None)
            else:
                namespace[name] = before

        self._restores.append(restore)

    def _cache(self, cached: Any) -> None:
        """What a function's cache got from a shadow, the next caller must not get: tensors on meta, say."""
        before = cached.cache_info()

        def restore() -> None:
            if cached.cache_info().misses != before.misses:
                cached.cache_clear()

        self._restores.append(restore)

    def _tensor(self, tensor: torch.Tensor) -> None:
        size = tensor.numel() * tensor.element_size()
        if tensor.is_meta or tensor.layout is not torch.strided or self._bytes + size > _MOST_BYTES:
            self._version(tensor)
            return
        self._bytes += size
        copied, grad = tensor.detach().clone(), tensor.grad if tensor.is_leaf else None

        def restore() -> None:
            with torch.no_grad():
                if tensor.layout is not torch.strided or not torch.equal(tensor, copied):
                    tensor.copy_(copied)
            if tensor.is_leaf and tensor.grad is not grad:
                tensor.grad = grad

        self._restores.append(restore)

    def _version(self, tensor: torch.Tensor) -> None:
        if tensor.is_inference():
            return
        before, grad = tensor._version, tensor.grad if tensor.is_leaf else None

        def restore() -> None:
            if tensor.is_leaf and tensor.grad is not grad:
                tensor.grad = grad
            if tensor._version != before:
                self._changed.append(self._name(tensor))

        self._restores.insert(0, restore)  # before what is put back counts as another version

    def _name(self, tensor: torch.Tensor) -> str:
        copied, module = self._shadow.copies.memo.get(id(tensor)), self._shadow.module
        named = (*module.named_parameters(), *module.named_buffers())
        return next((name for name, each in named if each is copied), f"a tensor of shape {tuple(tensor.shape)}")


_FILLED: tuple[tuple[Any, Callable[[Any, list[Any]], None]], ...] = (
    (list, list.extend),
    (set, set.update),
    (deque, deque.extend),
)

_Globals = list[tuple[dict[str, Any], list[str], list[str]]]
_known: weakref.WeakKeyDictionary[type, _Globals] = weakref.WeakKeyDictionary()


def _used_globals(kind: type) -> _Globals:
    """For each method: its globals, the names of those that may hold something, and of those that it may set.

    Of an installed package's only the functions with caches count.
    """
    if kind not in _known:
        _known[kind] = [(each.__globals__, *_names(each)) for each in _functions(kind)]
    return _known[kind]


def _functions(kind: type) -> Iterator[types.FunctionType]:
    return (each for each in vars(kind).values() if isinstance(each, types.FunctionType))


def _names(function: types.FunctionType) -> tuple[list[str], list[str]]:
    held = {name: function.__globals__.get(name) for name in global_names(function)}
    caches = [name for name, each in held.items() if isinstance(each, functools._lru_cache_wrapper)]
    if is_installed(function.__code__):
        return caches, []
    stored = list(held) if _stores_globals(function.__code__) else []
    return [name for name, each in held.items() if _may_be_cache(each)], stored


def _may_be_cache(value: Any) -> bool:
    """A list outside of the model and its classes may as well be what a user notes forwards in."""
    return not isinstance(value, (*_LEFT, list))


def _stores_globals(code: types.CodeType) -> bool:
    return not _STORES.isdisjoint(code.co_code[::2]) or any(
        _stores_globals(each) for each in code.co_consts if isinstance(each, types.CodeType)
    )
