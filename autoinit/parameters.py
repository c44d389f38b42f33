"""Parameters as the user knows them: names without wrappers, ties, and how a weight is held by its module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, Union

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm, _WeightNorm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from autoinit.errors import PlanError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from autoinit.tracing.exported import ExportedModel

Model: TypeAlias = Union[nn.Module, "ExportedProgram", "ExportedModel"]
"""What is planned, checked and written: a module, a program of torch.export, or what was read of a program's file."""
Kind = Literal["plain", "weight_norm", "spectral_norm", "parametrized"]


@dataclass(frozen=True)
class Holding:
    """How a module holds a weight.

    weight: name of the weight as the module's forward reads it (`conv.weight`). kind: `plain`; `weight_norm` and
    `spectral_norm`, torch's hooks or parametrizations, alone on the weight; `parametrized` for any other.
    param: the parameter that takes the values drawn: the weight itself, weight_norm's direction v, spectral_norm's
    original, the first original of another parametrization.
    magnitude: weight_norm's g. others: further originals of a parametrization that has several.
    hooked: whether a forward pre-hook makes the weight (the old functions), not a parametrization.
    """

    weight: str
    kind: Kind
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


def unwrap(model: Model) -> Model:
    """The model inside DataParallel, DistributedDataParallel and torch.compile's OptimizedModule, however nested."""
    while isinstance(model, nn.Module) and (segment := _wrapped_as(model)):
        model = getattr(model, segment)
    return model


def user_name(name: str, model: Model | None = None) -> str:
    """A name in `model.named_parameters()` or `named_modules()` without the segments that wrappers add.

    `_orig_mod` always goes. `module` goes where the model is given and has a DataParallel there.
    """
    module: object = model
    kept = []
    for segment in name.split("."):
        wrapped = segment == "_orig_mod" or (isinstance(module, nn.Module) and segment == _wrapped_as(module))
        if not wrapped:
            kept.append(segment)
        module = getattr(module, segment, None) if isinstance(module, nn.Module) else None
    return ".".join(kept)


def named_parameters(model: Model) -> dict[str, nn.Parameter]:
    """Every parameter once, in order, by its first name as the user knows it."""
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for name, parameter in _all_names(model):
        found.setdefault(id(parameter), (name, parameter))
    return dict(found.values())


def aliases(model: Model) -> dict[str, tuple[str, ...]]:
    """All the names of every parameter, by the first: more than one where it is tied or its module is shared."""
    names: dict[int, list[str]] = {}
    for name, parameter in _all_names(model):
        known = names.setdefault(id(parameter), [])
        if name not in known:
            known.append(name)
    return {known[0]: tuple(known) for known in names.values()}


def submodule(model: Model, path: str) -> nn.Module:
    """The module at a path as the user knows it, wrappers seen through."""
    module = unwrap(model)
    for segment in path.split(".") if path else ():
        inner = module._modules.get(segment) if isinstance(module, nn.Module) else None
        if inner is None:
            raise PlanError(
                f"{path}: {type(unwrap(model)).__name__} has no such module. Plan the model that is written."
            )
        module = unwrap(inner)
    if not isinstance(module, nn.Module):
        raise PlanError(f"{path or 'the model'}: {type(module).__name__} has no modules.")
    return module


def holding(model: Model, name: str) -> Holding:
    """How the model holds a weight.

    Args:
        model: the model, wrapped or not; or an exported program, whose weights are told by their names.
        name: the weight's name (`conv.weight`) or that of a parameter that holds it (`conv.weight_v`,
            `conv.parametrizations.weight.original0`).

    Raises:
        PlanError: the model has no such weight.
    """
    if not isinstance(model, nn.Module):
        return _exported_holding(model, name)
    path, mark, rest = f".{name}".rpartition(".parametrizations.")
    if mark:
        owner, leaf = path.removeprefix("."), rest.partition(".")[0]
    else:
        owner, _, leaf = name.rpartition(".")
    module = submodule(model, owner)
    prefix = f"{owner}." if owner else ""
    if parametrize.is_parametrized(module, leaf):
        return _parametrized_holding(module, prefix, leaf)
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm) and leaf in _with_suffixes(hook.name, "", "_g", "_v"):
            weight = prefix + hook.name
            return Holding(weight, "weight_norm", f"{weight}_v", f"{weight}_g", hooked=True)
        if isinstance(hook, SpectralNorm) and leaf in _with_suffixes(hook.name, "", "_orig"):
            weight = prefix + hook.name
            return Holding(weight, "spectral_norm", f"{weight}_orig", hooked=True)
    if module._parameters.get(leaf) is None:
        raise PlanError(f"{name}: {type(module).__name__} has no parameter {leaf!r}. Plan the model that is written.")
    return Holding(name, "plain", name)


