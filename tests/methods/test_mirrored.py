"""`method="mirrored"`: at the start a network equals the linear map that its matrices make, and loses no direction."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoinit import Plan, autoinit, plan
from autoinit.errors import ArgumentError
from autoinit.methods._taps import share_through_taps
from autoinit.plans.mirror import FeatureRun, Taps
from autoinit.tracing import trace

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def mlp(activation: Callable[[], nn.Module], depth: int = 12, width: int = 32, inputs: int = 16) -> nn.Sequential:
    sizes = [inputs, *[width] * (depth - 1), 8]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


def mirrored(model: nn.Module, *shape: int, **options: object) -> Plan:
    """Plan and write, on inputs of a shape."""
    made = plan(model, torch.zeros(shape), method="mirrored", **options)
    made.apply(model, seed=0, force=True)
    return made


def jacobian(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Of one sample."""
    return torch.autograd.functional.jacobian(lambda one: model(one[None])[0], x).reshape(-1, x.numel())


def assert_linear(model: Callable[[Tensor], Tensor], *shape: int) -> Tensor:
    """f(x) = J x with one J for all x; gives J."""
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(shape[1:], generator=generator) for _ in range(2))
    here, there = jacobian(model, x), jacobian(model, y)
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(model(x[None]).flatten(), here @ x.flatten(), rtol=1e-4, atol=1e-5)
    return here


