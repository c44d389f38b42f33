"""A stand-in for the model that tracing may run and break: the original is only read.

The shadow shares classes and code with the original but no tensors and no mutable state; its tensors live on the meta
device, or are copies. Wrappers (see `models.wrappers`) are left out, so that names are the
user's. User hooks are left out too, since they may write to the outside.
"""

from __future__ import annotations

import copy
import itertools
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.fx
import torch.nn.modules.module as torch_modules
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.overrides import TorchFunctionMode

from autoinit.errors import LazyModuleError, TraceError
from autoinit.models import inner_module
from autoinit.ops import REGISTRY, Role

_ATOMIC = (
    type(None), bool, int, float, complex, str, bytes, type, range, property, types.FunctionType, types.ModuleType,
    types.BuiltinFunctionType, torch.dtype, torch.device, torch.Size, torch.fx.Graph,
)  # fmt: skip
_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called", "_state_dict_hooks", "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip
_GLOBAL_HOOKS = (
    "_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks", "_global_backward_pre_hooks",
)  # fmt: skip
_REPARAMETRISATIONS = ("torch.nn.utils.weight_norm", "torch.nn.utils.spectral_norm")


@dataclass(frozen=True)
class Shadow:
    """The stand-in, and what a reader should know of how it differs from the original."""

    module: nn.Module
    notes: tuple[str, ...]


def make_shadow(model: nn.Module, device: str) -> Shadow:
    """Copy the model's structure with its tensors on `device` ("meta": no storage; "cpu": copies).

    All modules are put in training mode, except norms, which are not needed to train a batch of one.

    Raises:
        LazyModuleError: the model has parameters without a shape.
        TraceError: the model holds TorchScript modules, which have no Python to trace.
    """
    model = inner_module(model)
    modules = list(model.modules())
    _refuse(modules)
    convert = _converter(device)
    memo: dict[int, Any] = {}
    for module in modules:
        if inner_module(module) is module:
            memo[id(module)] = object.__new__(type(module))
    for module in modules:
        memo[id(module)] = memo[id(inner_module(module))]
    skipped = 0
    with torch.no_grad():
        for module in modules:
            for tensor in itertools.chain(module._parameters.values(), module._buffers.values()):
                if tensor is not None and id(tensor) not in memo:
                    memo[id(tensor)] = convert(tensor)
        with _ConvertCopies(convert):
            for module in modules:
                if inner_module(module) is module:
                    skipped += _copy_attributes(module, memo[id(module)], memo, convert)
    notes = (f"{skipped} user hook{'s' if skipped > 1 else ''} not run while tracing",) if skipped else ()
    return Shadow(memo[id(model)], notes)


@contextmanager
def no_global_hooks() -> Iterator[None]:
    """Leave out the hooks that a user has registered for all modules, as those of single modules are."""
    held = {name: getattr(torch_modules, name) for name in _GLOBAL_HOOKS}
    try:
        for name in _GLOBAL_HOOKS:
            setattr(torch_modules, name, OrderedDict())
        yield
    finally:
        for name, hooks in held.items():
            setattr(torch_modules, name, hooks)


def _refuse(modules: list[nn.Module]) -> None:
    lazy = [
        f"{type(module).__name__}.{name}"
        for module in modules
        for name, parameter in itertools.chain(module._parameters.items(), module._buffers.items())
        if isinstance(parameter, (UninitializedParameter, UninitializedBuffer))
    ]
    if lazy:
        raise LazyModuleError(
            f"{len(lazy)} lazy parameters have no shape yet ({', '.join(lazy[:3])}{', ...' if len(lazy) > 3 else ''}): "
            f"run one forward first, `model(example_input)`, then call autoinit"
        )
    if any(isinstance(module, torch.jit.ScriptModule) for module in modules):
        raise TraceError(
            "the model holds TorchScript modules, which have no Python to trace: use the model that was scripted"
        )


