"""A LLaMA-style language model: hand-written RMS norm, rotary positions, shared key and value head, SwiGLU."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def rotate_half(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


class Attention(nn.Module):
    """Two query heads that share one key and one value head; queries and keys may be normalised."""

    def __init__(self, width: int, head: int, positions: int, qk_norm: bool) -> None:
        super().__init__()
        self.head, self.heads = head, width // head
        self.wq = nn.Linear(width, width, bias=False)
        self.wk = nn.Linear(width, head, bias=False)
        self.wv = nn.Linear(width, head, bias=False)
        self.wo = nn.Linear(width, width, bias=False)
        self.q_norm = RMSNorm(head) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(head) if qk_norm else nn.Identity()
        frequencies = 1.0 / 10000 ** (torch.arange(0, head, 2) / head)
        angles = torch.outer(torch.arange(positions).float(), torch.cat((frequencies, frequencies)))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        self.register_buffer("mask", torch.full((positions, positions), float("-inf")).triu(1))

    def rotated(self, x: Tensor) -> Tensor:
        return x * self.cos + rotate_half(x) * self.sin

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q = self.q_norm(self.wq(x).view(batch, length, self.heads, self.head)).transpose(1, 2)
        k = self.k_norm(self.wk(x).view(batch, length, 1, self.head)).transpose(1, 2)
        v = self.wv(x).view(batch, length, 1, self.head).transpose(1, 2)
        q, k = self.rotated(q), self.rotated(k)
        k, v = (each.expand(-1, self.heads, -1, -1) for each in (k, v))
        scores = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(self.head) + self.mask
        y = torch.matmul(F.softmax(scores.float(), dim=-1).type_as(q), v)
        return self.wo(y.transpose(1, 2).contiguous().view(batch, length, -1))


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, hidden, bias=False)
        self.w2 = nn.Linear(hidden, width, bias=False)
        self.w3 = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    def __init__(self, width: int, head: int, positions: int, qk_norm: bool) -> None:
        super().__init__()
        self.attention = Attention(width, head, positions, qk_norm)
        self.feed_forward = FeedForward(width, 40)
        self.attention_norm = RMSNorm(width)
        self.ffn_norm = RMSNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class LLaMA(nn.Module):
    """`length` positions exactly."""

    def __init__(self, width: int = 16, head: int = 8, length: int = 6, qk_norm: bool = False) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(50, width)
        self.layers = nn.ModuleList([Block(width, head, length, qk_norm) for _ in range(2)])
        self.norm = RMSNorm(width)
        self.output = nn.Linear(width, 50, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tok_embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x))