def assert_additive(model: nn.Module, *shape: int) -> None:
    """f(2 x - y) = 2 f(x) - f(y), in double precision, and f is not constant."""
    x, y = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        here, there, between = (model.double()(each) for each in (x, y, 2 * x - y))
    torch.testing.assert_close(between, 2 * here - there, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(here, there, atol=0.01)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_deep_network_is_an_isometry_of_its_smallest_width(name: str) -> None:
    """16 inputs, 32 units in 16 pairs, 8 outputs, and c = 1 for all three: J is 8 x 16 with orthonormal rows.

    The first matrix is 16 x 16 over the root of the input's second moment, which is 1 up to chance in the surrogates.
    """
    model = mlp(ACTIVATIONS[name])
    made = mirrored(model, 4, 16)
    assert all(layer.mirror is not None for layer in made.layers)
    torch.testing.assert_close(torch.linalg.svdvals(assert_linear(model, 4, 16)), torch.ones(8), rtol=1e-4, atol=0)


@pytest.mark.parametrize("distribution", ["orthogonal", "normal"])
def test_what_is_gated_and_its_gate_have_a_matrix_each(distribution: str) -> None:
    """u sigmoid(v) of pairs is u: the network at the start is the product of the u halves, so each must be orthogonal,
    not only the 32 x 16 matrix of both. 30 layers, 16 pairs, 8 outputs: J is 8 x 16 with orthonormal rows."""
    gates = [each for _ in range(30) for each in (nn.Linear(32, 64), nn.GLU())]
    model = nn.Sequential(nn.Linear(16, 64), nn.GLU(), *gates, nn.Linear(32, 8))
    mirrored(model, 4, 16, distribution=distribution)
    jacobian = assert_linear(model, 4, 16)
    inner = model[2].weight.detach()
    values, gate = inner[:16, :16], inner[32:48, :16]
    if distribution == "orthogonal":
        torch.testing.assert_close(torch.linalg.svdvals(jacobian), torch.ones(8), rtol=1e-4, atol=0)
        torch.testing.assert_close(values @ values.T, torch.eye(16, dtype=values.dtype), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(gate @ gate.T, torch.eye(16, dtype=gate.dtype), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(values, gate, atol=0.1)


class InTurn(nn.Module):
    """Runs of `turn` features and of their gates take turns."""

    def __init__(self, turn: int) -> None:
        super().__init__()
        self.turn = turn

    def forward(self, x: Tensor) -> Tensor:
        values, gates = x.unflatten(-1, (-1, 2, self.turn)).unbind(-2)
        return (values * torch.sigmoid(gates)).flatten(-2)


@pytest.mark.parametrize("turn", [1, 4, 8])
def test_gates_between_what_they_gate_have_a_matrix_of_their_own(turn: int) -> None:
    """As above: 16 pairs through 30 layers, J is 8 x 16 with orthonormal rows, whatever rows the gates stand in."""
    gates = [each for _ in range(30) for each in (nn.Linear(32, 64), InTurn(turn))]
    model = nn.Sequential(nn.Linear(16, 64), InTurn(turn), *gates, nn.Linear(32, 8))
    mirrored(model, 4, 16)
    torch.testing.assert_close(torch.linalg.svdvals(assert_linear(model, 4, 16)), torch.ones(8), rtol=1e-4, atol=0)


def test_a_depthwise_convolution_between_two_nonlinearities_keeps_the_power() -> None:
    """relu(p relu(z)) - relu(p relu(-z)) = p z for a tap p > 0: of power 1 behind 10 such, without padding."""
    layers = [
        each
        for _ in range(5)
        for each in (nn.Conv1d(32, 32, 3, groups=32), nn.ReLU(), nn.Conv1d(32, 32, 1, bias=False), nn.ReLU())
    ]
    model = nn.Sequential(nn.Conv1d(16, 32, 1), nn.ReLU(), *layers, nn.Conv1d(32, 16, 1))
    made = mirrored(model, 64, 16, 40)
    assert made["2"].mirror.positive
    assert not made["4"].mirror.positive
    x = torch.randn(64, 16, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert model(x).square().mean().item() == pytest.approx(1, rel=0.05)


def test_numbers_around_a_depthwise_convolution_are_made_up_for() -> None:
    """gelu(3 b(2 gelu(z))): one tap of 1 / 6, so that the second GELU gets what the first gives."""
    model = Written(
        lambda net, x: net.c(F.gelu(3 * net.b(2 * F.gelu(net.a(x))))),
        a=nn.Conv1d(3, 8, 1), b=nn.Conv1d(8, 8, 3, groups=8), c=nn.Conv1d(8, 4, 1),
    )  # fmt: skip
    mirrored(model, 4, 3, 9)
    torch.testing.assert_close(model.b.weight.sum((1, 2)), torch.full((8,), 1 / 6), rtol=1e-5, atol=0)


def test_a_sum_over_tokens_is_made_up_for() -> None:
    """Of five alike: 4 rows of 8 pairs, orthonormal times 1 / 5."""
    model = Written(lambda net, x: net.b(F.gelu(net.a(x)).sum(1)), a=nn.Linear(8, 16), b=nn.Linear(16, 4))
    mirrored(model, 4, 5, 8)
    rows = 5 * model.b.weight.detach()[:, :8]
    torch.testing.assert_close(rows @ rows.T, torch.eye(4), rtol=1e-4, atol=1e-5)


def test_gelu_twice_is_driven_less() -> None:
    """psi(z) = gelu(gelu(a z)) - gelu(gelu(-a z)), with a from 0.02 to 1 in steps of 1 %: the largest at which the
    slope's second moment, over its own, is 1.5 at most, by sums over 10,001 points."""
    model = nn.Sequential(
        nn.Conv1d(3, 8, 1), nn.GELU(), nn.Conv1d(8, 8, 3, groups=8), nn.GELU(), nn.Conv1d(8, 2, 1, bias=False)
    )
    made = plan(model, torch.zeros(4, 3, 9), method="mirrored")
    z = torch.linspace(-6, 6, 10_001, dtype=torch.float64)
    weights = torch.exp(-z.square() / 2)

    def slope(a: float) -> float:
        psi = F.gelu(F.gelu(a * z)) - F.gelu(F.gelu(-a * z))
        steps = torch.gradient(psi, spacing=(z,))[0]
        return float((steps.square() * weights).sum() / (psi.square() * weights).sum())

    largest = max((a for a in torch.logspace(-1.7, 0, 393, dtype=torch.float64).tolist() if slope(a) <= 1.5), default=0)
    assert made["0"].mirror.a == pytest.approx(largest, rel=0.02)


def test_each_weight_is_written_in_signed_blocks() -> None:
    """[B; -B] first, [[A, -A], [-A, A]] inside, [C, -C] last; B, A, C orthonormal in rows or columns, times
    sqrt(rows / columns) where that is above 1."""
    model = mlp(nn.ReLU, depth=3)
    mirrored(model, 4, 16)
    first, inner, last = (model[index].weight.detach() for index in (0, 2, 4))
    torch.testing.assert_close(first[16:], -first[:16], rtol=0, atol=0)
    torch.testing.assert_close(inner[16:], -inner[:16], rtol=0, atol=0)
    torch.testing.assert_close(inner[:, 16:], -inner[:, :16], rtol=0, atol=0)
    torch.testing.assert_close(last[:, 16:], -last[:, :16], rtol=0, atol=0)
    a, c = inner[:16, :16], last[:, :16]
    torch.testing.assert_close(a @ a.T, torch.eye(16), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(c @ c.T, torch.eye(8), rtol=1e-4, atol=1e-5)


def test_a_wider_matrix_is_scaled_to_keep_the_second_moment() -> None:
    """64 units in 32 pairs behind 8 inputs: B is 32 x 8, B'B = 32 / 8 = 4 times the identity."""
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4))
    mirrored(model, 4, 8)
    b = model[0].weight.detach()[:32]
    torch.testing.assert_close(b.T @ b, 4 * torch.eye(8), rtol=1e-3, atol=1e-4)


def test_leaky_relu_is_made_up_for_by_what_reads_it() -> None:
    """psi(z) = 1.2 z: the reader's matrix is divided by 1.2."""
    model = nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(0.2), nn.Linear(16, 8))
    mirrored(model, 4, 8)
    head = model[2].weight.detach()[:, :8] * 1.2
    torch.testing.assert_close(head @ head.T, torch.eye(8), rtol=1e-4, atol=1e-5)


def test_odd_nonlinearities_stand_alone() -> None:
    """tanh is odd: no unit is paired, and gradients of a depth of 40 keep their size within a factor of two."""
    model = mlp(nn.Tanh, depth=40)
    made = mirrored(model, 64, 16)
    assert all(run == FeatureRun(0, run.size, paired=False) for layer in made.layers for run in layer.mirror.outputs)
    model(torch.randn(64, 16, generator=torch.Generator().manual_seed(2))).square().sum().backward()
    norms = torch.stack([model[2 * index].weight.grad.norm() for index in range(1, 39)])
    assert norms.max() / norms.min() < 2


def test_an_odd_unit_is_left_over_and_not_read() -> None:
    """7 units: 3 pairs, and a last one whose column is zero, so that the start stays linear."""
    model = nn.Sequential(nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3))
    made = mirrored(model, 4, 8)
    assert made["0"].mirror.outputs == (FeatureRun(0, 6, paired=True), FeatureRun(6, 1, paired=False))
    assert not model[2].weight[:, 6].any()
    assert model[0].weight[6].any()
    assert_linear(model, 4, 8)


class Written(nn.Module):
    """Modules by name and a forward of one input."""

    def __init__(self, forward: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.written = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x)


def recurrence(net: nn.Module, x: Tensor) -> Tensor:
    """A recurrence with ReLU over the second axis."""
    state = x.new_zeros(len(x), 16)
    for step in range(x.shape[1]):
        state = F.relu(net.into(x[:, step]) + net.over(state))
    return net.head(state)


class Products(nn.Module):
    """Weights on either side of `@`, in `addmm` and in `einsum`; features stand before positions, then behind."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"a": (16, 8), "b": (12, 16), "c": (12, 10), "d": (10, 4)}
        for name, size in sizes.items():
            self.register_parameter(name, nn.Parameter(torch.randn(size)))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(torch.einsum("bot,po->bpt", F.relu(self.a @ x), self.b))
        x = F.gelu(x.transpose(1, 2) @ self.c).flatten(0, 1)
        return torch.addmm(x.new_zeros(4), x, self.d, alpha=2).unflatten(0, (-1, 3))


LINEAR_STARTS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "functional": (
        lambda: Written(lambda net, x: net.b(F.relu(net.a(x))), a=nn.Linear(8, 16), b=nn.Linear(16, 4)),
        (4, 8),
    ),
    "composite": (
        lambda: Written(
            lambda net, x: net.b((h := net.a(x)) * torch.sigmoid(h)), a=nn.Linear(8, 16), b=nn.Linear(16, 4)
        ),
        (4, 8),
    ),
    "chosen by a condition": (
        lambda: Written(
            lambda net, x: net.b(torch.where((h := net.a(x)) > 0, h, 0.1 * h)), a=nn.Linear(8, 16), b=nn.Linear(16, 4)
        ),
        (4, 8),
    ),
    "flatten in blocks": (
        lambda: nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32, 4)),
        (4, 2, 6, 6),
    ),
    "strides and channels last": (
        lambda: Written(
            lambda net, x: net.b(F.gelu(net.a(x)).permute(0, 2, 3, 1)).mean((1, 2)),
            a=nn.Conv2d(2, 8, 3, stride=2, padding=1),
            b=nn.Linear(8, 4),
        ),
        (4, 2, 6, 6),
    ),
    "concatenation": (
        lambda: Written(
            lambda net, x: net.c(torch.cat([F.silu(net.a(x)), F.relu(net.b(x))], -1)),
            a=nn.Linear(8, 6),
            b=nn.Linear(8, 10),
            c=nn.Linear(16, 4),
        ),
        (4, 8),
    ),
    "chunks put together again": (
        lambda: Written(
            lambda net, x: net.b(torch.cat(F.relu(net.a(x)).chunk(4, -1), -1)), a=nn.Linear(8, 16), b=nn.Linear(16, 4)
        ),
        (4, 8),
    ),
    "chunks bent one by one": (
        lambda: Written(
            lambda net, x: net.b(torch.cat([F.gelu(each) for each in net.a(x).split((9, 7), -1)], -1)),
            a=nn.Linear(8, 16),
            b=nn.Linear(16, 4),
        ),
        (4, 8),
    ),
    "bent twice": (
        lambda: Written(
            lambda net, x: net.b(F.relu(h := net.a(x))) + net.c(h.relu()),
            a=nn.Linear(8, 16),
            b=nn.Linear(16, 4),
            c=nn.Linear(16, 4),
        ),
        (4, 8),
    ),
    "flatten with channels last": (
        lambda: Written(
            lambda net, x: net.b(F.relu(net.a(x)).permute(0, 2, 3, 1).flatten(1)),
            a=nn.Conv2d(2, 7, 3),
            b=nn.Linear(28, 4),
        ),
        (4, 2, 4, 4),
    ),
    "glu": (lambda: nn.Sequential(nn.Linear(8, 32), nn.GLU(), nn.Linear(16, 4)), (4, 8)),
    "written gate": (
        lambda: Written(
            lambda net, x: net.b((h := net.a(x))[:, 16:] * torch.sigmoid(h[:, :16])),
            a=nn.Linear(8, 32),
            b=nn.Linear(16, 4),
        ),
        (4, 8),
    ),
    "gate by a weight of its own": (
        lambda: Written(
            lambda net, x: net.c(F.relu(net.b((h := F.gelu(net.a(x))) @ net.u.weight.T * torch.sigmoid(net.v(h))))),
            a=nn.Linear(8, 16),
            u=nn.Linear(16, 12),
            v=nn.Linear(16, 12),
            b=nn.Linear(12, 16),
            c=nn.Linear(16, 4),
        ),
        (4, 8),
    ),
    "gate by another input": (
        lambda: Written(
            lambda net, x: net.c(torch.sigmoid(F.linear(x[:, 1], net.v.weight)) * net.u(F.silu(net.a(x[:, 0])))),
            a=nn.Linear(8, 16),
            u=nn.Linear(16, 12),
            v=nn.Linear(8, 12),
            c=nn.Linear(12, 4),
        ),
        (4, 2, 8),
    ),
    "conditioned gate of convolutions": (
        lambda: Written(
            lambda net, x: net.c(
                (net.u(h := F.relu(net.a(x))) + net.p(x)).mul((net.v(h) + net.q(x)).sigmoid())
            ).flatten(1),
            a=nn.Conv1d(3, 8, 1),
            u=nn.Conv1d(8, 8, 3, padding=1),
            v=nn.Conv1d(8, 8, 3, padding=1),
            p=nn.Conv1d(3, 8, 1),
            q=nn.Conv1d(3, 8, 1),
            c=nn.Conv1d(8, 2, 1),
        ),
        (4, 3, 9),
    ),
    "residual branches": (
        lambda: Written(
            lambda net, x: net.head((h := net.stem(x)) + net.b(F.relu(net.a(h)))),
            stem=nn.Linear(8, 12),
            a=nn.Linear(12, 24),
            b=nn.Linear(24, 12),
            head=nn.Linear(12, 4),
        ),
        (4, 8),
    ),
    "dropout in evaluation": (
        lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4)).eval(),
        (4, 8),
    ),
    "half of the pairs": (
        lambda: Written(lambda net, x: net.b(F.relu(net.a(x)).chunk(2, -1)[1]), a=nn.Linear(8, 16), b=nn.Linear(8, 4)),
        (4, 8),
    ),
    "halves to two readers": (
        lambda: Written(
            lambda net, x: net.b((parts := F.relu(net.a(x)).chunk(2, -1))[0]) + net.c(parts[1]),
            a=nn.Linear(8, 16),
            b=nn.Linear(8, 4),
            c=nn.Linear(8, 4),
        ),
        (4, 8),
    ),
    "pairs in another order": (
        lambda: Written(lambda net, x: net.b(F.relu(net.a(x)).flip(-1)), a=nn.Linear(8, 16), b=nn.Linear(16, 4)),
        (4, 8),
    ),
    "groups": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 3, groups=2),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1, groups=4),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(256, 4),
        ),
        (4, 4, 6, 6),
    ),
    "channels shuffled between groups": (
        lambda: Written(
            lambda net, x: net.c(
                F.relu(net.b(F.relu(net.a(x)).unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)))
            ).flatten(1),
            a=nn.Conv2d(2, 8, 1),
            b=nn.Conv2d(8, 8, 3, groups=2),
            c=nn.Conv2d(8, 4, 1),
        ),
        (4, 2, 5, 5),
    ),
    "groups behind a gate": (
        lambda: Written(
            lambda net, x: net.c(F.relu(net.b(F.glu(net.a(x), 1)))).flatten(1),
            a=nn.Conv1d(3, 16, 3),
            b=nn.Conv1d(8, 8, 3, groups=2),
            c=nn.Conv1d(8, 4, 1),
        ),
        (4, 3, 9),
    ),
    "depthwise, then over channels": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.Conv2d(8, 7, 1),
            nn.GELU(),
            nn.Conv2d(7, 14, 3, 2, groups=7),
            nn.Conv2d(14, 8, 1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(32, 4),
        ),
        (4, 3, 6, 6),
    ),
    "depthwise, functional": (
        lambda: Written(
            lambda net, x: net.c(F.conv1d(F.relu(net.a(x)), net.b.weight, groups=8)).flatten(1),
            a=nn.Conv1d(3, 8, 1),
            b=nn.Conv1d(8, 8, 3, groups=8, bias=False),
            c=nn.Conv1d(8, 2, 1),
        ),
        (4, 3, 9),
    ),
    "depthwise between two nonlinearities": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
            nn.Threshold(0.0, 0.0),
            nn.Conv2d(8, 6, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(6, 12, 3, groups=6),
            nn.ReLU(),
            nn.Conv2d(12, 12, 3, groups=12),
            nn.ReLU(),
            nn.Conv2d(12, 4, 1),
        ),
        (4, 3, 12, 12),
    ),
    "depthwise between two nonlinearities, beside what has one": (
        lambda: Written(
            lambda net, x: net.c(
                torch.cat([F.relu(3 * net.b(F.pad(2 * net.a(x).clamp(min=0), (2, 0)))), F.gelu(net.d(x))], 1)
            ),
            a=nn.Conv1d(3, 8, 1),
            b=nn.Conv1d(8, 8, 3, groups=8),
            d=nn.Conv1d(3, 6, 1),
            c=nn.Conv1d(14, 4, 1),
        ),
        (4, 3, 9),
    ),
    "depthwise in front of the nonlinearity": (
        lambda: Written(
            lambda net, x: net.c(F.silu(net.b(net.a(x).transpose(1, 2))[..., : x.shape[1]]).transpose(1, 2)),
            a=nn.Linear(8, 16),
            b=nn.Conv1d(16, 16, 4, groups=16, padding=3),
            c=nn.Linear(16, 4),
        ),
        (4, 9, 8),
    ),
    "what is gated and gates in turn": (
        lambda: Written(
            lambda net, x: net.c(
                F.gelu(net.b((h := net.a(x))[..., ::2] * torch.sigmoid(h[..., 1::2])))
                .unflatten(-1, (-1, 2, 3))
                .flatten(1)
            ),
            a=nn.Linear(8, 30),
            b=nn.Linear(15, 12),
            c=nn.Linear(12, 4),
        ),
        (4, 8),
    ),
    "gates first, in turns of four": (
        lambda: Written(
            lambda net, x: net.b((h := net.a(x).view(-1, 2, 2, 4))[:, :, 0].sigmoid().mul(h[:, :, 1]).reshape(-1, 8)),
            a=nn.Linear(8, 16),
            b=nn.Linear(8, 4),
        ),
        (4, 8),
    ),
    "relu as a product with a mask": (
        lambda: Written(
            lambda net, x: net.b((h := net.a(x)) * (h > 0).to(h.dtype)), a=nn.Linear(8, 16), b=nn.Linear(16, 4)
        ),
        (4, 8),
    ),
    "sum over tokens": (
        lambda: Written(lambda net, x: net.b(F.gelu(net.a(x)).sum(1)), a=nn.Linear(8, 16), b=nn.Linear(16, 4)),
        (4, 5, 8),
    ),
    "transposed": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 16, 3, stride=2, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(16, 16, 3, 2, 1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 2, 2, groups=2),
            nn.SiLU(),
            nn.Conv2d(8, 2, 1),
        ),
        (4, 2, 8, 8),
    ),
    "transposed, one-dimensional and dilated": (
        lambda: nn.Sequential(nn.ConvTranspose1d(3, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose1d(16, 4, 3, dilation=2)),
        (4, 3, 8),
    ),
    "transposed, three-dimensional": (
        lambda: nn.Sequential(nn.ConvTranspose3d(3, 16, 2, 2), nn.ReLU(), nn.ConvTranspose3d(16, 4, 3, 2, 1, 1)),
        (2, 3, 3, 3, 3),
    ),
    "transposed, functional": (
        lambda: Written(
            lambda net, x: F.conv_transpose2d(F.silu(F.conv2d(x, net.a.weight)), net.b.weight, stride=2),
            a=nn.Conv2d(2, 8, 3, bias=False),
            b=nn.ConvTranspose2d(8, 2, 2, bias=False),
        ),
        (4, 2, 6, 6),
    ),
    "dilated": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 16, 3, dilation=2, padding=2), nn.ReLU(), nn.Conv1d(16, 4, 3, dilation=4, padding="same")
        ),
        (4, 3, 16),
    ),
    "one module used twice": (
        lambda: Written(
            lambda net, x: net.head(F.relu(net.b(F.relu(net.b(F.relu(net.a(x))))))),
            a=nn.Linear(8, 16),
            b=nn.Linear(16, 16),
            head=nn.Linear(16, 4),
        ),
        (4, 8),
    ),
    "one encoder for two inputs": (
        lambda: Written(
            lambda net, x: net.b(F.silu(net.a(x[:, 0]))) - net.b(F.silu(net.a(x[:, 1]))),
            a=nn.Linear(8, 16),
            b=nn.Linear(16, 4),
        ),
        (4, 2, 8),
    ),
    "recurrence": (
        lambda: Written(recurrence, into=nn.Linear(8, 16), over=nn.Linear(16, 16), head=nn.Linear(16, 4)),
        (4, 6, 8),
    ),
    "recurrent module": (
        lambda: Written(
            lambda net, x: net.head(net.rnn(x)[0][:, -1]),
            rnn=nn.RNN(8, 16, 2, nonlinearity="relu", batch_first=True, bidirectional=True),
            head=nn.Linear(32, 4),
        ),
        (4, 5, 8),
    ),
    "last state of a recurrent module, steps first": (
        lambda: Written(
            lambda net, x: net.head(net.rnn(x.transpose(0, 1))[1][-1]),
            rnn=nn.RNN(8, 16, nonlinearity="relu"),
            head=nn.Linear(16, 4),
        ),
        (4, 5, 8),
    ),
    "recurrent cell": (
        lambda: Written(
            lambda net, x: net.head(functools.reduce(lambda state, step: net.cell(step, state), x.unbind(1), None)),
            cell=nn.RNNCell(8, 16, nonlinearity="relu"),
            head=nn.Linear(16, 4),
        ),
        (4, 5, 8),
    ),
    "sum before the nonlinearity": (
        lambda: Written(
            lambda net, x: net.c(F.gelu(torch.add(net.a(x), net.b(x), alpha=0.5))),
            a=nn.Linear(8, 16),
            b=nn.Linear(8, 16),
            c=nn.Linear(16, 4),
        ),
        (4, 8),
    ),
    "sums behind nonlinearities": (
        lambda: Written(
            lambda net, x: net.c((h := F.relu(net.a(x))) + F.gelu(net.b(h)) - F.silu(net.d(x))),
            a=nn.Linear(8, 16),
            b=nn.Linear(16, 16),
            d=nn.Linear(8, 16),
            c=nn.Linear(16, 4),
        ),
        (4, 8),
    ),
    "residual network that bends its stream": (
        lambda: Written(
            lambda net, x: net.head(F.relu(net.b(F.relu(net.a(x))) + net.shortcut(x))),
            a=nn.Linear(8, 16),
            b=nn.Linear(16, 16),
            shortcut=nn.Linear(8, 16),
            head=nn.Linear(16, 4),
        ),
        (4, 8),
    ),
    "products of matrices": (lambda: Products(), (4, 8, 3)),
    "random slopes in evaluation": (
        lambda: nn.Sequential(nn.Linear(8, 16), nn.RReLU(), nn.Linear(16, 4)).eval(),
        (4, 8),
    ),
    "one-dimensional": (
        lambda: nn.Sequential(nn.Conv1d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv1d(8, 4, 3), nn.Flatten()),
        (4, 3, 9),
    ),
}


@pytest.mark.parametrize("case", LINEAR_STARTS)
def test_pairs_are_followed_to_what_reads_them(case: str) -> None:
    """By hand: every activation here has an odd part that is linear, so that a network of pairs is a linear map."""
    build, shape = LINEAR_STARTS[case]
    model = build()
    made = mirrored(model, *shape)
    assert any(run.paired for layer in made.layers for run in layer.mirror.outputs)
    assert_additive(model, *shape)


FALLING_BACK: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str, str]] = {
    "max pooling": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(32, 4),
        ),
        (4, 1, 10, 10),
        "0",
        "max_pool mixes or bends them",
    ),
    "even": (
        lambda: Written(lambda net, x: net.b(net.a(x).abs()), a=nn.Linear(8, 16), b=nn.Linear(16, 4)),
        (4, 8),
        "a",
        "leaky_relu has no odd part that is nearly linear",
    ),
    "norm": (
        lambda: nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)),
        (4, 8),
        "0",
        "a norm follows: nothing to gain",
    ),
    "swiglu": (
        lambda: Written(
            lambda net, x: net.c(F.silu(net.a(x)) * net.b(x)),
            a=nn.Linear(8, 16),
            b=nn.Linear(8, 16),
            c=nn.Linear(16, 4),
        ),
        (4, 8),
        "b",
        "it feeds a product with what another weight makes",
    ),
    "a sum of what is paired and what is not": (
        lambda: Written(
            lambda net, x: net.c(F.relu(net.a(x)) + torch.tanh(net.b(x))),
            a=nn.Linear(8, 16), b=nn.Linear(8, 16), c=nn.Linear(16, 4),
        ),
        (4, 8),
        "a",
        "only one part of a sum needs pairs",
    ),
    "read in two ways": (
        lambda: Written(
            lambda net, x: net.b(h := F.relu(net.a(x))) + h.sum(-1, keepdim=True),
            a=nn.Linear(8, 16),
            b=nn.Linear(16, 4),
        ),
        (4, 8),
        "a",
        "sum mixes or bends them",
    ),
    "output": (lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU()), (4, 8), "0", "they reach the model's output"),
    "max pooling before": (
        lambda: nn.Sequential(nn.Conv1d(1, 8, 3), nn.MaxPool1d(2), nn.ReLU(), nn.Conv1d(8, 4, 4)),
        (4, 1, 10),
        "0",
        "max_pool mixes or bends them",
    ),
    "pooling by the root of squares": (
        lambda: nn.Sequential(nn.Conv1d(1, 8, 3), nn.ReLU(), nn.LPPool1d(2, 2), nn.Conv1d(8, 4, 4)),
        (4, 1, 10),
        "0",
        "lp_pool mixes or bends them",
    ),
    "sorted before": (
        lambda: Written(
            lambda net, x: net.b(F.relu(net.a(x).sort(-1).values)), a=nn.Linear(8, 16), b=nn.Linear(16, 4)
        ),
        (4, 8),
        "a",
        "sort mixes or bends them",
    ),
    "a sum in front of a depthwise convolution that feeds a nonlinearity": (
        lambda: Written(
            lambda net, x: net.c(F.gelu(net.b(F.gelu(net.a(x)) + F.gelu(net.d(x))))),
            a=nn.Conv1d(3, 8, 1), b=nn.Conv1d(8, 8, 3, groups=8), c=nn.Conv1d(8, 4, 1), d=nn.Conv1d(3, 8, 1),
        ),
        (4, 3, 9),
        "a",
        "no two of its units are read by the same weights",
    ),
    "gates in turn within groups": (
        lambda: Written(
            lambda net, x: net.c((h := net.a(x))[:, ::2] * torch.sigmoid(h[:, 1::2])),
            a=nn.Conv1d(4, 16, 1, groups=2), c=nn.Conv1d(8, 4, 1),
        ),
        (4, 4, 9),
        "a",
        "what is gated shares a group with its gates",
    ),
    "depthwise on the input": (
        lambda: nn.Sequential(nn.Conv1d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv1d(8, 2, 1)),
        (4, 8, 9),
        "0",
        "no two of its units are read by the same weights",
    ),
    "read behind one nonlinearity and behind two": (
        lambda: Written(
            lambda net, x: net.c(h := F.relu(net.a(x))) + net.d(F.relu(net.b(h))),
            a=nn.Conv1d(3, 8, 1), b=nn.Conv1d(8, 8, 3, padding=1, groups=8), c=nn.Conv1d(8, 4, 1),
            d=nn.Conv1d(8, 4, 1),
        ),
        (4, 3, 9),
        "a",
        "d reads them behind another number of nonlinearities than others do",
    ),
    "joined behind one nonlinearity and behind two": (
        lambda: Written(
            lambda net, x: net.c(torch.cat([h := F.relu(net.a(x)), F.relu(net.b(h))], 1)),
            a=nn.Conv1d(3, 8, 1), b=nn.Conv1d(8, 8, 3, padding=1, groups=8), c=nn.Conv1d(16, 4, 1),
        ),
        (4, 3, 9),
        "a",
        "cat joins them with what has another number of nonlinearities behind it",
    ),
    "uses that feed different things": (
        lambda: Written(
            lambda net, x: net.b(F.relu(net.a(x)) + torch.tanh(net.a(2 * x))), a=nn.Linear(8, 16), b=nn.Linear(16, 4)
        ),
        (4, 8),
        "a",
        "its 2 uses feed different things",
    ),
    "uses that read different things": (
        lambda: Written(
            lambda net, x: net.b(F.relu(net.a(x))) + net.b(net.c(x).abs()),
            a=nn.Linear(8, 16),
            b=nn.Linear(16, 4),
            c=nn.Linear(8, 16),
        ),
        (4, 8),
        "a",
        "b reads other units at another of its 2 uses",
    ),
    "a weight that is read from both sides": (
        lambda: Written(
            lambda net, x: F.linear(F.relu(net.a(x)), net.a.weight.t()), a=nn.Linear(8, 16, bias=False)
        ),
        (4, 8),
        "a",
        "its 2 uses read it in different ways",
    ),
    "attention": (
        lambda: Written(
            lambda net, x: net.b(*(F.relu(net.a(x)),) * 3, need_weights=False)[0],
            a=nn.Linear(8, 16),
            b=nn.MultiheadAttention(16, 2, batch_first=True),
        ),
        (4, 5, 8),
        "a",
        "b, which reads them, cannot be mirrored",
    ),
    "gates of a recurrence": (
        lambda: Written(lambda net, x: net.b(net.a(x)[0]), a=nn.LSTM(8, 16), b=nn.Linear(16, 4)),
        (4, 5, 8),
        "a.weight_hh_l0",
        "what is read and made inside of lstm is not followed",
    ),
    "parts with a nonlinearity each": (
        lambda: Written(
            lambda net, x: net.b((h := net.a(x))[:, :8].relu()) + net.c(h[:, 8:].tanh()),
            a=nn.Linear(8, 16), b=nn.Linear(8, 4), c=nn.Linear(8, 4),
        ),
        (4, 8),
        "a",
        "parts of its output feed different things",
    ),
    "two gates and nothing gated": (
        lambda: Written(
            lambda net, x: net.c(torch.sigmoid(net.a(x)) * torch.sigmoid(net.b(x))),
            a=nn.Linear(8, 16), b=nn.Linear(8, 16), c=nn.Linear(16, 4),
        ),
        (4, 8),
        "a",
        "mul multiplies them by another signal",
    ),
    "a gate that is an output too": (
        lambda: Written(
            lambda net, x: (net.c((gate := torch.sigmoid(net.a(x))) * net.b(x)), gate),
            a=nn.Linear(8, 16), b=nn.Linear(8, 16), c=nn.Linear(16, 4),
        ),
        (4, 8),
        "a",
        "mul multiplies them by another signal",
    ),
    "weight norm": (
        lambda: nn.Sequential(
            nn.Linear(8, 16), nn.ReLU(), nn.utils.parametrizations.weight_norm(nn.Linear(16, 4))
        ),
        (4, 8),
        "2",
        "its module computes it (weight_norm)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FALLING_BACK)
def test_what_cannot_be_mirrored_says_why(case: str) -> None:
    build, shape, name, why = FALLING_BACK[case]
    layer = plan(build(), torch.zeros(shape), method="mirrored")[name]
    assert not any(run.paired for run in layer.mirror.outputs) if layer.mirror is not None else True
    assert layer.note.endswith(why)


GATED_TANH: dict[str, Callable[[], nn.Module]] = {
    "two weights": lambda: Written(
        lambda net, x: net.c(torch.tanh(net.u(x)) * torch.sigmoid(net.v(x))),
        u=nn.Linear(8, 16), v=nn.Linear(8, 16), c=nn.Linear(16, 4),
    ),
    "one weight": lambda: Written(
        lambda net, x: net.c(torch.sigmoid((h := net.u(x))[:, :16]) * torch.tanh(h[:, 16:])),
        u=nn.Linear(8, 32), c=nn.Linear(16, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", GATED_TANH)
def test_the_gate_of_a_bounded_signal_does_not_show(case: str) -> None:
    """tanh(u) g(v) + tanh(u) g(-v) = tanh(u) (van den Oord et al. 2016, eq. 2): of 8 pairs the first ones' tanh is all
    that the head reads, by the first half of its columns."""
    model = GATED_TANH[case]()
    mirrored(model, 64, 8)
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    u, c = model.u.weight.detach()[-16:], model.c.weight.detach()
    torch.testing.assert_close(u[8:], -u[:8], rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(model(x), torch.tanh(x @ u[:8].T) @ c[:, :8].T, rtol=1e-4, atol=1e-5)


READING: dict[str, Callable[..., Tensor]] = {
    "a gate that is no half": lambda net, h: net.c(F.silu(net.v(h)) * net.u(h)),
    "einsum": lambda net, h: net.c(F.silu(torch.einsum("oi,bi->bo", net.v.weight, h)) * F.linear(h, net.u.weight)),
    "parts": lambda net, h: net.c(F.silu((z := net.both(h))[:, :12]) * z[:, 12:]),
    "several things": lambda net, h: (net.c(torch.exp(z := net.u(h))), z, net.v(h)),
    "no odd part": lambda net, h: net.c(torch.cos(net.u(h)) + net.v(h).abs()),
}  # fmt: skip


@pytest.mark.parametrize("case", READING)
def test_what_reads_pairs_needs_none_of_its_own(case: str) -> None:
    """16 units behind a ReLU are paired, whatever the weights that read them feed: what these give is linear in x."""
    model = Written(
        lambda net, x: READING[case](net, F.relu(net.a(x))), a=nn.Linear(8, 16),
        u=nn.Linear(16, 12), v=nn.Linear(16, 12), both=nn.Linear(16, 24), c=nn.Linear(12, 4),
    )  # fmt: skip
    made = mirrored(model, 64, 8)
    assert all(run.paired for run in made["a"].mirror.outputs)
    readers = [model.both] if case == "parts" else [model.u, model.v]
    for reader in readers:
        assert torch.equal(reader.weight[:, :8], -reader.weight[:, 8:])
        assert_additive(Written(lambda net, x: net.r(F.relu(net.a(x))), a=model.a.double(), r=reader.double()), 4, 8)


@pytest.mark.parametrize("seed", range(3))
def test_dropout_counts_by_its_expectation(seed: int) -> None:
    """Called as a function it drops in planning too, by torch's generator: 8 pairs, 4 orthonormal rows of 8 columns."""
    torch.manual_seed(seed)
    model = Written(lambda net, x: net.b(F.dropout(F.relu(net.a(x)), 0.5)), a=nn.Linear(8, 16), b=nn.Linear(16, 4))
    assert plan(model, torch.zeros(64, 8), method="mirrored")["b"].std == pytest.approx(8**-0.5)


def test_a_depthwise_convolution_has_equal_filters_for_both_of_a_pair() -> None:
    """8 channels in 4 pairs, each its own tap of 9: what comes out is in pairs, of the power that comes in."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.Conv2d(8, 8, 1)
    )
    made = mirrored(model, 64, 3, 12, 12)
    filters = model[2].weight.detach()
    torch.testing.assert_close(filters[4:], filters[:4], rtol=0, atol=0)
    torch.testing.assert_close(filters.abs().sum((1, 2, 3)), torch.ones(8), rtol=1e-5, atol=0)
    assert len({int(each.abs().argmax()) for each in filters[:4]}) > 1
    assert made["2"].mirror.copies == (FeatureRun(0, 8, paired=True, factor=pytest.approx(1 / 1.2)),)
    over = model[3].weight.detach()[:, :4, 0, 0] * 1.2  # LeakyReLU gives 1.2 z; 4 columns to 8 rows
    torch.testing.assert_close(over.T @ over, 2 * torch.eye(4), rtol=1e-4, atol=1e-5)


def test_what_reads_a_sum_makes_up_for_all_of_it() -> None:
    """(h + relu(b h) - relu(d x)) / 2, h = relu(a x): three pairs of variance 1, halved, have 3 / 4 together, for which
    2 / sqrt(3) makes up; what reads h alone makes up for nothing."""
    model = Written(
        lambda net, x: net.c(((h := F.relu(net.a(x))) + F.relu(net.b(h)) - F.relu(net.d(x))) / 2) + net.e(h),
        **{name: nn.Linear(8 if name in "ad" else 16, 16) for name in "abd"}, c=nn.Linear(16, 8), e=nn.Linear(16, 8),
    )  # fmt: skip
    mirrored(model, 256, 8)
    for name, factor in (("c", 2 / 3**0.5), ("e", 1.0), ("b", 1.0)):
        rows = model.get_submodule(name).weight.detach()[:8, :8] / factor
        torch.testing.assert_close(rows @ rows.T, torch.eye(8), rtol=1e-4, atol=1e-5)


def test_what_is_zero_reads_pairs() -> None:
    """A branch that ends in zeros: its first weight is paired, and the end stays as its author has it."""
    model = Written(
        lambda net, x: net.c((h := net.s(x)) + net.b(F.relu(net.a(h)))),
        s=nn.Linear(8, 12), a=nn.Linear(12, 16), b=nn.Linear(16, 12), c=nn.Linear(12, 4),
    )  # fmt: skip
    nn.init.zeros_(model.b.weight)
    made = mirrored(model, 64, 8)
    assert all(run.paired for run in made["a"].mirror.outputs)
    assert made["b"].status == "kept"
    assert not model.b.weight.any()


def test_branches_are_divided_by_the_root_of_their_number_at_their_beginning() -> None:
    """Four branches: ReLU is driven at a = 1 / 2 inside of them, psi(z) = z / 2, so that the end's matrix, divided by
    sqrt(4) and by a, is orthonormal by itself. The stream, of second moment 1, grows to 2: the third branch reads 1.5.
    """

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        for index in range(4):
            x = x + net.get_submodule(f"b{index}")(F.relu(net.get_submodule(f"a{index}")(x)))
        return x

    parts = {f"{name}{i}": nn.Linear(16, 16) for i in range(4) for name in "ab"}
    model = Written(forward, **parts)
    made = mirrored(model, 256, 16)
    end, start = model.b2.weight.detach()[:, :8], model.a2.weight.detach()[:8]
    torch.testing.assert_close(end.T @ end, 2 * torch.eye(8), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(start @ start.T, torch.eye(8) / 4 / 1.5, rtol=0.2, atol=1e-5)
    assert made["a2"].mirror.a == 0.5


def test_what_others_read_too_is_not_driven_less() -> None:
    """The last of four branches' inner units feed a layer outside of the stream as well: they stay at a = 1, and the
    branch's end is divided by 2 itself, its 8 columns of length sqrt(2) / 2."""

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        for index in range(4):
            inner = F.relu(net.get_submodule(f"a{index}")(x))
            x = x + net.get_submodule(f"b{index}")(inner)
        return net.head(x) + net.other(inner)

    parts = {f"{name}{i}": nn.Linear(16, 16) for i in range(4) for name in "ab"}
    model = Written(forward, **parts, head=nn.Linear(16, 4), other=nn.Linear(16, 4))
    made = mirrored(model, 64, 16)
    assert (made["a2"].mirror.a, made["a3"].mirror.a) == (0.5, 1.0)
    end = model.b3.weight.detach()[:, :8]
    torch.testing.assert_close(end.T @ end, torch.eye(8) / 2, rtol=1e-4, atol=1e-5)


def test_a_branch_without_a_weight_before_its_end_is_divided_there() -> None:
    """x + W relu(x): nothing in front of the nonlinearity can be smaller, and W is divided by sqrt(4)."""
    model = Written(
        lambda net, x: functools.reduce(lambda y, i: y + net.get_submodule(f"w{i}")(F.relu(y)), range(4), net.stem(x)),
        stem=nn.Linear(16, 16),
        **{f"w{i}": nn.Linear(16, 16) for i in range(4)},
    )
    mirrored(model, 256, 16)
    values = torch.linalg.svdvals(model.w0.weight.detach())
    torch.testing.assert_close(values, torch.full((16,), 0.5**0.5), rtol=0.1, atol=0)


def test_values_are_a_function_of_seed_name_shape_and_pairing() -> None:
    first, again, other = mlp(nn.ReLU), mlp(nn.ReLU), mlp(nn.ReLU)
    for model, seed in ((first, 3), (again, 3), (other, 4)):
        autoinit(model, torch.zeros(4, 16), method="mirrored", seed=seed, force=True, verbose=False)
    for one, two, three in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        assert one.dim() == 1 or not torch.equal(one, three)


def test_a_plan_on_meta_is_the_same_and_survives_json() -> None:
    with torch.device("meta"):
        empty = mlp(nn.GELU)
    made = plan(empty, torch.zeros(4, 16, device="meta"), method="mirrored")
    there = plan(mlp(nn.GELU), torch.zeros(4, 16), method="mirrored")
    for one, other in zip(made.layers, there.layers, strict=True):
        assert replace(one, source="") == replace(other, source="")
    assert Plan.from_json(made.to_json()) == made


@pytest.mark.parametrize("distribution", ["normal", "uniform", "truncated_normal"])
def test_other_distributions_keep_the_pairs(distribution: str) -> None:
    """The start is as linear; its matrix has elements of variance 1 / columns = 1 / 16 in place of orthonormal rows."""
    model = mlp(nn.ReLU, width=256, inputs=256, depth=3)
    mirrored(model, 4, 256, distribution=distribution)
    assert_linear(model, 4, 256)
    block = model[2].weight.detach()[:128, :128]
    assert block.std().item() == pytest.approx(128**-0.5, rel=0.03)


def test_taps_are_drawn_where_they_see_the_input() -> None:
    """At 1 x 1 inputs with padding 1 only the centre of a 3 x 3 kernel reaches inside."""
    model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1), nn.Flatten())
    made = mirrored(model, 4, 4, 1, 1)
    assert made["0"].mirror.seen == ((1, 2), (1, 2))
    outside = model[0].weight.detach().clone()
    outside[:, :, 1, 1] = 0
    assert not outside.any()


