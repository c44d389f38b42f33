"""A stand-in for the model that tracing may run and break: the original is only read.

The shadow shares classes and code with the original but no tensors and no mutable state; its tensors live on the meta
device, or are copies. Wrappers (see `models.wrappers`) are left out, so that names are the
user's. User hooks are left out too, since they may write to the outside.
"""

from __future__ import annotations

import itertools
import math
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from autoinit.errors import LazyModuleError, TraceError
from autoinit.models import inner_module
from autoinit.models.walking import modules_by_path, modules_once
from autoinit.models.wrappers import bare_class, is_engines, user_class
from autoinit.ops import REGISTRY, Role
from autoinit.tensors.sharding import stand_in
from autoinit.tracing._copying import Copier
from autoinit.tracing._holding import is_installed

_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called", "_state_dict_hooks", "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip
_REPARAMETRISATIONS = ("torch.nn.utils.weight_norm", "torch.nn.utils.spectral_norm", "torch.nn.utils.prune")


@dataclass(frozen=True)
class Shadow:
    """The stand-in, what a reader should know of how it differs from the original, and how it was copied."""

    module: nn.Module
    notes: tuple[str, ...]
    copies: Copier


def make_shadow(model: nn.Module, device: str) -> Shadow:
    """Copy the model's structure with its tensors on `device` ("meta": no storage; "cpu": copies).

    All modules are put in training mode, except norms, which are not needed to train a batch of one.

    Raises:
        LazyModuleError: the model has parameters without a shape.
    """
    model = inner_module(model)
    _refuse(modules_by_path(model))
    shadowing = _Shadowing(_converter(device))
    with torch.no_grad():
        made = shadowing.tree(model)
    return Shadow(made, tuple(_notes(shadowing)), shadowing.copier)


def _notes(shadowing: _Shadowing) -> Iterator[str]:
    skipped, hidden = shadowing.skipped, [kind.__qualname__ for kind in shadowing.copier.hidden]
    if skipped:
        yield f"{skipped} user hook{'s' if skipped > 1 else ''} not run while tracing"
    if hidden:
        yield (
            f"what forward does to objects of {', '.join(sorted(hidden))} is not undone: they cannot be copied, and "
            f"their state does not show"
        )


def _refuse(modules: Mapping[str, nn.Module]) -> None:
    lazy = [
        f"{path}.{name}" if path else name
        for path, module in modules.items()
        for name, parameter in itertools.chain(module._parameters.items(), module._buffers.items())
        if isinstance(parameter, (UninitializedParameter, UninitializedBuffer))
    ]
    if lazy:
        some = f"{', '.join(lazy[:3])}{', ...' if len(lazy) > 3 else ''}"
        raise LazyModuleError(
            f"{len(lazy)} lazy parameter{'s have' if len(lazy) > 1 else ' has'} no shape yet ({some}): run one forward "
            f"first, `model(example_input)`, then call autoinit. What is lazy after it too, no forward like that one "
            f"uses: pass the inputs that bring it in, or build the module without it"
        )
    _refuse_emptied(modules)