def _converter(device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        plain = tensor.detach()
        if device == "meta":
            made = torch.empty_like(plain, device="meta")
        elif plain.device.type == "meta":
            made = torch.zeros(plain.shape, dtype=plain.dtype)
            if made.is_floating_point():
                made.fill_(1.0)  # as a buffer, it may be a variance
            if made.is_floating_point() and isinstance(tensor, nn.Parameter):
                made.normal_(0, 0.02, generator=generator)
        else:
            made = plain.to("cpu", copy=True)
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(made, requires_grad=tensor.requires_grad)
        return made

    return convert


class _ConvertCopies(TorchFunctionMode):
    """Tensors met inside attributes are converted as parameters are."""

    def __init__(self, convert: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.convert = convert

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.__deepcopy__:
            tensor, memo = args
            if id(tensor) not in memo:
                memo[id(tensor)] = self.convert(tensor)
            return memo[id(tensor)]
        return func(*args, **(kwargs or {}))


def _copy_attributes(
    module: nn.Module, blank: nn.Module, memo: dict[int, Any], convert: Callable[[torch.Tensor], torch.Tensor]
) -> int:
    """Fill the blank module; returns the number of user hooks left out."""
    skipped = 0
    target = blank.__dict__
    for name, value in module.__dict__.items():
        if name in ("_parameters", "_buffers", "_modules"):
            target[name] = {key: None if held is None else memo[id(held)] for key, held in value.items()}
        elif name in _HOOKS:
            kept = OrderedDict(
                (key, copy.deepcopy(hook, memo))
                for key, hook in value.items()
                if getattr(type(hook), "__module__", "") in _REPARAMETRISATIONS or _is_its_own(hook, module)
            )
            skipped += (len(value) - len(kept)) if name in _HOOKS[:2] else 0
            target[name] = kept
        elif isinstance(value, _ATOMIC):
            target[name] = value
        elif id(value) in memo:
            target[name] = memo[id(value)]
        elif isinstance(value, torch.Tensor):
            target[name] = memo[id(value)] = convert(value)
        else:
            target[name] = _copied(value, memo)
    spec = REGISTRY.of_module(module)
    target["training"] = not (spec is not None and spec.role is Role.NORM)
    return skipped


def _is_its_own(hook: Any, module: nn.Module) -> bool:
    """Whether a hook is part of the module: a function of the installed package that its class is of.

    Some libraries collect what forward returns by such hooks. A user's own are left out, as are other packages'.
    """
    code, package = getattr(hook, "__code__", None), type(module).__module__.partition(".")[0]
    home = str(getattr(hook, "__module__", "")).partition(".")[0]
    return (
        code is not None
        and home == package
        and bool({"site-packages", "dist-packages"} & {*Path(code.co_filename).parts})
    )


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """A deep copy, made item by item so that what cannot be copied (a lock, a handle) is shared alone."""
    if isinstance(value, _ATOMIC):
        return value
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, torch.Generator):
        memo[id(value)] = value.clone_state()
        return memo[id(value)]
    if type(value) in (dict, OrderedDict):
        made = memo[id(value)] = type(value)()
        made.update((key, _copied(item, memo)) for key, item in value.items())
        return made
    if type(value) in (list, set, deque):
        grown = memo[id(value)] = type(value)()
        add = grown.add if isinstance(grown, set) else grown.append
        for item in value:
            add(_copied(item, memo))
        return grown
    if type(value) is tuple:
        return tuple(_copied(item, memo) for item in value)
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # noqa: BLE001 - any class may refuse to be copied, in its own way
        return _copied_object(value, memo)


def _copied_object(value: Any, memo: dict[int, Any]) -> Any:
    """A plain object with its attributes copied; shared if it has none to copy."""
    if type(value).__module__ == "builtins" or not hasattr(value, "__dict__"):
        return value
    try:
        made = object.__new__(type(value))
    except TypeError:
        return value
    memo[id(value)] = made
    made.__dict__.update((key, _copied(item, memo)) for key, item in vars(value).items())
    return made