def test_each_channel_s_column_stands_at_one_tap() -> None:
    """16 channels in 8 pairs: a channel has one tap that is not zero, a pair shares its tap, and taps differ."""
    model = nn.Sequential(
        nn.Conv2d(2, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 4, 3, padding=1), nn.Flatten(), nn.Linear(256, 2)
    )
    mirrored(model, 4, 2, 8, 8)
    used = model[2].weight.detach().abs().sum(0).flatten(1) > 0
    assert used.sum(1).tolist() == [1] * 16
    assert torch.equal(used[:8], used[8:])
    assert len(used.float().argmax(1).unique()) > 1


def test_a_matrix_may_stand_at_the_centre_or_on_all_taps() -> None:
    """Behind 8 pairs: one tap of 3 x 3, the middle; or all nine, whose squares add up to 1 for each of the rows as at
    one tap: semi-orthogonal by rows of 8 x 9 numbers, or Gaussian of variance 1 / 72. All three start linear."""
    for taps, distribution in (("centre", "orthogonal"), ("full", "orthogonal"), ("full", "normal")):
        model = nn.Sequential(nn.Conv2d(2, 16, 1), nn.ReLU(), nn.Conv2d(16, 512, 3), nn.Flatten())
        mirrored(model, 4, 2, 4, 4, taps=taps, distribution=distribution)
        half = model[2].weight.detach()[:, :8]
        used = half.abs().sum((0, 1)) > 0
        assert used.tolist() == (
            [[False] * 3, [False, True, False], [False] * 3] if taps == "centre" else [[True] * 3] * 3
        )
        assert half.square().mean().item() * 8 * 9 == pytest.approx(1.0, rel=0.05)
        assert_additive(model, 4, 2, 4, 4)


