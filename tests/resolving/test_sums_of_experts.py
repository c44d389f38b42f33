"""Experts that a softmax mixes are one branch of a residual stream, in whatever way they are added up.

Four blocks of three experts each: four branches, that all three experts of a block end. Of parallel branches, which
nothing mixes, each is one: x + (a + b) and (x + a) + b are the same.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autoinit import plan
from autoinit.facts import gather
from autoinit.resolving import resolve
from autoinit.resolving.residual import branch_counts, streams
from autoinit.tracing import trace

SPELLINGS = ("sum", "loop", "in_place", "stack")


class Experts(nn.Module):
    """Three experts of two layers, and their shares."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.router, self.spelling = nn.Linear(8, 3), spelling
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        shares = self.router(x).softmax(-1)
        shares = shares / shares.sum(-1, keepdim=True)
        terms = [shares[..., place, None] * expert(x) for place, expert in enumerate(self.experts)]
        if self.spelling == "sum":
            return sum(terms)
        if self.spelling == "stack":
            return torch.stack(terms).sum(0)
        total = torch.zeros_like(x)
        for term in terms:
            if self.spelling == "in_place":
                total += term
            else:
                total = total + term
        return total


class Mixture(nn.Module):
    """Four blocks of experts, norms first, between two layers."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 8), nn.Linear(8, 2)
        self.blocks = nn.ModuleList(Experts(spelling) for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block, norm in zip(self.blocks, self.norms, strict=True):
            x = x + block(norm(x))
        return self.head(x)


class Parallel(nn.Module):
    """x + (a + b + c), none of them mixed, or ((x + a) + b) + c."""

    def __init__(self, *, inside: bool) -> None:
        super().__init__()
        self.first, self.head, self.inside = nn.Linear(4, 8), nn.Linear(8, 2), inside
        self.terms = nn.ModuleList(nn.Sequential(nn.ReLU(), nn.Linear(8, 8)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        a, b, c = (term(x) for term in self.terms)
        return self.head(x + (a + b + c) if self.inside else x + a + b + c)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_what_experts_give_is_one_branch(spelling: str):
    (stream,) = streams(trace(Mixture(spelling), torch.zeros(2, 4)), gated=True)
    ends = [{weight.name for weight in branch.weights} for branch in stream.branches]
    assert ends == [{f"blocks.{block}.experts.{expert}.2" for expert in range(3)} for block in range(4)]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_places_of_experts(spelling: str):
    dataflow = trace(Mixture(spelling), torch.zeros(2, 4))
    facts = {each.param: each for each in gather(dataflow, resolve(dataflow))}
    for block in range(4):
        for expert in range(3):
            up, down = (facts[f"blocks.{block}.experts.{expert}.{layer}.weight"] for layer in (0, 2))
            assert (up.branch, up.branches, up.ends_branch) == (block + 1, 4, False)
            assert (down.branch, down.branches, down.ends_branch) == (block + 1, 4, True)


def test_a_recipe_writes_the_same_however_experts_are_added_up():
    """GPT-2's: the 4 branches' ends have 0.02 / sqrt(4)."""
    stds = [
        {each.param: each.std for each in plan(Mixture(spelling), torch.zeros(2, 4), recipe="gpt2").layers}
        for spelling in SPELLINGS
    ]
    assert stds[0]["blocks.3.experts.2.2.weight"] == pytest.approx(0.02 / 2)
    assert stds[0]["blocks.3.experts.2.0.weight"] == pytest.approx(0.02)
    assert all(each == stds[0] for each in stds)


@pytest.mark.parametrize("inside", [True, False])
def test_of_parallel_branches_each_is_one(inside: bool):
    dataflow = trace(Parallel(inside=inside), torch.zeros(2, 4))
    assert branch_counts(dataflow) == {f"terms.{term}.1/terms.{term}.1.weight": 3 for term in range(3)}


class Around(nn.Module):
    """x + b, b = (x + f(x)) + g(x + f(x)): a skip around a stream, whose branches read its sums."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 8), nn.Linear(8, 2)
        self.f, self.g = (nn.Sequential(nn.ReLU(), nn.Linear(8, 8)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = x + self.f(x)
        y = y + self.g(y)
        return self.head(x + y)


def test_a_stream_within_a_skip_is_no_sum_of_terms():
    """f and g add into sums of their own, one after the other: g reads what f has added to."""
    (stream,) = streams(trace(Around(), torch.zeros(2, 4)))
    ends = {weight.name: branch.sum.name for branch in stream.branches for weight in branch.weights}
    assert (ends["f.1"], ends["g.1"]) == ("add", "add_1")
