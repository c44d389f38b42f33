"""Deep copies of what modules hold, in which all that leads to a copied module leads to its copy.

`copy.deepcopy` takes functions as they are, so that a closure over a layer, a partial or a bound method would go on
using the original. Here they are made anew. What cannot be copied is shared, and noted.
"""

from __future__ import annotations

import copy
import copyreg
import dis
import functools
import io
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.fx
from torch import nn

from autoinit.errors import TraceError
from autoinit.tracing._holding import ATOMIC, global_names, held_by, is_installed, is_torchs, leads_to_module
from autoinit.tracing._states import hides_state, slots_of

_LOCKS: dict[type, Callable[[], Any]] = {type(each()): each for each in (threading.Lock, threading.RLock)}
_SETS_CELL = dis.opmap["STORE_DEREF"]


class Copier:
    """Copies values, each once.

    Attributes:
        module: copies a module that has no copy yet.
        convert: copies a tensor.
        memo: copies by the id of the original, as `copy.deepcopy` keeps them.
        tensors: those that were copied.
        kinds: the classes of objects that were met.
        shared: what could not be copied, and is used as it is.
        hidden: classes of those among them whose state does not show, so that no change to it can be undone.
    """

    def __init__(
        self, module: Callable[[nn.Module], nn.Module], convert: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        self.module, self.convert = module, convert
        self.memo: dict[int, Any] = {}
        self.shared: list[Any] = []
        self.hidden: dict[type, None] = {}
        self.kinds: set[type] = set()
        self.tensors: list[torch.Tensor] = []
        self._originals: list[Any] = []  # kept, so that no id is given to another object
        self._namespaces: dict[int, dict[str, Any]] = {}

    def remember(self, value: Any, made: Any) -> Any:
        """From now on `made` is the copy of `value`."""
        self._originals.append(value)
        self.memo[id(value)] = made
        return made

    def __call__(self, value: Any) -> Any:
        """The copy of a value."""
        kind = type(value)
        if issubclass(kind, ATOMIC):
            return value
        if id(value) in self.memo:
            return self.memo[id(value)]
        if issubclass(kind, torch.Tensor):
            self.tensors.append(value)
            return self.remember(value, self.convert(value))
        if issubclass(kind, nn.Module):
            return self.module(value)
        if kind in _LOCKS:
            return self.remember(value, _LOCKS[kind]())
        known = _WAYS.get(kind)
        return known(self, value) if known is not None else self._object(value)

    def method(self, function: types.FunctionType) -> types.FunctionType:
        """A class's function; itself unless it, by a closure, a global name or a default, leads to a module."""
        if id(function) in self.memo or is_torchs(function) or not any(map(leads_to_module, held_by(function))):
            return function
        made: types.FunctionType = self(function)
        return made

    def _function(self, function: types.FunctionType) -> Any:
        """The function over copies of what it closes over; itself, where all of that stays as it is."""
        if is_torchs(function):
            return function
        old = function.__closure__ or ()
        new = tuple(self.memo.get(id(cell)) or self.remember(cell, types.CellType()) for cell in old)
        namespace = self._namespaces.setdefault(id(function.__globals__), dict(function.__globals__))
        made = types.FunctionType(function.__code__, namespace, function.__name__, None, new or None)
        self.remember(function, made)
        changed = any([self._fill(before, after) for before, after in zip(old, new, strict=True)])  # noqa: C419 - all
        changed |= _SETS_CELL in function.__code__.co_code[::2]
        changed |= self._rename(function, namespace)
        made.__defaults__ = self(function.__defaults__)
        made.__kwdefaults__ = self(function.__kwdefaults__)
        made.__dict__.update((key, self(each)) for key, each in function.__dict__.items())
        changed |= made.__defaults__ is not function.__defaults__ or bool(function.__kwdefaults__)
        changed |= any(made.__dict__[key] is not each for key, each in function.__dict__.items())
        if not changed:
            return self.remember(function, function)
        for name in ("__annotations__", "__doc__", "__qualname__", "__module__"):
            setattr(made, name, getattr(function, name))
        return made

    def _fill(self, before: types.CellType, after: types.CellType) -> bool:
        """Fill a closure's cell; returns whether it holds something else than the original's."""
        try:
            held = before.cell_contents
        except ValueError:  # it is empty
            return False
        after.cell_contents = self(held)
        return after.cell_contents is not held

    def _rename(self, function: types.FunctionType, namespace: dict[str, Any]) -> bool:
        """Let global names that lead to modules stand for their copies; returns whether any does."""
        changed = False
        for name in global_names(function):
            held = function.__globals__.get(name)
            if isinstance(held, types.FunctionType) and is_installed(held.__code__):
                continue
            if isinstance(held, types.FunctionType) or leads_to_module(held):
                namespace[name] = self(held)
                changed |= namespace[name] is not held
        return changed

    def _method(self, method: types.MethodType) -> Any:
        function, owner = self(method.__func__), self(method.__self__)
        same = function is method.__func__ and owner is method.__self__
        return method if same else self.remember(method, types.MethodType(function, owner))

    def _builtin(self, function: types.BuiltinFunctionType) -> Any:
        """A method of a tensor or a container (`values.append`), of the copy."""
        owner = self(function.__self__)
        return function if owner is function.__self__ else self.remember(function, getattr(owner, function.__name__))

    def _partial(self, partial: functools.partial[Any]) -> Any:
        parts = (partial.func, partial.args, tuple(partial.keywords.items()), tuple(vars(partial).items()))
        function, args, keywords, attributes = copied = self(parts)
        if copied is parts:
            return partial
        made = type(partial)(function, *args, **dict(keywords))
        made.__dict__.update(dict(attributes))
        return self.remember(partial, made)

    def _cached(self, cached: Any) -> Any:
        """A function under `functools.lru_cache`, with a cache of its own."""
        again = functools.lru_cache(**cached.cache_parameters())
        return self.remember(cached, again(self(cached.__wrapped__)))

    def _tuple(self, value: tuple[Any, ...]) -> Any:
        made = tuple(self(item) for item in value)
        return value if all(old is new for old, new in zip(value, made, strict=True)) else self.remember(value, made)

    def _reference(self, reference: weakref.ref[Any]) -> Any:
        held = reference()
        copied = self(held)
        return reference if copied is held else self.remember(reference, weakref.ref(copied))

    def _proxy(self, proxy: Any) -> Any:
        try:
            held = proxy.__repr__.__self__
        except ReferenceError:  # it is dead
            return proxy
        copied = self(held)
        return proxy if copied is held else self.remember(proxy, weakref.proxy(copied))

    def _generator(self, value: torch.Generator) -> Any:
        return self.remember(value, value.clone_state())

    def _run_once(self, value: Any) -> Any:
        return self.remember(value, _RunsOnce(value))

    def _list(self, value: list[Any]) -> Any:
        made: list[Any] = self.remember(value, [])
        made.extend(self(item) for item in value)
        return made

    def _dict(self, value: dict[Any, Any]) -> Any:
        made: dict[Any, Any] = self.remember(value, {})
        made.update((self(key), self(item)) for key, item in value.items())
        return made

    def _read_only(self, value: types.MappingProxyType[Any, Any]) -> Any:
        return self.remember(value, types.MappingProxyType(self(dict(value))))

    def _set(self, value: set[Any]) -> Any:
        return self.remember(value, {self(item) for item in value})

    def _stream(self, value: Any) -> Any:
        """Files that a forward writes to (a log) get a copy that is thrown away; one that it reads is shared."""
        if value.closed or not value.writable():
            self.shared.append(value)
            if not value.closed and not value.seekable():
                self.hidden[type(value)] = None
            return self.remember(value, value)
        return self.remember(value, io.StringIO() if isinstance(value, io.TextIOBase) else io.BytesIO())

    def _object(self, value: Any) -> Any:
        """An object as its class has it copied or pickled, its attributes and items copied here."""
        kind = type(value)
        if kind is object:  # known by its identity alone
            return value
        self.kinds.add(kind)
        ways = (self._as_it_says,) if hasattr(kind, "__deepcopy__") else (self._reduced, self._attributes_alone)
        refused = False
        for way in ways:
            try:
                made = way(value)
            except Exception:  # noqa: BLE001 - any class may refuse to be copied, in its own way
                self.memo.pop(id(value), None)
                refused |= way is ways[0]
                continue
            if made is not value:
                return self.remember(value, made)
        self.shared.append(value)
        if refused and hides_state(value):
            self.hidden[kind] = None
        return self.remember(value, value)

    def _as_it_says(self, value: Any) -> Any:
        with _Converting(self):
            return copy.deepcopy(value, self.memo)

    def _reduced(self, value: Any) -> Any:
        """By the protocol of pickling: what makes it, from what, its state, its items."""
        reduce = copyreg.dispatch_table.get(type(value))
        parts = reduce(value) if reduce is not None else value.__reduce_ex__(4)
        if isinstance(parts, str):  # the name of what there is only one of
            return value
        some: tuple[Any, ...] = (*parts, *(None,) * (6 - len(parts)))
        make, args, state, items, pairs, setter = some
        made = self.remember(value, make(*(self(each) for each in args)))
        if state is not None:
            self._set_state(made, self(state), self(setter))
        for item in items or ():
            made.append(self(item))
        for key, item in pairs or ():
            made[self(key)] = self(item)
        return made

    def _set_state(self, made: Any, state: Any, setter: Any) -> None:
        if setter is not None:
            setter(made, state)
        elif hasattr(made, "__setstate__"):
            made.__setstate__(state)
        else:
            attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
            if attributes:
                made.__dict__.update(attributes)
            for name, held in (slots or {}).items():
                object.__setattr__(made, name, held)

    def _attributes_alone(self, value: Any) -> Any:
        """Where its class refuses: a new object with its attributes."""
        if not hasattr(value, "__dict__") or type(value).__module__ == "builtins":
            return value
        made = self.remember(value, object.__new__(type(value)))
        made.__dict__.update((name, self(each)) for name, each in vars(value).items())
        for slot, held in slots_of(value):
            slot.__set__(made, self(held))
        return made


_WAYS: dict[type, Callable[[Copier, Any], Any]] = {
    types.FunctionType: Copier._function,
    types.MethodType: Copier._method,
    types.BuiltinFunctionType: Copier._builtin,
    types.MethodWrapperType: Copier._builtin,
    functools.partial: Copier._partial,
    functools._lru_cache_wrapper: Copier._cached,
    tuple: Copier._tuple,
    list: Copier._list,
    set: Copier._set,
    io.TextIOWrapper: Copier._stream,
    io.BufferedWriter: Copier._stream,
    io.BufferedRandom: Copier._stream,
    io.FileIO: Copier._stream,
    dict: Copier._dict,
    types.MappingProxyType: Copier._read_only,
    weakref.ref: Copier._reference,
    weakref.ProxyType: Copier._proxy,
    weakref.CallableProxyType: Copier._proxy,
    torch.Generator: Copier._generator,
    types.GeneratorType: Copier._run_once,
    types.CoroutineType: Copier._run_once,
    types.AsyncGeneratorType: Copier._run_once,
}


class _RunsOnce:
    """In place of a generator, which runs once: the model would miss what a reading took from it."""

    def __init__(self, generator: Any) -> None:
        self._name = getattr(generator, "__qualname__", type(generator).__name__)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        raise TraceError(
            f"forward takes values from the generator {self._name!r}, which cannot be copied: the model would miss "
            f"them. Hold a list, or a function that makes the generator, in its place"
        )

    send = throw = __next__


class _Converting(torch.overrides.TorchFunctionMode):
    """Tensors met by `copy.deepcopy` are copied as others are."""

    def __init__(self, copier: Copier) -> None:
        super().__init__()
        self.copier = copier

    def __torch_function__(self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__deepcopy__:
            return self.copier(args[0])
        return func(*args, **(kwargs or {}))