def _converter(device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        plain = stand_in(tensor).detach()
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


def _refuse_emptied(modules: Mapping[str, nn.Module]) -> None:
    """Weights that a sharded engine keeps elsewhere: what is left has no elements."""
    emptied = {
        f"{path}.{name}" if path else name: shape
        for path, module in modules.items()
        for name, parameter in module._parameters.items()
        if parameter is not None and (shape := _emptied(module, name, parameter))
    }
    if emptied:
        some = ", ".join(f"{name} {shape}" for name, shape in list(emptied.items())[:3])
        raise TraceError(
            f"{len(emptied)} parameters hold no elements here ({some}{', ...' if len(emptied) > 3 else ''}): they are "
            f"parted among processes, as by ZeRO-3. Plan and write the model before it is sharded (before "
            f"deepspeed.initialize or deepspeed.zero.Init), or inside "
            f"`with deepspeed.zero.GatheredParameters(list(model.parameters()), modifier_rank=0):`"
        )


def _emptied(module: nn.Module, name: str, parameter: nn.Parameter) -> str:
    """What a parameter without elements should be; empty if it has some, or is meant to have none."""
    if parameter.numel():
        return ""
    whole = getattr(parameter, "ds_shape", None)  # DeepSpeed's
    if whole is not None:
        return f"of shape {tuple(whole)}" if math.prod(whole) else ""
    spec = REGISTRY.of_module(module)
    weight = spec is not None and spec.role is Role.WEIGHT and name == "weight" and parameter.dim() == 1
    return "of shape (0,)" if weight else ""


class _Shadowing:
    """The making of one shadow.

    Attributes:
        skipped: how many user hooks were left out.
    """

    def __init__(self, convert: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.copier = Copier(self.tree, convert)
        self.skipped = 0
        self._rebound: dict[type, dict[str, types.FunctionType]] = {}

    def tree(self, root: nn.Module) -> nn.Module:
        """The copy of a module and of those in it. One that cannot be made anew stands for itself."""
        copier = self.copier
        fresh = [module for module in modules_once(root) if id(module) not in copier.memo]
        plain = [module for module in fresh if inner_module(module) is module]
        for module in plain:
            copier.remember(module, object.__new__(bare_class(module)))
        for module in fresh:
            copier.remember(module, copier.memo[id(inner_module(module))])
        for module in plain:
            for tensor in itertools.chain(module._parameters.values(), module._buffers.values()):
                if tensor is not None:
                    copier(tensor)
        for module in plain:
            self._fill(module, copier.memo[id(module)])
        made: nn.Module = copier.memo[id(root)]
        return made

    def _fill(self, module: nn.Module, blank: nn.Module) -> None:
        """Give a blank module the attributes of the original."""
        target = blank.__dict__
        for name, value in module.__dict__.items():
            if name in ("_parameters", "_buffers", "_modules"):
                target[name] = {key: None if held is None else self.copier(held) for key, held in value.items()}
            elif name in _HOOKS:
                target[name] = self._hooks(name, value, module)
            elif name == "_compiled_call_impl":  # of `module.compile()`: runs as written
                target[name] = None
            else:
                target[name] = self.copier(value)
        self._rebind(type(blank), blank)
        spec = REGISTRY.of_module(module)
        target["training"] = not (spec is not None and spec.role is Role.NORM)

    def _hooks(self, name: str, hooks: Mapping[Any, Any], module: nn.Module) -> OrderedDict[Any, Any]:
        """Without the user's."""
        if not hooks:
            return OrderedDict()
        kept = OrderedDict(
            (key, self.copier(hook))
            for key, hook in hooks.items()
            if getattr(type(hook), "__module__", "") in _REPARAMETRISATIONS or _is_its_own(hook, module)
        )
        engines = sum(map(is_engines, hooks.values()))
        self.skipped += (len(hooks) - len(kept) - engines) if name in _HOOKS[:2] else 0
        return kept

    def _rebind(self, kind: type, blank: nn.Module) -> None:
        """Methods that use a global module, in classes of the user's own, use its copy in this module."""
        if kind not in self._rebound:
            self._rebound[kind] = {}  # where a method leads back here
            self._rebound[kind] = dict(self._methods(kind))
        for name, function in self._rebound[kind].items():
            if name not in blank.__dict__:
                blank.__dict__[name] = types.MethodType(function, blank)

    def _methods(self, kind: type) -> Iterator[tuple[str, types.FunctionType]]:
        overridden: set[str] = set()
        for each in kind.__mro__:
            if each.__module__.partition(".")[0] != "torch":
                for name, function in vars(each).items():
                    users = isinstance(function, types.FunctionType) and not is_installed(function.__code__)
                    if users and name not in overridden and (copied := self.copier.method(function)) is not function:
                        yield name, copied
            overridden.update(vars(each))


def _is_its_own(hook: Any, module: nn.Module) -> bool:
    """Whether a hook is part of the module: a function of the installed package that its class is of.

    Some libraries collect what forward returns by such hooks. A user's own are left out, as are other packages'.
    """
    if is_engines(hook):
        return False
    code, package = getattr(hook, "__code__", None), user_class(module).__module__.partition(".")[0]
    home = str(getattr(hook, "__module__", "")).partition(".")[0]
    return code is not None and home == package and is_installed(code)
