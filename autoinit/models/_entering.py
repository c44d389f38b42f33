"""What no public function can read of a model, refused where the model enters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from autoinit.errors import PlanError, TraceError
from autoinit.models.walking import modules_once


def require_tree(module: nn.Module) -> None:
    """Refuse a module that is inside itself.

    Raises:
        PlanError: it is.
    """
    _require_tree(module, "", (), set())


def _require_tree(module: nn.Module, path: str, above: tuple[nn.Module, ...], seen: set[int]) -> None:
    """`above` are the modules around it, `seen` those that were looked at."""
    if any(module is each for each in above):
        raise PlanError(f"{path} is the module that it is in, expected a tree of modules: take it out of `_modules`.")
    if id(module) not in seen:
        for name, inner in module._modules.items():
            if isinstance(inner, nn.Module):
                _require_tree(inner, f"{path}.{name}" if path else name, (*above, module), seen)
        seen.add(id(module))


def require_python(module: nn.Module) -> None:
    """Refuse TorchScript.

    Raises:
        TraceError: the model holds TorchScript modules.
    """
    if any(isinstance(each, torch.jit.ScriptModule) for each in modules_once(module)):
        raise TraceError(
            "the model holds TorchScript modules, which have no Python to trace: use the model that was scripted"
        )


def require_no_fake_mode() -> None:
    """Refuse to work where torch gives every new tensor no values.

    Raises:
        PlanError: a FakeTensorMode is active.
    """
    if isinstance(torch.empty(0, device="cpu"), FakeTensor):
        raise PlanError(
            "a FakeTensorMode is active, in which no tensor has values: call autoinit outside of it, with real "
            "tensors or with a model on the meta device (built under `with torch.device('meta')`)."
        )


def require_readable(tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse fake tensors, and parameters that are not dense. On the meta device they may be.

    Raises:
        PlanError: a tensor is fake, or a parameter is sparse; the message names it.
    """
    for name, tensor in tensors.items():
        if isinstance(tensor, FakeTensor):
            raise PlanError(
                f"{name} is a fake tensor, which has no values: build the model outside of FakeTensorMode, with real "
                f"tensors or on the meta device (under `with torch.device('meta')`)."
            )
        if isinstance(tensor, nn.Parameter) and tensor.layout is not torch.strided:
            raise PlanError(
                f"{name} has layout {tensor.layout}; expected torch.strided: use the model as it was before it was "
                f"converted, or make the parameter dense (`to_dense`)."
            )
