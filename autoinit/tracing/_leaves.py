"""Parameters of a leaf module, under the slots of the operation that it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn
from torch.nn.utils import prune

from autoinit.ops import REGISTRY
from autoinit.tracing.dataflow import ParamUse


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is traced as one operation: the table knows it, and it reads the parameters that it holds.

    A pruned one reads what `torch.nn.utils.prune` makes of them before each forward.
    """
    spec = REGISTRY.of_module(module)
    if spec is None:
        return False
    pruned = any(type(hook).__module__ == prune.__name__ for hook in module._forward_pre_hooks.values())
    return not pruned or isinstance(module, nn.RNNBase)


def leaf_params(leaf: nn.Module, names: Mapping[int, str]) -> Iterator[ParamUse]:
    """Every parameter of the leaf, a reparametrised one under the slot that it makes.

    `names` gives each parameter's first name in the model by its id. The slot is empty for what only scales another.
    """
    held = leaf._parameters.items() if not leaf._modules else leaf.named_parameters()
    for local, parameter in held:
        if parameter is not None:
            slot, transform = _slot_of(leaf, local)
            yield ParamUse(slot, names[id(parameter)], tuple(parameter.shape), transform=transform)


def _slot_of(leaf: nn.Module, local: str) -> tuple[str, tuple[str, ...]]:
    """Slot and transform of a leaf's parameter; an empty slot for what only scales another (weight norm's g)."""
    if local.startswith("parametrizations."):
        _, slot, original = local.split(".", 2)
        kinds = tuple(type(each).__name__.lstrip("_") for each in leaf.parametrizations[slot])  # type: ignore[index]
        if kinds == ("WeightNorm",):
            return (slot, ("weight_norm",)) if original == "original1" else ("", ())
        return (slot, kinds) if original in ("original", "original0") else ("", ())
    if local.endswith("_v") and f"{local[:-2]}_g" in leaf._parameters:
        return local[:-2], ("weight_norm",)
    if local.endswith("_g") and f"{local[:-2]}_v" in leaf._parameters:
        return "", ()
    if local.endswith("_orig") and f"{local[:-5]}_u" in leaf._buffers:
        return local[:-5], ("spectral_norm",)
    return local.replace(".", "_"), ()
