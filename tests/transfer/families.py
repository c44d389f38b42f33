"""Models of any width: what makes their heads is handed in, so that mup's own read-outs can stand in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Head = Callable[..., nn.Module]


class MLP(nn.Module):
    """Two hidden layers; 12 inputs, 5 outputs."""

    def __init__(self, width: int, head: Head = nn.Linear) -> None:
        super().__init__()
        self.first = nn.Linear(12, width)
        self.second = nn.Linear(width, 2 * width)
        self.third = nn.Linear(2 * width, width)
        self.head = head(width, 5)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(F.relu(self.third(F.relu(self.second(F.relu(self.first(x)))))))


class Block(nn.Module):
    """Pre-norm attention with heads of 8 features, then a GELU of four times the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 8
        self.before_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.before_mlp = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = (
            each.view(batch, length, self.heads, 8).transpose(1, 2)
            for each in self.qkv(self.before_attention(x)).chunk(3, -1)
        )
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.before_mlp(x))))


class GPT(nn.Module):
    """A decoder over 11 tokens; `tied` takes the table for the head."""

    def __init__(self, width: int, blocks: int = 2, head: Head = nn.Linear, tied: Head | None = None) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, width)
        self.positions = nn.Parameter(torch.randn(1, 6, width) / 8)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        if tied is None:
            self.head = head(width, 11, bias=False)
        else:
            self.head = tied(self.tokens.weight)

    def forward(self, ids: torch.Tensor) -> Any:
        x = self.tokens(ids) + self.positions[:, : ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class TiedHead(nn.Module):
    """A head without weights of its own."""

    def __init__(self, table: nn.Parameter) -> None:
        super().__init__()
        self.weight = table

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight)


class ResidualBlock(nn.Module):
    """A depthwise, a pointwise and a convolution of four groups."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.pointwise = nn.Conv2d(width, 2 * width, 1)
        self.grouped = nn.Conv2d(2 * width, width, 3, padding=1, groups=4, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.norm2(self.grouped(F.relu(self.pointwise(self.norm1(self.depthwise(x))))))


class ResNet(nn.Module):
    """A stem, residual blocks and a head of 7 classes."""

    def __init__(self, width: int, blocks: int = 2, head: Head = nn.Linear) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.head = head(width, 7)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(F.relu(self.blocks(self.stem(x))).mean((2, 3)))


class Recurrent(nn.Module):
    """Two layers of LSTM and one of GRU over sequences of 5 features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, width, 2, batch_first=True)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.gru(self.lstm(x)[0])[0][:, -1])


class UNet(nn.Module):
    """One level down by a stride, up by a transposed convolution, joined to what stood before; adds to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 2, stride=2)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.joined = nn.Conv2d(2 * width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 3, 1)

    def forward(self, x: torch.Tensor) -> Any:
        fine = F.relu(self.first(x))
        up = F.relu(self.up(F.relu(self.down(fine))))
        return x + self.last(F.relu(self.joined(torch.cat([up, fine], 1))))


class Field(nn.Module):
    """A field over 3 coordinates that are joined again to the features half-way (NeRF)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(3, width)
        self.again = nn.Linear(width + 3, width)
        self.density = nn.Linear(width, 1)
        self.colour = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> Any:
        h = F.relu(self.again(torch.cat([F.relu(self.first(x)), x], -1)))
        return torch.sigmoid(self.colour(h)) * F.softplus(self.density(h))


class Encoder(nn.Module):
    """torch's encoder layers, a class token, positions, layer scale, a padding mask, pooled by the token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 5, width))
        self.scale = nn.Parameter(torch.full((width,), 0.1))
        self.layer = nn.TransformerEncoderLayer(width, width // 8, 2 * width, dropout=0.0, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        x = x + self.scale * self.layer(x)
        return self.head(self.norm(x)[:, 0])


class Excited(nn.Module):
    """Squeeze-and-excite with a bottleneck of a quarter, and a map of one channel that weighs positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.squeeze = nn.Linear(width, width // 4)
        self.excite = nn.Linear(width // 4, width)
        self.where = nn.Conv2d(width, 1, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> Any:
        h = F.relu(self.stem(x))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(h.mean((2, 3))))))
        h = h * gate[:, :, None, None]
        return self.head(self.norm(h * torch.sigmoid(self.where(h))).mean((2, 3)))


class Attention(nn.Module):
    """Attention written as products, with a bias table added to its logits, after a look-up."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(9, width)
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.bias = nn.Parameter(torch.zeros(6, 6))
        self.out = nn.Linear(width, width)
        self.head = nn.Linear(width, 2)

    def forward(self, ids: torch.Tensor) -> Any:
        x = self.tokens(ids)
        logits = self.q(x) @ self.k(x).transpose(1, 2) / 4 + self.bias[: ids.shape[1], : ids.shape[1]]
        x = x + self.out(logits.softmax(-1) @ self.v(x))
        return self.head(x.mean(1))


class Mixture(nn.Module):
    """Four experts whose shares a router gives."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Linear(6, width)
        self.router = nn.Linear(width, 4)
        self.up = nn.Parameter(torch.randn(4, width, 2 * width) / 8)
        self.down = nn.Parameter(torch.randn(4, 2 * width, width) / 8)
        self.head = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> Any:
        h = self.stem(x)
        shares = self.router(h).softmax(-1)
        made = torch.einsum("ebh,ehd->ebd", F.gelu(torch.einsum("bd,edh->ebh", h, self.up)), self.down)
        return self.head(h + torch.einsum("be,ebd->bd", shares, made))
