"""Zero weights: those that learn pass, those that no gradient can ever leave are named.

Beside the hand-derived verdicts stands an oracle: a weight is stuck if and only if it is still zero after a few steps
of gradient descent on real data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from autoinit.checking._dead import silent_tables, stuck_zeros
from autoinit.tracing import trace
from tests.shared.rule_checks import findings

WIDTH = 6


def zero(*parameters: nn.Parameter | None) -> None:
    for parameter in parameters:
        if parameter is not None:
            nn.init.zeros_(parameter)


def linear(bias: float | None = 0.0, out: int = WIDTH) -> nn.Linear:
    made = nn.Linear(WIDTH, out, bias=bias is not None)
    nn.init.normal_(made.weight)
    if bias is not None:
        nn.init.constant_(made.bias, bias)
    return made


class Lora(nn.Module):
    """W x + B A x."""

    def __init__(self, a: bool, b: bool):
        super().__init__()
        self.base, self.a, self.b = linear(), linear(None), linear(None)
        if a:
            zero(self.a.weight)
        if b:
            zero(self.b.weight)

    def forward(self, x):
        return self.base(x) + self.b(self.a(x))


class Hidden(nn.Module):
    """A zero hidden layer under an activation."""

    def __init__(self, act: Callable, bias: float = 0.0, last: bool = False):
        super().__init__()
        self.first, self.second, self.act = linear(bias), linear(), act
        zero(self.first.weight)
        if last:
            zero(self.second.weight)

    def forward(self, x):
        return self.second(self.act(self.first(x)))


class AdaLn(nn.Module):
    """DiT: shift, scale and gate from one zero projection of the condition; the branch ends as `branch` says."""

    def __init__(self, branch: bool):
        super().__init__()
        self.modulation, self.inner, self.outer, self.head = linear(out=3 * WIDTH), linear(), linear(), linear()
        zero(self.modulation.weight, self.modulation.bias)
        if branch:
            zero(self.outer.weight, self.outer.bias)
        zero(self.head.weight, self.head.bias)

    def forward(self, x):
        shift, scale, gate = self.modulation(F.silu(x)).chunk(3, dim=-1)
        branch = self.outer(F.gelu(self.inner(F.layer_norm(x, (WIDTH,)) * (1 + scale) + shift)))
        return self.head(x + gate * branch)


class ControlNet(nn.Module):
    """A copy of the encoder between zero convolutions, added to the frozen way."""

    def __init__(self):
        super().__init__()
        self.before, self.copy, self.after = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        zero(self.before.weight, self.before.bias, self.after.weight, self.after.bias)

    def forward(self, x):
        return x + self.after(F.silu(self.copy(x + self.before(x))))


class Scaled(nn.Module):
    """A branch times a learnable scale: ReZero, LayerScale, SkipInit."""

    def __init__(self, scale: float, branch: bool):
        super().__init__()
        self.scale = nn.Parameter(torch.full((WIDTH,), scale))
        self.inner, self.outer = linear(), linear()
        if branch:
            zero(self.outer.weight, self.outer.bias)

    def forward(self, x):
        return x + self.scale * self.outer(torch.tanh(self.inner(x)))


class ZeroNorm(nn.Module):
    """The last norm of a branch has gain zero; `behind` is what follows it."""

    def __init__(self, behind: Callable, skip: bool):
        super().__init__()
        self.inner, self.norm, self.outer = linear(), nn.LayerNorm(WIDTH), linear()
        self.behind, self.skip = behind, skip
        zero(self.norm.weight)

    def forward(self, x):
        branch = self.behind(self.norm(self.inner(x)))
        return self.outer(x + branch if self.skip else branch)


class Attention(nn.Module):
    """Queries and keys by their own projections; those named are zero."""

    def __init__(self, *zeros: str, fused: bool):
        super().__init__()
        self.q, self.k, self.v, self.out = linear(), linear(), linear(), linear()
        self.fused = fused
        for name in zeros:
            zero(getattr(self, name).weight)

    def forward(self, x):
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.fused:
            return self.out(F.scaled_dot_product_attention(q, k, v))
        return self.out(torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(WIDTH), -1) @ v)


class Dense(nn.Module):
    """DenseNet: what a layer makes is put beside its input, and the next layer begins with a norm and a rectifier.

    `between` keeps features apart, and gives `features` of them.
    """

    def __init__(self, rectified: bool, shift: float = 0.0, between: Callable = lambda x: x, features: int = 8):
        super().__init__()
        self.grow, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(features)
        self.next = nn.Conv2d(features, 4, 1)
        self.rectified, self.between = rectified, between
        zero(self.grow.weight, self.grow.bias)
        nn.init.constant_(self.norm.bias, shift)

    def forward(self, x):
        together = self.between(torch.cat([x, self.grow(x)], dim=1))
        return self.next(F.relu(self.norm(together)) if self.rectified else together)


class Pair(nn.Module):
    """W x + B A x, with bare parameters; those named are zero, and `branch` spells how they are applied."""

    def __init__(self, branch: Callable, *zeros: str):
        super().__init__()
        self.base, self.branch = linear(), branch
        self.a, self.b = (nn.Parameter(torch.randn(WIDTH, WIDTH)) for _ in range(2))
        for name in zeros:
            zero(getattr(self, name))

    def forward(self, x):
        return self.branch(x, self.base, self.a, self.b)


PAIRS: dict[str, Callable] = {
    "by linear": lambda x, base, a, b: base(x) + F.linear(F.linear(x, a), b),
    "by transposed products, as loralib": lambda x, base, a, b: base(x) + (x @ a.transpose(0, 1) @ b.T) * 2.0,
    "cast and scaled on its way": lambda x, base, a, b: base(x) + F.linear(F.linear(x, a.to(x)), (b * 2).to(x.dtype)),
    "in the weight": lambda x, base, a, b: F.linear(x, base.weight + b @ a * 0.5, base.bias),
    "by einsum": lambda x, base, a, b: base(x) + torch.einsum("nti,oi->nto", torch.einsum("nti,oi->nto", x, a), b),
    "by addmm": lambda x, base, a, b: torch.baddbmm(base(x), x @ a.t(), b.t().expand(3, -1, -1)),
    "by convolutions over time": lambda x, base, a, b: base(x) + torch.conv_tbc(
        torch.conv_tbc(x, a[None], x.new_zeros(WIDTH)), b[None], x.new_zeros(WIDTH)),
}  # fmt: skip


class Places(nn.Module):
    """SAM: queries meet tables that are zero, indexed by relative place, beside the keys."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.out = linear(), linear(), linear()
        self.near, self.far = (nn.Parameter(torch.zeros(9, WIDTH)) for _ in range(2))

    def forward(self, x):
        q, places = self.q(x), torch.arange(5)[:, None] - torch.arange(5)[None, :] + 4
        logits = q @ self.k(x).transpose(-2, -1)
        for table in (self.near, self.far):
            logits = logits + torch.einsum("nqc,qkc->nqk", q, table[places])
        return self.out(torch.softmax(logits, -1) @ x)


