"""Where a wrong scale does less harm than elsewhere, or none: heads that are sampled, zeros before a layer, gates."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, OneHotCategorical

from autoinit.checking.checker import check
from autoinit.checking.findings import Finding

WIDTH = 64


def found(model: nn.Module, inputs: tuple[int, ...], param: str) -> list[Finding]:
    """The findings about the scale of one weight."""
    return [each for each in check(model, torch.randn(inputs), select=["INI1"]).findings if each.param == param]


class Policy(nn.Module):
    """A hidden layer, and logits of which actions are drawn; a critic's weight behind them if wanted."""

    def __init__(self, act: Callable[[Tensor], object], gain: float) -> None:
        super().__init__()
        self.body, self.pi, self.act = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 6), act
        nn.init.orthogonal_(self.body.weight, 5 / 3)
        nn.init.orthogonal_(self.pi.weight, gain)

    def forward(self, x: Tensor) -> object:
        return self.act(self.pi(self.body(x).tanh()))


def _draw_and_score(z: Tensor) -> tuple[Tensor, ...]:
    actions = Categorical(logits=z)
    drawn = actions.sample()
    return drawn, actions.log_prob(drawn), actions.entropy()


SAMPLED: dict[str, Callable[[Tensor], object]] = {
    "drawn and scored": _draw_and_score,
    "drawn": lambda z: Categorical(logits=z).sample(),
    "drawn by probabilities": lambda z: Categorical(z.softmax(-1)).sample(),
    "one-hot": lambda z: OneHotCategorical(logits=z).sample(),
    "multinomial": lambda z: torch.multinomial(z.softmax(-1), 1),
    "several yes or no": lambda z: Bernoulli(logits=z).sample(),
    "yes or no by hand": lambda z: torch.bernoulli(torch.sigmoid(z)),
    "the best": lambda z: z.argmax(-1),
}


@pytest.mark.parametrize("act", SAMPLED.values(), ids=SAMPLED)
def test_a_policy_head_whose_actions_are_drawn_is_a_head(act):
    """Orthogonal of gain 0.01, as PPO's policies start (Andrychowicz et al. 2021): nearly even odds, no harm.

    It calls for 1 / sqrt(64) = 0.125 and has 0.01 / sqrt(64): 0.01 times, so that it is told, as an info. A hundred
    times too large, the odds saturate: an error.
    """
    (small,) = found(Policy(act, 0.01), (4, WIDTH), "pi.weight")
    assert small.severity == "info"
    assert "which does no harm" in small.message
    (large,) = found(Policy(act, 100.0), (4, WIDTH), "pi.weight")
    assert large.severity == "error"


def test_a_layer_whose_signal_goes_on_to_a_weight_beside_the_draw_is_no_head():
    class Valued(nn.Module):
        def __init__(self):
            super().__init__()
            self.policy, self.value = Policy(lambda z: z, 0.01), nn.Linear(6, 6, bias=False)
            nn.init.normal_(self.value.weight, std=6**-0.5)

        def forward(self, x):
            z = self.policy(x)
            return Categorical(logits=z).sample(), self.value(z)

    (finding,) = found(Valued(), (4, WIDTH), "policy.pi.weight")
    assert finding.severity == "error"


class Adapter(nn.Module):
    """base(x) + B A x, A zero or at 1 / sqrt(64), B 6 times the 1 / sqrt(8) that its fan calls for."""

    def __init__(self, spelling: Callable[[Tensor, Tensor, Tensor], Tensor], zero: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.base, self.last = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.a = nn.Parameter(torch.zeros(8, WIDTH) if zero else torch.randn(8, WIDTH) / 8)
        self.b = nn.Parameter(torch.randn(WIDTH, 8) * 6 / math.sqrt(8))
        self.spelling = spelling
        for layer in (self.base, self.last):
            nn.init.normal_(layer.weight, std=1 / 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.base(x) + self.spelling(x, self.a, self.b))


ADAPTED: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "linear": lambda x, a, b: F.linear(F.linear(x, a), b),
    "transposed": lambda x, a, b: (x @ a.T @ b.transpose(0, 1)) * 2.0,
    "behind an activation": lambda x, a, b: F.linear(F.linear(x, a).tanh(), b),
}


@pytest.mark.parametrize("spelling", ADAPTED.values(), ids=ADAPTED)
def test_a_zero_that_feeds_a_layer_mutes_it(spelling):
    """B 0 = 0 whatever B's scale: a warning. Beside an A that is not zero, six times too large is an error."""
    (muted,) = found(Adapter(spelling, zero=True), (4, WIDTH), "b")
    assert muted.severity == "warning"
    assert "once the zeros that feed it have left" in muted.message
    (heard,) = found(Adapter(spelling, zero=False), (4, WIDTH), "b")
    assert heard.severity == "error"


