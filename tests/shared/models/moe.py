"""A mixture of experts whose weights are stacked in one tensor, in two spellings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StackedExperts(nn.Module):
    """`w1` (experts, width, hidden) and `w2` (experts, hidden, width); every expert reads every token."""

    def __init__(self, experts: int, width: int, hidden: int, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        self.w1 = nn.Parameter(torch.randn(experts, width, hidden))
        self.w2 = nn.Parameter(torch.randn(experts, hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """(tokens, width) to (experts, tokens, width)."""
        if self.spelling == "einsum":
            hidden = F.silu(torch.einsum("td,edh->eth", x, self.w1))
            return torch.einsum("eth,ehd->etd", hidden, self.w2)
        hidden = F.gelu(torch.bmm(x.unsqueeze(0).expand(self.w1.shape[0], -1, -1), self.w1))
        return torch.bmm(hidden, self.w2)


class MoE(nn.Module):
    """A softmax router keeps two experts for each token and weighs them."""

    def __init__(self, spelling: str, experts: int = 4, width: int = 6, hidden: int = 10) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts, bias=False)
        self.experts = StackedExperts(experts, width, hidden, spelling)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        probabilities = F.softmax(self.router(x), dim=-1)
        kept, chosen = torch.topk(probabilities, 2, dim=-1)
        kept = kept / kept.sum(dim=-1, keepdim=True)
        shares = torch.zeros_like(probabilities).scatter(1, chosen, kept)
        mixed = (self.experts(x) * shares.t().unsqueeze(-1)).sum(dim=0)
        return self.head(mixed)