def hook_of(module: nn.Module, leaf: str) -> WeightNorm | SpectralNorm:
    """The old weight_norm's or spectral_norm's hook that makes the module's weight `leaf`."""
    hooks = (hook for hook in module._forward_pre_hooks.values() if isinstance(hook, WeightNorm | SpectralNorm))
    return next(hook for hook in hooks if hook.name == leaf)


def parametrizations_of(module: nn.Module, leaf: str) -> parametrize.ParametrizationList:
    """The parametrizations on the module's weight `leaf`."""
    found = getattr(module.parametrizations, leaf)
    assert isinstance(found, parametrize.ParametrizationList)
    return found


def _wrapped_as(module: nn.Module) -> str:
    """The attribute under which a wrapper holds its module; empty for a module that wraps none."""
    if isinstance(module, nn.DataParallel | DistributedDataParallel):
        return "module"
    # OptimizedModule itself is not imported: that would load the compiler.
    return "_orig_mod" if "_orig_mod" in module._modules else ""


def _all_names(model: Model) -> list[tuple[str, nn.Parameter]]:
    """(user's name, parameter), each parameter under all its names, in order."""
    if not isinstance(model, nn.Module):
        return list(model.named_parameters())
    prefixes: dict[str, str] = {}
    wrapped: dict[str, str] = {}
    found = []
    for path, module in model.named_modules(remove_duplicate=False):
        parent, _, segment = path.rpartition(".")
        prefix = ""
        if path:
            prefix = prefixes[parent] + ("" if segment == wrapped[parent] else f"{segment}.")
        prefixes[path], wrapped[path] = prefix, _wrapped_as(module)
        found += [(prefix + leaf, each) for leaf, each in module._parameters.items() if each is not None]
    return found


def _with_suffixes(name: str, *suffixes: str) -> tuple[str, ...]:
    return tuple(name + suffix for suffix in suffixes)


def _parametrized_holding(module: nn.Module, prefix: str, leaf: str) -> Holding:
    parametrizations = parametrizations_of(module, leaf)
    base = f"{prefix}parametrizations.{leaf}.original"
    weight = prefix + leaf
    only = parametrizations[0] if len(parametrizations) == 1 else None
    if isinstance(only, _WeightNorm):
        return Holding(weight, "weight_norm", f"{base}1", f"{base}0")
    if isinstance(only, _SpectralNorm):
        return Holding(weight, "spectral_norm", base)
    if parametrizations.is_tensor:
        return Holding(weight, "parametrized", base)
    others = tuple(f"{base}{index}" for index in range(1, parametrizations.ntensors))
    return Holding(weight, "parametrized", f"{base}0", others=others)


def _exported_holding(program: ExportedProgram | ExportedModel, name: str) -> Holding:
    names = {each for each, _ in program.named_parameters()}
    path, mark, rest = f".{name}".rpartition(".parametrizations.")
    if mark:
        leaf = rest.partition(".")[0]
        prefix = f"{path}.".removeprefix(".")
    else:
        owner, _, leaf = name.rpartition(".")
        prefix = f"{owner}." if owner else ""
        leaf = leaf.removesuffix("_g").removesuffix("_v") if f"{name[:-2]}_g" in names else leaf
    weight, base = prefix + leaf, f"{prefix}parametrizations.{leaf}.original"
    if weight in names:
        return Holding(weight, "plain", weight)
    if {f"{weight}_g", f"{weight}_v"} <= names:
        return Holding(weight, "weight_norm", f"{weight}_v", f"{weight}_g")
    if {f"{base}0", f"{base}1"} <= names:
        return Holding(weight, "weight_norm", f"{base}1", f"{base}0")
    for original in (base, f"{base}0", f"{weight}_orig"):
        if original in names:
            return Holding(weight, "parametrized", original)
    raise PlanError(f"{name}: the exported program has no such parameter. Plan the program that is written.")