MUTED: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "rezero": lambda x, b, g: g[0] * F.linear(x, b),
    "layer scale": lambda x, b, g: (x @ b.T).mul(g),
    "gate of tanh": lambda x, b, g: F.linear(x, b) * torch.tanh(g[:1]),
    "diagonal": lambda x, b, g: F.linear(x, b) @ torch.diag(g),
    "in one einsum": lambda x, b, g: torch.einsum("bi,oi,o->bo", x, b, g),
    "two weights in one einsum": lambda x, b, g: torch.einsum("bi,oi,po->bp", x, b, torch.diag(g)),
}


@pytest.mark.parametrize("spelling", MUTED.values(), ids=MUTED)
@pytest.mark.parametrize("zero", [True, False])
def test_a_zero_factor_behind_a_layer_mutes_it(spelling, zero):
    """0 (B x) = 0 whatever B's scale: a warning. Where the factor is 1, six times 1 / sqrt(64) is an error."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
            self.b = nn.Parameter(torch.randn(WIDTH, WIDTH) * 6 / 8)
            self.g = nn.Parameter(torch.full((WIDTH,), 1.0 - zero))
            for layer in (self.first, self.last):
                nn.init.normal_(layer.weight, std=1 / 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(x + spelling(self.first(x), self.b, self.g))

    torch.manual_seed(0)
    (finding,) = found(Scaled(), (4, WIDTH), "b")
    assert (finding.severity, "starts at zero" in finding.message) == (("warning", True) if zero else ("error", False))


def test_a_bias_behind_a_zero_weight_is_a_signal_that_feeds_the_next_layer():
    """B (0 x + c) = B c is not zero: B's scale does what it does elsewhere."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(3)))
    nn.init.zeros_(model[0].weight)
    nn.init.ones_(model[0].bias)
    nn.init.normal_(model[1].weight, std=6 / 8)
    (finding,) = found(model, (4, WIDTH), "1.weight")
    assert finding.severity == "error"


class Recurrent(nn.Module):
    """A recurrent layer and a head."""

    def __init__(self, kind: type[nn.RNNBase], factor: float) -> None:
        super().__init__()
        self.rnn, self.head = kind(WIDTH, WIDTH, batch_first=True), nn.Linear(WIDTH, 2)
        torch.manual_seed(0)
        nn.init.normal_(self.rnn.weight_ih_l0, std=factor / 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_gates_of_a_recurrent_layer_do_not_multiply_as_layers_do(kind):
    """1 / sqrt(64) is called for before a sigmoid. Three times it, the gate, which is bounded, saturates: a warning.

    Ten times it, beyond the factor of five up to which bounds limit the harm, is an error. tanh's rows allow up to
    5/3 of it, so that they are off by less; none says that layers multiply.
    """
    for factor, severity in ((3, "warning"), (10, "error"), (0.1, "warning")):
        findings = found(Recurrent(kind, factor), (2, 5, WIDTH), "rnn.weight_ih_l0")
        assert {each.severity for each in findings} == {severity}, factor
        assert all("a gate, which is bounded" in each.message for each in findings)
        assert not any("layers of this kind multiply" in each.message for each in findings)


def test_a_recurrent_layer_without_gates_multiplies():
    findings = found(Recurrent(nn.RNN, 0.1), (2, 5, WIDTH), "rnn.weight_ih_l0")
    assert [each.severity for each in findings] == ["error"]
    assert "layers of this kind multiply" in findings[0].message


NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "of torch": lambda x: F.layer_norm(x, (64,)),
    "F.normalize": lambda x: F.normalize(x, dim=-1) * 8,
    "by its length": lambda x: 8 * x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12),
    "rms": lambda x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6),
    "layer norm": lambda x: (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt(),
}


class _NormedTwoOn(nn.Module):
    def __init__(self, norm: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.head, self.norm = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64), norm
        for layer in (self.first, self.second, self.head):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.first.weight, std=0.05)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.second(torch.relu(self.first(x))))))


@pytest.mark.parametrize("spelling", NORMS)
def test_a_norm_further_on_takes_the_scale_away_however_it_is_written(spelling):
    """std 0.05 for sqrt(2 / 64) = 0.177 is 3.5 times too small, beyond 2 and within 10: a warning before a norm."""
    (found,) = (each for each in check(_NormedTwoOn(NORMS[spelling]), (2, 64)).findings if each.layer == "first")
    assert (found.severity.name, "until a norm further on" in found.message) == ("WARNING", True)
    (found,) = (each for each in check(_NormedTwoOn(lambda x: x), (2, 64)).findings if each.layer == "first")
    assert (found.severity.name, "further on" in found.message) == ("ERROR", False)
