"""The models that are timed, and the loop that autoinit is held against."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import nn

LIBRARY_MODELS = ("resnet50", "convnext_base", "vit_large_patch16_224")
"""Built by timm."""
MODELS = (*LIBRARY_MODELS, "mlp")
WIDTH = 128


class MLP(nn.Module):
    """Linear and ReLU, `layers` times, at torch's own initialisation."""

    def __init__(self, layers: int, width: int = WIDTH) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One pass."""
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


def construct(name: str, layers: int) -> nn.Module:
    """The model as its library constructs and initialises it.

    Args:
        name: one of `MODELS`.
        layers: of the MLP.
    """
    if name == "mlp":
        return MLP(layers)
    import _torchvision  # noqa: F401
    import timm

    model: nn.Module = timm.create_model(name)
    return model


_FILLS = ("normal_", "uniform_", "erfinv_", "mul_", "add_", "clamp_", "fill_", "zero_")
"""The tensor methods that `torch.nn.init` and timm's own initialisations write with."""


@contextmanager
def without_filling() -> Iterator[None]:
    """Models constructed here keep what was in memory: the rest of a construction's cost."""

    def leave(tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return tensor

    with ExitStack() as stack:
        for name in _FILLS:
            stack.enter_context(mock.patch.object(torch.Tensor, name, leave))
        yield


def kaiming_loop(model: nn.Module) -> None:
    """What people write by hand."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
