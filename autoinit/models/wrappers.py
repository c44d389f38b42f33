"""Modules that stand around another one, and how they are seen through. The one place that knows them."""

from __future__ import annotations

import sys

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

from autoinit.models.walking import modules_once

WRAPPING_NAMES = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
"""Where `torch.compile`, activation checkpointing and `FullyShardedDataParallel` hold the module that they wrap.

The wrappers' classes themselves are not imported: that would load the compiler and torch.distributed.
"""
_PARALLEL = (nn.DataParallel, DistributedDataParallel)
_RENAMING = (("torch.distributed.fsdp", "FSDPModule"), ("torch.distributed._composable.replicate", "DDP"))
"""Classes that `fully_shard` and `replicate` put in front of a module's own."""


def inner_module(module: nn.Module) -> nn.Module:
    """The module inside all wrappers; any other module itself."""
    while name := wrapped_as(module):
        module = getattr(module, name)
    return module


def wrapped_as(module: nn.Module) -> str:
    """The attribute under which a wrapper holds its module; empty for a module that wraps none."""
    if isinstance(module, _PARALLEL):
        return "module"
    return next((name for name in WRAPPING_NAMES if name in module._modules), "") if module._modules else ""


def user_name(name: str, model: object = None) -> str:
    """A name in `model.named_parameters()` or `named_modules()` without the segments that wrappers add.

    `WRAPPING_NAMES` always go. `module` goes where the model is given and has a DataParallel there.
    """
    module = model
    kept = []
    for segment in name.split("."):
        inside = isinstance(module, nn.Module)
        if not (segment in WRAPPING_NAMES or (isinstance(module, nn.Module) and segment == wrapped_as(module))):
            kept.append(segment)
        module = getattr(module, segment, None) if inside else None
    return ".".join(kept)


def user_class(module: nn.Module) -> type:
    """The class that the user wrote: `fully_shard`, `replicate` and parametrizations put one of their own before it."""
    found = bare_class(module)
    if parametrize.is_parametrized(module):
        found = found.__bases__[0]
    return _without_engine(found)


def bare_class(module: nn.Module) -> type:
    """A module's class without the one that `fully_shard` or `replicate` has put in front of it."""
    found = type(module)
    inner = _without_engine(found)
    return inner if inner in found.__bases__ else found  # else there is a parametrization in front, which stays


def resharded(model: object) -> bool:
    """Lets go what FSDP2 has gathered of a model for a forward, since what is written must be what it keeps.

    Returns whether there may have been anything: other parameters are the model's then.
    """
    found = False
    for module in modules_once(model) if isinstance(model, nn.Module) else ():
        reshard = getattr(module, "reshard", None) if bare_class(module) is not type(module) else None
        if callable(reshard):
            reshard()
            found = True
    return found


def _without_engine(kind: type) -> type:
    for home, name in _RENAMING:
        added = getattr(sys.modules.get(home), name, None)
        if isinstance(added, type) and added in kind.__mro__:
            order = kind.__mro__
            kind = order[order.index(added) + 1]
    return kind


def is_engines(hook: object) -> bool:
    """Whether a hook is one by which torch.distributed gathers, parts or passes on what a module works with."""
    home = getattr(hook, "__module__", None) or getattr(getattr(hook, "func", None), "__module__", None)
    return str(home).startswith("torch.distributed.")