class Opened(nn.Module):
    """Flamingo: a branch times the tanh of a number that starts at zero; what ends the branch may be zero too."""

    def __init__(self, branch: bool, squash: Callable = torch.tanh):
        super().__init__()
        self.opening, self.outer, self.squash = nn.Parameter(torch.zeros(1)), linear(), squash
        if branch:
            zero(self.outer.weight, self.outer.bias)

    def forward(self, x):
        return x + self.squash(self.opening) * self.outer(torch.tanh(x))


class Both(nn.Module):
    """Two parts in a row, each beside a skip connection."""

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class BehindZeroStates(nn.Module):
    """A zero head behind a recurrent layer whose states and biases are zero, as modules, cells and functions."""

    def __init__(self, spelling: str):
        super().__init__()
        kind = {"module": nn.LSTM, "function": nn.LSTM, "cell": nn.GRUCell}[spelling]
        self.spelling, self.inner, self.head = spelling, kind(WIDTH, WIDTH), linear(None)
        zero(self.head.weight, *(each for name, each in self.inner.named_parameters() if "bias" in name))

    def forward(self, x):
        state = x.new_zeros(1, x.shape[1], WIDTH)
        if self.spelling == "cell":
            inner = torch.stack([self.inner(step, state[0]) for step in x])
        elif self.spelling == "module":
            inner = self.inner(x, (state, state))[0]
        else:
            weights = list(self.inner.parameters())
            inner = torch.lstm(x, (state, state), weights, True, 1, 0.0, False, False, False)[0]
        return self.head(inner)