@pytest.mark.parametrize(("taps", "share"), [("full", 0.5), ("centre", 0.6), ("shift", 0.5)])
def test_what_padding_leaves_by_the_taps_in_use(taps: Taps, share: float) -> None:
    """Of four positions the outer taps of three meet three and the centre four: 10 of 12, and the centre 12 of 12.

    Where all taps together leave half, the centre leaves 1 / (10 / 12) = 1.2 times that. All three meet the input at
    half of the positions or more, so that all are in use.
    """
    (op,) = (each for each in trace(nn.Conv1d(2, 2, 3, padding=1), (1, 2, 4)).graph.nodes if each.op == "conv1d")
    assert share_through_taps(op, (3,), taps, 0.5, transposed=False) == pytest.approx(share)


def test_taps_mean_nothing_to_other_methods() -> None:
    with pytest.raises(ArgumentError, match="taps='centre' has no meaning for method='signal': only mirrored"):
        plan(nn.Linear(2, 2), method="signal", taps="centre")


def test_predictions_of_a_mirrored_plan_are_what_its_weights_make() -> None:
    """Pairs are no independent units: relu's common part cancels. Measured on the written weights, within 10 %."""
    from autoinit.signal import measure, propagate

    model = nn.Sequential(
        nn.Conv2d(2, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 8),
    )  # fmt: skip
    x = torch.randn(64, 2, 12, 12, generator=torch.Generator().manual_seed(3))
    made = mirrored(model, 64, 2, 12, 12)
    predicted, measured = propagate(made, x, model=model), measure(model, x)
    for name in made:
        assert predicted[name].q == pytest.approx(measured[name].q, rel=0.1)


