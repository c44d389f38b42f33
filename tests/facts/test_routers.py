"""Routers are told from heads, gates and attention by what their shares do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import autoinit
from autoinit.facts import Facts, gather
from autoinit.resolving import resolve
from autoinit.tracing import trace

WIDTH, EXPERTS = 16, 4
WORDS = torch.arange(12).reshape(2, 6)


class Sparse(nn.Module):
    """Experts in a list, of which each gets the places that chose it."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.experts = nn.ModuleList(
            [nn.Sequential(nn.Linear(WIDTH, 32), nn.SiLU(), nn.Linear(32, WIDTH)) for _ in range(EXPERTS)]
        )

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, WIDTH)
        shares, chosen = torch.topk(F.softmax(self.router(flat), -1), 2, -1)
        shares = shares / shares.sum(-1, keepdim=True)
        out, mask = torch.zeros_like(flat), F.one_hot(chosen, EXPERTS).permute(2, 1, 0)
        for number, expert in enumerate(self.experts):
            rank, place = torch.where(mask[number])
            out.index_add_(0, place, expert(flat[place]) * shares[place, rank, None])
        return out.view_as(x)


class SoftmaxOfTheLargest(Sparse):
    """Every expert computes everything."""

    def forward(self, x: Tensor) -> Tensor:
        return self.mixed(x, self.shares(self.router(x)))

    def shares(self, logits: Tensor) -> Tensor:
        largest, chosen = logits.topk(2, -1)
        return torch.zeros_like(logits).scatter(-1, chosen, largest.softmax(-1))

    def mixed(self, x: Tensor, shares: Tensor) -> Tensor:
        return (torch.stack([expert(x) for expert in self.experts], -1) * shares[..., None, :]).sum(-1)


class Sigmoids(SoftmaxOfTheLargest):
    """Sigmoids choose, and are the shares."""

    def shares(self, logits: Tensor) -> Tensor:
        scores = logits.sigmoid()
        chosen = scores.topk(2, -1).indices
        return torch.zeros_like(scores).scatter(-1, chosen, scores.gather(-1, chosen))


class All(SoftmaxOfTheLargest):
    """Every expert counts."""

    def shares(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits, dim=-1)


class ByEinsum(All):
    """Stacked weights, shares by einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ParameterList([torch.randn(EXPERTS, WIDTH, 32), torch.randn(EXPERTS, 32, WIDTH)])

    def mixed(self, x: Tensor, shares: Tensor) -> Tensor:
        made = torch.einsum("btef,efd->bted", torch.einsum("btd,edf->btef", x, self.experts[0]).relu(), self.experts[1])
        return torch.einsum("bte,bted->btd", shares, made)


class OneOf(SoftmaxOfTheLargest):
    """Switch Transformer's: the best one alone."""

    def mixed(self, x: Tensor, shares: Tensor) -> Tensor:
        share, best = shares.max(-1)
        made = torch.stack([expert(x) for expert in self.experts], -1)
        return made.gather(-1, best[..., None, None].expand(*best.shape, WIDTH, 1)).squeeze(-1) * share[..., None]


class Squeezed(Sparse):
    """Gates of features, pooling by attention over places, and a bottleneck, where the experts would be."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = (self.experts[0][0](x)[..., :1].softmax(1) * x).sum(1, keepdim=True)
        gate = torch.sigmoid(self.experts[1](pooled))
        return x * gate


class Model(nn.Module):
    """Two branches between a table and a head, whose softmax is the output."""

    def __init__(self, kind: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(50, WIDTH), nn.Linear(WIDTH, 50)
        self.layers = nn.ModuleList([kind(), kind()])

    def forward(self, words: Tensor) -> tuple[Tensor, Tensor]:
        x = self.table(words)
        for layer in self.layers:
            x = x + layer(F.rms_norm(x, (WIDTH,)))
        shares = self.head(x).softmax(-1)
        return shares, shares.argmax(-1)


def facts_of(kind: Callable[[], nn.Module]) -> list[Facts]:
    dataflow = trace(Model(kind), WORDS)
    return [each for each in gather(dataflow, resolve(dataflow)) if each.is_weight]


@pytest.mark.parametrize("kind", [Sparse, SoftmaxOfTheLargest, Sigmoids, All, ByEinsum, OneOf])
def test_routers_are_no_heads(kind: type[Sparse]):
    found = facts_of(kind)
    assert {each.param for each in found if each.is_router} == {f"layers.{at}.router.weight" for at in (0, 1)}
    assert {each.param for each in found if each.is_head} == {"head.weight"}


def test_what_gates_features_or_pools_over_places_is_no_router():
    assert not any(each.is_router for each in facts_of(Squeezed))


def test_a_recipe_that_speaks_of_heads_gives_routers_what_other_weights_get():
    """torchtitan's llama: 0.02, the head d^-1/2 = 1/4, cut at three sigma, which leaves 0.987 of it."""
    made = autoinit.plan(Model(Sparse), WORDS, recipe="llama(depth='layer')")
    assert made["layers.1.router"].std == pytest.approx(0.02)
    assert made["head"].std == pytest.approx(0.25, rel=0.02)