class BehindAttention(nn.Module):
    """A zero head behind attention as one function, with zero biases."""

    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.MultiheadAttention(WIDTH, 1), linear(None)
        zero(self.head.weight)

    def forward(self, x):
        fused, out = self.inner.in_proj_weight, self.inner.out_proj
        made = F.multi_head_attention_forward(
            x, x, x, WIDTH, 1, fused, self.inner.in_proj_bias, None, None, False, 0.0, out.weight, out.bias
        )
        return self.head(made[0])


CASES: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "lora": (lambda: Lora(False, True), set()),
    "head behind lstm": (lambda: BehindZeroStates("module"), set()),
    "head behind torch.lstm": (lambda: BehindZeroStates("function"), set()),
    "head behind a gru cell": (lambda: BehindZeroStates("cell"), set()),
    "head behind attention": (BehindAttention, set()),
    "lora, the other factor": (lambda: Lora(True, False), set()),
    "lora, both factors": (lambda: Lora(True, True), {"a.weight", "b.weight"}),
    "zero before relu": (lambda: Hidden(F.relu), {"first.weight"}),
    "zero before relu that a bias opens": (lambda: Hidden(F.relu, 0.5), set()),
    "zero before relu that a bias shuts": (lambda: Hidden(nn.ReLU(), 0.0), {"first.weight"}),
    "zero before relu that a number opens": (lambda: Hidden(lambda x: F.relu(x + 0.5)), set()),
    "zero before relu that no number opens": (lambda: Hidden(lambda x: F.relu(x + 0)), {"first.weight"}),
    "zero before tanh": (lambda: Hidden(torch.tanh), set()),
    "zero before gelu": (lambda: Hidden(nn.GELU()), set()),
    "zero before leaky_relu": (lambda: Hidden(nn.LeakyReLU(0.1)), set()),
    "zero before squared relu": (lambda: Hidden(lambda x: F.relu(x) ** 2), {"first.weight"}),
    "two zeros in a row": (lambda: Hidden(torch.tanh, last=True), {"first.weight", "second.weight"}),
    "two zeros in a row, with a bias between": (lambda: Hidden(torch.tanh, 0.5, last=True), set()),
    "adaLN-zero": (lambda: AdaLn(False), set()),
    "adaLN-zero on a zero branch": (lambda: AdaLn(True), {"modulation.weight", "outer.weight"}),
    "controlnet": (ControlNet, set()),
    "rezero": (lambda: Scaled(0.0, False), set()),
    "zero branch end": (lambda: Scaled(1.0, True), set()),
    "rezero on a zero branch": (lambda: Scaled(0.0, True), {"scale", "outer.weight"}),
    "zero gain in a residual branch": (lambda: ZeroNorm(lambda x: x, True), set()),
    "zero gain before relu": (lambda: ZeroNorm(F.relu, False), {"norm.weight"}),
    "zero gain before tanh": (lambda: ZeroNorm(torch.tanh, False), set()),
    "zero beside others, before norm and relu": (lambda: Dense(True), {"grow.weight"}),
    "zero beside others, before norm and relu that a bias opens": (lambda: Dense(True, 0.5), set()),
    "zero beside others, before a pooling, norm and relu": (
        lambda: Dense(True, between=lambda x: F.avg_pool2d(x, 3, 1, 1)), {"grow.weight"}),
    "zero beside others, before a cast, norm and relu": (
        lambda: Dense(True, between=lambda x: x.double().float()), {"grow.weight"}),
    "zero beside others and beside more, before norm and relu": (
        lambda: Dense(True, between=lambda x: torch.cat([x, torch.ones(3, 4, 5, 5)], dim=1), features=12),
        {"grow.weight"}),
    "zero beside others": (lambda: Dense(False), set()),
    "zero queries": (lambda: Attention("q", fused=False), set()),
    "zero queries, fused": (lambda: Attention("q", fused=True), set()),
    "zero queries and keys": (lambda: Attention("q", "k", fused=False), {"q.weight", "k.weight"}),
    "zero queries and keys, fused": (lambda: Attention("q", "k", fused=True), {"q.weight", "k.weight"}),
    "zero values": (lambda: Attention("v", fused=True), set()),
    "zero values and output": (lambda: Attention("v", "out", fused=True), {"v.weight", "out.weight"}),
    **{f"pair {how}, second zero": (partial(Pair, branch, "b"), set()) for how, branch in PAIRS.items()},
    **{f"pair {how}, first zero": (partial(Pair, branch, "a"), set()) for how, branch in PAIRS.items()},
    **{f"pair {how}, both zero": (partial(Pair, branch, "a", "b"), {"a", "b"}) for how, branch in PAIRS.items()},
    "pair of factors": (partial(Pair, lambda x, base, a, b: base(x) + x * (a[0] * b[0]), "a", "b"), {"a", "b"}),
    "tables by relative place": (Places, set()),
    "opened by tanh": (lambda: Opened(False), set()),
    "opened by tanh on a zero branch": (lambda: Opened(True), {"opening", "outer.weight"}),
    "opened by relu, which is shut": (lambda: Opened(False, F.relu), {"opening"}),
}  # fmt: skip


