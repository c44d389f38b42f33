"""A discriminator whose weights are spectral-normalised is no NFNet; one whose weights are standardised is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import check


class Spectral(nn.Conv2d):
    """As in BigGAN: divided by the largest singular value, from one step of the power iteration."""

    u: Tensor

    def __init__(self, width: int, features: int) -> None:
        super().__init__(width, features, 3, padding=1)
        self.register_buffer("u", torch.ones(1, features) / features**0.5)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.flatten(1)
        v = F.normalize(self.u @ rows)
        u = F.normalize(v @ rows.t())
        return F.conv2d(x, self.weight / (v @ rows.t() @ u.t()).squeeze(), self.bias, padding=1)


class Standardised(nn.Conv2d):
    """As in NFNet: mean 0 and variance 1 / fan_in for each filter."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__(width, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        weight = (self.weight - mean) * torch.rsqrt(variance * self.weight[0].numel() + 1e-4)
        return F.conv2d(x, weight, self.bias, padding=1)


class ByBatchNorm(Standardised):
    """As in BiT and timm: batch_norm does it."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True).reshape_as(self.weight)
        return F.conv2d(x, weight / self.weight[0].numel() ** 0.5, self.bias, padding=1)


@pytest.mark.parametrize(("conv", "recipe"), [(Spectral, ""), (Standardised, "nfnet"), (ByBatchNorm, "nfnet")])
def test_which_normalised_weights_are_an_nfnet_s(conv: Callable[[int, int], nn.Module], recipe: str):
    """A head at 0.01 and normalised weights of any scale: Brock et al. 2021 standardise theirs."""
    torch.manual_seed(0)
    widths = [3, 16, 16, 16, 16, 16, 8]
    convs = [conv(width, features) for width, features in pairwise(widths)]
    layers = [layer for each in convs for layer in (each, nn.ReLU())]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 64, 10))
    for weight in (each.weight for each in (*convs, model[-1])):
        nn.init.normal_(weight, std=0.01)
    found = check(model, (2, 3, 8, 8)).recipe
    assert found.split(" ")[0] == recipe
