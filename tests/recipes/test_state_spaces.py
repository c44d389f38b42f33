"""Mamba's recipe on state spaces as people write them: the state matrix, the skip and the steps, by what they do."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import autoinit

STATES, INNER, RANK = 8, 256, 2
WORDS = torch.ones(2, 3, 16)


class Block(nn.Module):
    """A selective scan, step by step; names say nothing."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.norm, self.inward = nn.RMSNorm(width), nn.Linear(width, 2 * INNER, bias=False)
        self.conv = nn.Conv1d(INNER, INNER, 4, groups=INNER, padding=3)
        self.select, self.step = nn.Linear(INNER, RANK + 2 * STATES, bias=False), nn.Linear(RANK, INNER)
        self.p, self.q = nn.Parameter(torch.zeros(INNER, STATES)), nn.Parameter(torch.zeros(INNER))
        self.outward = nn.Linear(INNER, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        signal, gate = self.inward(self.norm(x)).chunk(2, -1)
        signal = F.silu(self.conv(signal.mT)[..., : x.shape[1]].mT)
        step, write, read = self.select(signal).split([RANK, STATES, STATES], -1)
        return x + self.outward(self.scan(signal, self.steps(step), write, read) * F.silu(gate))

    def steps(self, x: Tensor) -> Tensor:
        return F.softplus(self.step(x))

    def decayed(self, steps: Tensor) -> Tensor:
        return torch.exp(torch.einsum("bld,dn->bldn", steps, -torch.exp(self.p.float())))

    def scan(self, signal: Tensor, steps: Tensor, write: Tensor, read: Tensor) -> Tensor:
        kept, state = self.decayed(steps), signal.new_zeros(signal.shape[0], INNER, STATES)
        entering = (steps * signal)[..., None] * write[:, :, None]
        seen = []
        for at in range(signal.shape[1]):
            state = kept[:, at] * state + entering[:, at]
            seen.append((state * read[:, at, None]).sum(-1))
        return torch.stack(seen, 1) + signal * self.q


class Broadcast(Block):
    """The same by broadcasting, the bias added by hand, the sign behind the product."""

    def steps(self, x: Tensor) -> Tensor:
        return F.softplus(F.linear(x, self.step.weight) + self.step.bias)

    def decayed(self, steps: Tensor) -> Tensor:
        return (-(steps.unsqueeze(-1) * self.p.exp())).exp()


class Matmul(Block):
    """Steps by `weight @ x`, softplus as log1p(exp), the bias added behind the product."""

    def steps(self, x: Tensor) -> Tensor:
        return torch.log1p(torch.exp((self.step.weight @ x.mT + self.step.bias[:, None]).mT))


@pytest.mark.parametrize("kind", [Block, Broadcast, Matmul])
def test_the_state_space_is_written(kind: type[Block]):
    """Steps are log-uniform from 0.001 to 0.1: their logarithm has mean log 0.01 and std log(100) / sqrt(12).

    Of 512 steps the mean is off by 1 / sqrt(512) of that, five of them; the std by 0.45 of it (kurtosis 9/5).
    """
    model = nn.Sequential(kind(), kind())
    report = autoinit.autoinit(model, WORDS, recipe="mamba", seed=0, verbose=False, zeros="reset")
    assert report.plan.others == ()
    for block in model:
        torch.testing.assert_close(block.p.data, torch.arange(1, STATES + 1).log().expand(INNER, STATES))
        assert bool((block.q == 1).all())
    steps = F.softplus(torch.cat([block.step.bias.detach() for block in model]).double()).log()
    assert math.log(0.001) <= steps.min() < steps.max() <= math.log(0.1)
    spread = math.log(100) / math.sqrt(12)
    assert steps.mean().item() == pytest.approx(math.log(0.01), abs=5 * spread / math.sqrt(512))
    assert steps.std().item() == pytest.approx(spread, rel=5 * 0.45 / math.sqrt(512))
    assert " ".join(str(report).split()).count("decay 2 (log 1, log 2, ...)") == 1
    assert autoinit.Plan.from_json(report.plan.to_json()) == report.plan
    told = autoinit.check(model, WORDS, recipe="mamba").findings
    assert [str(each) for each in told if "by the recipe" in each.message or each.severity != "info"] == []


def test_a_state_space_that_strays_is_told_with_what_mends_it():
    """Each state's number at another place, and steps from 0.01 to 1; the fixes, run as they are, mend both."""
    model = nn.Sequential(Block(), Block())
    autoinit.autoinit(model, WORDS, recipe="mamba", seed=0, verbose=False, zeros="reset")
    with torch.no_grad():
        model[0].p.copy_(model[0].p.flip(-1))
        model[1].step.bias.add_(math.log(10))
    told = {each.param: each for each in autoinit.check(model, WORDS, recipe="mamba", select=["INI203"]).findings}
    assert set(told) == {"0.p", "1.step.bias"}
    with torch.no_grad():
        for each in told.values():
            exec(each.fix, {"model": model, "torch": torch, "nn": nn})
    assert autoinit.check(model, WORDS, recipe="mamba", select=["INI203"]).findings == ()


def test_one_decay_for_each_head_is_kept():
    """Mamba-2's: a number for a head, of which this recipe says nothing."""

    class Heads(Block):
        def __init__(self) -> None:
            super().__init__()
            self.p = nn.Parameter(torch.zeros(INNER))

        def decayed(self, steps: Tensor) -> Tensor:
            return torch.exp(-steps * self.p.exp())[..., None]

    made = autoinit.plan(nn.Sequential(Heads(), Heads()), WORDS, recipe="mamba", zeros="reset")
    assert {each.name: each.kind for each in made.others} == {"0.p": "decay", "1.p": "decay"}


def test_an_exponential_that_scales_is_no_decay():
    """CLIP's temperature, and the power of a noise: exp(parameter) times a signal, of which no exponential is taken."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(16, 8), nn.Linear(8, 16)
            self.heat, self.power = nn.Parameter(torch.zeros([])), nn.Parameter(torch.zeros(4, 8))

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.up(x)[..., None, :] * self.power.exp()).sum(-2)
            return (self.down(x) * self.heat.exp()).softmax(-1)

    made = autoinit.plan(Scaled(), WORDS, recipe="mamba")
    assert {each.name: each.kind for each in made.others} == {"heat": "other", "power": "other"}
