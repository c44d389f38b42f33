"""Norms written out in tensor operations, each before another reader."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.shared.models.llama import RMSNorm


class WrittenLayerNorm(nn.Module):
    """Mean and variance over the features, as in channels-first layer norms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        variance = (x - mean).pow(2).mean(-1, keepdim=True)
        return self.weight * ((x - mean) / torch.sqrt(variance + 1e-6)) + self.bias


class WrittenNorms(nn.Module):
    """Norm then relu, norm then gelu, unit length then tanh, norm then the next layer."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.fc1, self.norm1 = nn.Linear(width, width), RMSNorm(width)
        self.fc2, self.norm2 = nn.Linear(width, width), WrittenLayerNorm(width)
        self.fc3 = nn.Linear(width, width)
        self.fc4, self.norm4 = nn.Linear(width, width), RMSNorm(width)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.fc1(x)))
        x = F.gelu(self.norm2(self.fc2(x)))
        x = self.fc3(x)
        x = torch.tanh(x / x.norm(dim=-1, keepdim=True))
        return self.head(self.norm4(self.fc4(x)))