def test_padding_is_made_up_for() -> None:
    """A shift into the border loses what lies there: 20 layers at 8 x 8 would keep (7 / 8)^(4 / 3 * 20) = 3 % of the
    power. Measured on the written weights, averaged over positions, it stays within a factor of two."""
    layers = [each for _ in range(20) for each in (nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())]
    model = nn.Sequential(nn.Conv2d(8, 32, 3, padding=1), nn.ReLU(), *layers, nn.Conv2d(32, 8, 1))
    mirrored(model, 16, 8, 8, 8)
    with torch.no_grad():
        out = model(torch.randn(64, 8, 8, 8, generator=torch.Generator().manual_seed(1)))
    assert 0.5 < out.square().mean().item() < 2


@pytest.mark.parametrize(("dilation", "positions"), [(1, 1), (4, 6)])
def test_taps_that_are_not_used_lose_nothing_to_padding(dilation: int, positions: int) -> None:
    """At one position, and at six with taps four apart, only the centre of three is used, and padding takes nothing."""
    layers = [each for _ in range(10) for each in (nn.Conv1d(32, 32, 3, padding="same", dilation=dilation), nn.ReLU())]
    model = nn.Sequential(nn.Conv1d(16, 32, 1), nn.ReLU(), *layers, nn.Conv1d(32, 16, 1))
    made = mirrored(model, 16, 16, positions)
    assert [made[str(index)].mirror.kept for index in range(2, 22, 2)] == pytest.approx([1] * 10, abs=0.02)
    with torch.no_grad():
        out = model(torch.randn(64, 16, positions, generator=torch.Generator().manual_seed(1)))
    assert out.square().mean().item() == pytest.approx(1, rel=0.2)


