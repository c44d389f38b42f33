"""How a module stores a weight: as a parameter, or in parts from which it computes the weight."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm, _WeightNorm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

StorageKind = Literal["plain", "weight_norm", "spectral_norm", "parametrized"]


@dataclass(frozen=True)
class WeightStorage:
    """Which parameters a weight is stored in.

    Attributes:
        weight: name of the weight as the module's forward reads it (`conv.weight`).
        kind: `plain`; `weight_norm` and `spectral_norm`, torch's hooks or parametrizations, alone on the weight;
            `parametrized` for any other.
        param: the parameter that takes the values drawn: the weight itself, weight_norm's direction v, spectral_norm's
            original, the first original of another parametrization.
        magnitude: weight_norm's g.
        others: further originals of a parametrization that has several.
        hooked: whether a forward pre-hook makes the weight (the old functions), not a parametrization.
    """

    weight: str
    kind: StorageKind
    param: str
    magnitude: str = ""
    others: tuple[str, ...] = ()
    hooked: bool = False

    @property
    def written(self) -> tuple[str, ...]:
        """Names of all the parameters that writing the weight writes."""
        return (self.param, *((self.magnitude,) if self.magnitude else ()), *self.others)

    @property
    def reparam(self) -> str:
        """`LayerPlan.reparam`: the kind, empty for a plain weight."""
        return "" if self.kind == "plain" else self.kind


def owner_and_weight(name: str) -> tuple[str, str]:
    """The path of the module that a parameter belongs to, and the weight there that it stores.

    >>> owner_and_weight("body.conv.parametrizations.weight.original0")
    ('body.conv', 'weight')
    """
    path, mark, rest = f".{name}".rpartition(".parametrizations.")
    if mark:
        return path.removeprefix("."), rest.partition(".")[0]
    owner, _, leaf = name.rpartition(".")
    return owner, leaf


def storage_in_module(module: nn.Module, owner: str, leaf: str) -> WeightStorage | None:
    """How a module stores its weight; None where it has no such parameter.

    Args:
        module: the module.
        owner: its path, which names begin with.
        leaf: the weight's attribute, or that of a parameter that stores it (`weight_v`).
    """
    prefix = f"{owner}." if owner else ""
    if "parametrizations" in module._modules and parametrize.is_parametrized(module, leaf):
        return _parametrized(module, prefix, leaf)
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm) and leaf in _with_suffixes(hook.name, "", "_g", "_v"):
            weight = prefix + hook.name
            return WeightStorage(weight, "weight_norm", f"{weight}_v", f"{weight}_g", hooked=True)
        if isinstance(hook, SpectralNorm) and leaf in _with_suffixes(hook.name, "", "_orig"):
            weight = prefix + hook.name
            return WeightStorage(weight, "spectral_norm", f"{weight}_orig", hooked=True)
    if module._parameters.get(leaf) is None:
        return None
    return WeightStorage(prefix + leaf, "plain", prefix + leaf)


def storage_by_names(names: Collection[str], owner: str, leaf: str) -> WeightStorage | None:
    """How a weight is stored as far as the names of parameters tell, for a model without modules."""
    prefix = f"{owner}." if owner else ""
    if leaf.endswith(("_g", "_v")) and f"{prefix}{leaf[:-2]}_g" in names:
        leaf = leaf[:-2]
    weight, base = prefix + leaf, f"{prefix}parametrizations.{leaf}.original"
    if weight in names:
        return WeightStorage(weight, "plain", weight)
    if {f"{weight}_g", f"{weight}_v"} <= {*names}:
        return WeightStorage(weight, "weight_norm", f"{weight}_v", f"{weight}_g")
    if {f"{base}0", f"{base}1"} <= {*names}:
        return WeightStorage(weight, "weight_norm", f"{base}1", f"{base}0")
    for original in (base, f"{base}0", f"{weight}_orig"):
        if original in names:
            return WeightStorage(weight, "parametrized", original)
    return None


def hook_of(module: nn.Module, leaf: str) -> WeightNorm | SpectralNorm:
    """The old weight_norm's or spectral_norm's hook that makes the module's weight `leaf`."""
    hooks = (hook for hook in module._forward_pre_hooks.values() if isinstance(hook, WeightNorm | SpectralNorm))
    return next(hook for hook in hooks if hook.name == leaf)


def parametrizations_of(module: nn.Module, leaf: str) -> parametrize.ParametrizationList:
    """The parametrizations on the module's weight `leaf`."""
    found = getattr(module.parametrizations, leaf)
    assert isinstance(found, parametrize.ParametrizationList)
    return found


def _with_suffixes(name: str, *suffixes: str) -> tuple[str, ...]:
    return tuple(name + suffix for suffix in suffixes)


def _parametrized(module: nn.Module, prefix: str, leaf: str) -> WeightStorage:
    parametrizations = parametrizations_of(module, leaf)
    base = f"{prefix}parametrizations.{leaf}.original"
    weight = prefix + leaf
    only = parametrizations[0] if len(parametrizations) == 1 else None
    if isinstance(only, _WeightNorm):
        return WeightStorage(weight, "weight_norm", f"{base}1", f"{base}0")
    if isinstance(only, _SpectralNorm):
        return WeightStorage(weight, "spectral_norm", base)
    if parametrizations.is_tensor:
        return WeightStorage(weight, "parametrized", base)
    others = tuple(f"{base}{index}" for index in range(1, parametrizations.ntensors))
    return WeightStorage(weight, "parametrized", f"{base}0", others=others)
