"""Modules that stand around another one, and how they are seen through. The one place that knows them."""

from __future__ import annotations

import sys

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

WRAPPING_NAMES = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
"""Where `torch.compile`, activation checkpointing and `FullyShardedDataParallel` hold the module that they wrap.

The wrappers' classes themselves are not imported: that would load the compiler and torch.distributed.
"""
_RENAMING = (("torch.distributed.fsdp", "FSDPModule"), ("torch.distributed._composable.replicate", "DDP"))
"""Classes that `fully_shard` and `replicate` put in front of a module's own."""


def inner_module(module: nn.Module) -> nn.Module:
    """The module inside all wrappers; any other module itself."""
    while name := wrapped_as(module):
        module = getattr(module, name)
    return module


def wrapped_as(module: nn.Module) -> str:
    """The attribute under which a wrapper holds its module; empty for a module that wraps none."""
    if isinstance(module, nn.DataParallel | DistributedDataParallel):
        return "module"
    return next((name for name in WRAPPING_NAMES if name in module._modules), "")


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
    found = type(module)
    if parametrize.is_parametrized(module):
        found = found.__bases__[0]
    for home, name in _RENAMING:
        added = getattr(sys.modules.get(home), name, None)
        if isinstance(added, type) and added in found.__mro__:
            order = found.__mro__
            found = order[order.index(added) + 1]
    return found