def test_a_head_is_not_louder_than_what_it_reads() -> None:
    """The mean of 64 white positions has second moment 1 / 64; real images are not white: no factor of 8."""
    model = Written(lambda net, x: net.b(net.a(x).mean((2, 3))), a=nn.Conv2d(2, 8, 1), b=nn.Linear(8, 4))
    made = mirrored(model, 4, 2, 8, 8)
    assert made["b"].mirror.inputs == (FeatureRun(0, 8, paired=False, factor=1.0),)


def deep(depth: int, width: int = 64, *, norm: bool = False, skip: bool = False) -> nn.Module:
    parts = {f"l{index}": nn.Linear(width, width) for index in range(depth + 1)}
    if norm:
        parts["norm"] = nn.LayerNorm(width)

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        for index in range(depth):
            y = F.relu(net.get_submodule(f"l{index}")(x))
            x = x + y if skip else y
        return net.get_submodule(f"l{depth}")(net.norm(x) if norm else x)

    return Written(forward, **parts)


@pytest.mark.parametrize(
    ("model", "shape", "advised"),
    [
        (deep(20), (4, 64), "20 nonlinearities in a row without"),
        (deep(19), (4, 64), ""),
        (deep(8, 16), (4, 16), "8 nonlinearities in a row, about 16 inputs wide, without"),
        (deep(8, 17), (4, 17), ""),
        (deep(7, 8), (4, 8), ""),
        (deep(40, norm=True), (4, 64), ""),
        (deep(40, skip=True), (4, 64), ""),
        (
            Written(recurrence, into=nn.Linear(8, 16), over=nn.Linear(16, 16), head=nn.Linear(16, 4)),
            (4, 25, 8),
            "25 nonlinearities in a row without",
        ),
    ],
    ids=["deep", "not so deep", "narrow", "not so narrow", "narrow, but not deep", "norm", "skip", "recurrence"],
)
def test_the_report_says_when_a_model_would_gain(model: nn.Module, shape: tuple[int, ...], advised: str) -> None:
    """From 20 nonlinearities in a row on, or from 8 with depth / width from 1/2 (8 / 16, not 8 / 17), without a norm or
    a skip connection. Other methods alone say it."""
    said = [note for note in plan(model, torch.zeros(shape)).notes if "method='mirrored' keeps them" in note]
    assert [note.partition(" a norm")[0] for note in said] == ([advised] if advised else [])
    assert not any("mirrored" in note for note in plan(model, torch.zeros(shape), method="mirrored").notes)


