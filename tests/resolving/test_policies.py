"""Heads that are sampled and scored: the mean is a head, linear, whatever the score of its own sample computes.

A head (3, 8) has std sqrt(2 / 11), and exp the gain 1 / sqrt(E[exp(2 z)]) = exp(-1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributions as D
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import autoinit, check, plan
from tests.shared.written_nets import Net, numbers, softmax, xavier

WIDTH, HIDDEN, ACTIONS = 6, 8, 3
BATCH = (numbers(4, WIDTH),)
Forward = Callable[[Any, Tensor], Any]


def policy(forward: Forward) -> Net:
    return Net(
        lambda net, x: forward(net, torch.tanh(net.body(x))),
        body=nn.Linear(WIDTH, HIDDEN),
        mean=nn.Linear(HIDDEN, ACTIONS),
        spread=nn.Linear(HIDDEN, ACTIONS),
        log_std=nn.Parameter(torch.zeros(ACTIONS)),
    )


def scored(made: D.Distribution, *, returned: bool = True) -> Any:
    action = made.rsample()
    score = made.log_prob(action)
    return (action, score) if returned else score


def by_hand(mean: Tensor, std: Any) -> Tensor:
    action = mean + std * torch.randn_like(mean)
    return (-0.5 * ((action - mean) / std) ** 2).sum(-1)


STEADY: dict[str, Forward] = {
    "sampled_and_scored": lambda net, h: scored(D.Normal(net.mean(h), net.log_std.exp())),
    "only_scored": lambda net, h: scored(D.Normal(net.mean(h), net.log_std.exp()), returned=False),
    "one": lambda net, h: scored(D.Normal(net.mean(h), 1.0), returned=False),
    "ones_like": lambda net, h: (lambda m: scored(D.Normal(m, torch.ones_like(m) * net.log_std.exp())))(net.mean(h)),
    "ones_like_only_scored": lambda net, h: (lambda m: scored(D.Normal(m, torch.ones_like(m)), returned=False))(
        net.mean(h)
    ),
    "softplus": lambda net, h: scored(D.Normal(net.mean(h), F.softplus(net.log_std)), returned=False),
    "by_hand": lambda net, h: by_hand(net.mean(h), net.log_std.exp()),
    "by_hand_one": lambda net, h: by_hand(net.mean(h), 1.0),
    "drawn": lambda net, h: (lambda m: (torch.normal(m, net.log_std.exp().expand_as(m)) - m).pow(2).sum(-1))(
        net.mean(h)
    ),
    "sampled": lambda net, h: (lambda d: d.log_prob(d.sample()).sum(-1))(D.Normal(net.mean(h), net.log_std.exp())),
}


@pytest.mark.parametrize("key", STEADY)
def test_a_mean_with_a_spread_of_its_own(key: str):
    """log_prob takes (a - mean)^2 of a = mean + std * noise: no square of what the head gives."""
    made = plan(policy(STEADY[key]), BATCH)["mean"]
    assert (made.nonlinearity, made.std) == ("linear", pytest.approx(xavier(HIDDEN, ACTIONS)))


MADE: dict[str, Callable[[Tensor, Tensor], D.Distribution]] = {
    "normal": D.Normal,
    "independent": lambda mean, std: D.Independent(D.Normal(mean, std), 1),
    "tanh_normal": lambda mean, std: D.TransformedDistribution(D.Normal(mean, std), [D.TanhTransform(cache_size=1)]),
    "full": lambda mean, std: D.MultivariateNormal(mean, torch.diag_embed(std)),
}


@pytest.mark.parametrize("key", MADE)
def test_a_mean_beside_a_head_for_the_spread(key: str):
    """Sample = mean + std * noise adds two signals: linear. log_std goes through exp."""
    made = plan(policy(lambda net, h: scored(MADE[key](net.mean(h), net.spread(h).exp()))), BATCH)
    assert (made["mean"].nonlinearity, made["mean"].std) == ("linear", pytest.approx(xavier(HIDDEN, ACTIONS)))
    assert (made["spread"].nonlinearity, made["spread"].gain) == ("exp", pytest.approx(math.exp(-1), rel=1e-4))


def test_soft_actor_critic():
    """Haarnoja et al. 2018: log_std is clamped, then exp; the sample goes through tanh, and so does the mean."""

    def forward(net: Any, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_std = net.mean(h), torch.clamp(net.spread(h), -20, 2)
        sample = D.Normal(mean, log_std.exp()).rsample()
        action = torch.tanh(sample)
        score = D.Normal(mean, log_std.exp()).log_prob(sample) - torch.log(1 - action.pow(2) + 1e-6)
        return action, score.sum(1, keepdim=True), torch.tanh(mean)

    made = plan(policy(forward), BATCH)
    assert {(each.nonlinearity, each.reason) for each in made["mean"].alternatives} == {
        ("linear", "add"),
        ("tanh", "activation"),
    }


def test_categories():
    """log_prob of logits is log_softmax."""
    model = policy(lambda net, h: (lambda d: (d.sample(), d.log_prob(d.sample())))(D.Categorical(logits=net.mean(h))))
    expected = softmax(HIDDEN, ACTIONS)
    made = plan(model, BATCH)["mean"]
    assert (made.nonlinearity, made.std) == (expected.nonlinearity, pytest.approx(expected.std))


def test_beta():
    """Both concentrations are softplus + 1."""
    model = policy(lambda net, h: scored(D.Beta(F.softplus(net.mean(h)) + 1, F.softplus(net.spread(h)) + 1)))
    made = plan(model, BATCH)
    assert [made[name].nonlinearity for name in ("mean", "spread")] == ["softplus", "softplus"]


def test_a_square_of_what_does_not_cancel_counts():
    """(2 mean - mean)^2 is a square of the mean: E[z^4] = 3."""
    made = plan(policy(lambda net, h: (lambda m: (2 * m - m).pow(2))(net.mean(h))), BATCH)["mean"]
    assert (made.nonlinearity, made.gain) == ("pow", pytest.approx(1 / math.sqrt(3), rel=1e-4))


PENALTIES: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {
    "variational": lambda net, mean, log: (-0.5 * (1 + log - mean.pow(2) - log.exp())).sum(1),
    "divergence": lambda net, mean, log: D.kl_divergence(
        D.Normal(mean, log.exp()), D.Normal(torch.zeros(ACTIONS), torch.ones(ACTIONS))
    ).sum(-1),
    "mean_square": lambda net, mean, log: mean.square().mean(),
    "absolute": lambda net, mean, log: mean.abs().sum(-1) * 0.01,
}


@pytest.mark.parametrize("key", PENALTIES)
def test_a_penalty_on_a_head_is_no_activation(key: str):
    """A square that is only summed up and returned says nothing of what the head should give."""

    def forward(net: Any, h: Tensor) -> Any:
        mean, log = net.mean(h), net.spread(h)
        return mean + torch.randn_like(mean) * (0.5 * log).exp(), PENALTIES[key](net, mean, log)

    made = plan(policy(forward), BATCH)["mean"]
    assert (made.nonlinearity, made.std) == ("linear", pytest.approx(xavier(HIDDEN, ACTIONS)))


def test_a_square_that_goes_on_is_one():
    """Behind a weight: E[z^4] = 3."""
    made = plan(policy(lambda net, h: F.linear(net.mean(h).pow(2), net.body.weight[:2, :ACTIONS])), BATCH)["mean"]
    assert (made.nonlinearity, made.gain) == ("pow", pytest.approx(1 / math.sqrt(3), rel=1e-4))


def test_a_small_head_for_the_mean_does_no_harm():
    """Gain 0.01, as PPO has it: the mean is an output, which may start small, scored or not."""
    model = policy(STEADY["sampled_and_scored"])
    autoinit(model, BATCH, seed=0, verbose=False)
    nn.init.orthogonal_(model.mean.weight, 0.01, generator=torch.Generator().manual_seed(0))
    assert plan(model, BATCH)["mean"].reason == "output"
    assert {str(each.severity) for each in check(model, BATCH).findings if each.layer == "mean"} <= {"info"}


def test_a_square_that_is_all_there_is_counts():
    """A factorisation machine's pairs (Rendle 2010), ((x V)^2 - x^2 V^2) / 2 summed: E[z^4] = 3."""
    model = Net(
        lambda net, x: 0.5 * ((x @ net.v) ** 2 - (x**2) @ (net.v**2)).sum(1), v=nn.Parameter(torch.randn(WIDTH, HIDDEN))
    )
    made = plan(model, BATCH)["v"]
    assert (made.nonlinearity, made.gain) == ("pow", pytest.approx(1 / math.sqrt(3), rel=1e-4))