def inputs(model: nn.Module) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(3, 4, 5, 5) if isinstance(model, ControlNet | Dense) else torch.randn(3, 5, WIDTH)


def zero_names(model: nn.Module) -> set[str]:
    return {name for name, each in model.named_parameters() if not each.any()}


@pytest.mark.parametrize("name", CASES)
def test_ini003_names_what_is_stuck_and_passes_what_is_not(name: str):
    build, expected = CASES[name]
    torch.manual_seed(0)
    model = build()
    zeros = zero_names(model)
    found = {each.param for each in stuck_zeros(trace(model, inputs(model)), zeros.__contains__)}
    assert found == expected


@pytest.mark.parametrize("name", CASES)
def test_ini003_passes_what_training_moves(name: str):
    """Four steps of gradient descent."""
    torch.manual_seed(0)
    model = CASES[name][0]()
    weights = dict(model.named_parameters())
    zeros = {key for key in zero_names(model) if "bias" not in key}
    found = {each.param for each in stuck_zeros(trace(model, inputs(model)), zero_names(model).__contains__)}
    data = inputs(model)
    target = torch.randn_like(data)
    for _ in range(4):
        gradients = torch.autograd.grad(F.mse_loss(model(data), target), list(weights.values()), allow_unused=True)
        with torch.no_grad():
            for weight, gradient in zip(weights.values(), gradients, strict=True):
                if gradient is not None:
                    weight -= 0.05 * gradient
    assert found == {key for key in zeros if not weights[key].any()}


def test_ini003_names_each_of_two_dead_pairs_beside_its_own_factors():
    """One pair of layers and one of bare parameters, linked by nothing but a nonlinearity: four zeros, two findings."""
    torch.manual_seed(0)
    model = Both(Lora(True, True), Pair(PAIRS["by linear"], "a", "b"))
    found = {each.param: each.message for each in findings("INI003", model, torch.randn(3, 5, WIDTH))}
    assert set(found) == {"first.a.weight", "second.a"}
    assert "Zero and stuck beside it: first.b.weight. " in found["first.a.weight"]
    assert "Zero and stuck beside it: second.b. " in found["second.a"]


def test_ini003_names_both_of_a_pair_of_factors_beside_another_pair():
    torch.manual_seed(0)
    factors = Pair(lambda x, base, a, b: base(x) + x * (a[0] * b[0]), "a", "b")
    found = {each.param for each in findings("INI003", Both(Lora(True, True), factors), torch.randn(3, 5, WIDTH))}
    assert found == {"first.a.weight", "second.a", "second.b"}


class Tokens(nn.Module):
    def __init__(self, positions: bool):
        super().__init__()
        self.tokens, self.positions, self.inner = nn.Embedding(9, WIDTH), None, linear()
        zero(self.tokens.weight)
        if positions:
            self.positions = nn.Parameter(torch.randn(5, WIDTH))

    def forward(self, ids):
        x = self.tokens(ids)
        return self.inner(F.layer_norm(x if self.positions is None else x + self.positions, (WIDTH,)))


def test_ini101_names_an_embedding_that_is_the_only_signal():
    model = Tokens(False)
    found = silent_tables(trace(model, torch.zeros(2, 5, dtype=torch.int64)), zero_names(model).__contains__)
    assert [param for param, _ in found] == ["tokens.weight"]


def test_ini101_passes_an_embedding_beside_another_signal():
    model = Tokens(True)
    assert not silent_tables(trace(model, torch.zeros(2, 5, dtype=torch.int64)), zero_names(model).__contains__)