def test_the_report_shows_pairs() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    text = str(autoinit(model, torch.zeros(4, 8), method="mirrored", seed=0, verbose=False))
    assert "3 of 3 layers mirrored" in text
    assert [line.split("  ")[0] for line in text.splitlines() if "pairs out + in" in line] == ["2"]
    assert "pairs out " in text
    assert "pairs in " in text


FACTORS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "behind": lambda layer, x: 2 * F.relu(layer(x)),
    "before": lambda layer, x: F.relu(3 * layer(x)),
    "on the input": lambda layer, x: F.relu(layer(x * 0.5)),
    "on both sides": lambda layer, x: F.gelu(layer(x) / 4) / 3,
    "behind a slope": lambda layer, x: F.leaky_relu(layer(x), 0.2) * 2**0.5,
}


@pytest.mark.parametrize("case", FACTORS)
def test_numbers_around_the_nonlinearity_are_made_up_for(case: str) -> None:
    """Each would grow or shrink the signal eight times over: the start is the isometry that it is without them."""

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        for index in range(8):
            x = FACTORS[case](net.get_submodule(f"l{index}"), x)
        return net.head(x)

    layers = {f"l{index}": nn.Linear(32 if index else 16, 32) for index in range(8)}
    model = Written(forward, **layers, head=nn.Linear(32, 8))
    mirrored(model, 4, 16)
    values = torch.linalg.svdvals(assert_linear(model, 4, 16))
    torch.testing.assert_close(values, torch.ones(8), rtol=1e-3, atol=0)
