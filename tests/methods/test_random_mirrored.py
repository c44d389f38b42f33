"""Whatever is paired, in whatever network: at the start it is the product of its linear maps."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoinit import Plan, plan
from tests.methods.random_mirrored import Network

SEEDS = range(40)


def test_the_networks_hold_every_piece() -> None:
    """What 40 seeds draw: both kinds of image, groups, transposed, dilated and depthwise convolutions, all
    nonlinearities, gates of two weights."""
    networks = [Network(seed) for seed in SEEDS]
    layers = [layer for network in networks for layer in network.layers]
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert {network.convolutional for network in networks} == {True, False}
    assert any(layer.groups > 1 for layer in convolutions)
    assert any(layer.dilation[0] > 1 for layer in convolutions)
    assert any(isinstance(layer, nn.ConvTranspose2d) for layer in layers)
    assert len({name for network in networks for name in network.names}) == 17
    assert {layer.out_channels // layer.groups for layer in convolutions if layer.groups == layer.in_channels} == {1, 2}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_network_starts_as_the_product_of_its_linear_maps(seed: int) -> None:
    """In double precision, against the same weights with what each nonlinearity leaves of a pair in its place."""
    network = Network(seed)
    made = plan(network, torch.zeros(4, 3, *(6, 6) * network.convolutional), method="mirrored")
    assert all(layer.mirror is not None and not layer.note for layer in made.layers)
    made.apply(network, seed=seed, force=True)
    x = network.double().sample(8, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        found = network(x)
        network.linear = True
        wanted = network(x)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)
    assert 1 / 36 / 20 < found.square().mean() < 20  # the mean of 36 white positions has 1 / 36 of their power


# What depth does to directions and to gradients.

DEEP: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "gate": lambda x: F.glu(x, -1),
}
WIDTH, DEPTH = 32, 40


class Chain(nn.Module):
    """Weights of equal width with a nonlinearity between each two."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.curve = DEEP[name]
        made = WIDTH * (2 if name == "gate" else 1)
        self.first = nn.Linear(16, made)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, made) for _ in range(DEPTH))
        self.head = nn.Linear(WIDTH, 16)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, *self.layers):
            x = self.curve(layer(x))
        return self.head(x)


def started(name: str) -> tuple[Chain, Plan]:
    model = Chain(name)
    made = plan(model, torch.zeros(64, 16), method="mirrored")
    made.apply(model, seed=0, force=True)
    return model.double(), made


@pytest.mark.parametrize("name", DEEP)
def test_no_direction_is_lost_over_depth(name: str) -> None:
    """16 pairs of 32 units and 16 inputs: what the middle layers make together has 16 equal singular values."""
    model, _ = started(name)
    x = torch.randn(16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = torch.autograd.functional.jacobian(model, x)
    values = torch.linalg.svdvals(whole)
    torch.testing.assert_close(values / values[0], torch.ones_like(values), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", DEEP)
def test_gradients_are_as_large_in_every_layer(name: str) -> None:
    """Their norms in the 40 middle layers, on 4,096 inputs, lie within a factor of 10^0.1."""
    model, _ = started(name)
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 4096, 16, generator=generator, dtype=torch.float64)
    (model(x) * noise).sum().backward()
    norms = torch.stack([layer.weight.grad.norm() for layer in model.layers])
    assert (norms.max() / norms.min()).log10() < 0.1


# How much each layer gives, by hand.


def assert_orthonormal(rows: Tensor, factor: float) -> None:
    """factor * rows are orthonormal."""
    torch.testing.assert_close(rows @ rows.T * factor**2, torch.eye(len(rows)), rtol=0.1, atol=1e-5)


class Parts(nn.Module):
    """Modules by name, and a forward that is given."""

    def __init__(self, forward: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.written = forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x)


def begun(forward: Callable[..., Tensor], *shape: int, **parts: nn.Module) -> Parts:
    model = Parts(forward, **parts)
    plan(model, torch.zeros(shape), method="mirrored").apply(model, seed=0, force=True)
    return model


def test_what_is_added_up_shares_the_variance() -> None:
    """Two terms give 1/2 each: rows of length sqrt(1/2), and twice that where the sum halves them."""
    model = begun(
        lambda net, x: net.c(F.gelu(torch.add(net.a(x), net.b(x), alpha=0.5))),
        256, 16, a=nn.Linear(16, 16), b=nn.Linear(16, 16), c=nn.Linear(16, 4),
    )  # fmt: skip
    assert_orthonormal(model.a.weight.detach()[:8], 2**0.5)
    assert_orthonormal(model.b.weight.detach()[:8], 2**0.5 / 2)


def test_a_recurrence_keeps_its_state_and_is_driven_by_shares() -> None:
    """relu: W = [[A, -A], [-A, A]] with A orthonormal; over 9 steps the input gives 1/9 each."""

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 16)
        for step in range(9):
            state = F.relu(net.into(x[:, step]) + net.over(state))
        return net.head(state)

    model = begun(forward, 64, 9, 16, into=nn.Linear(16, 16), over=nn.Linear(16, 16), head=nn.Linear(16, 4))
    over = model.over.weight.detach()
    assert_orthonormal(over[:8, :8], 1.0)
    torch.testing.assert_close(over[8:, :8], -over[:8, :8], rtol=0, atol=0)
    assert_orthonormal(model.into.weight.detach()[:8], 3.0)


def test_transposed_convolutions_make_up_for_their_borders() -> None:
    """Three taps, stride 2, 4 positions to 9, 9 to 19: an input position reaches one output position for each channel,
    so that of the power 2 * 9 / 19 = 0.947 would be left in the second layer."""
    model = begun(
        lambda net, x: net.b(F.relu(net.a(x))),
        64, 16, 4, a=nn.ConvTranspose1d(16, 32, 3, 2), b=nn.ConvTranspose1d(32, 16, 3, 2),
    )  # fmt: skip
    x = torch.randn(4096, 16, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = model.a(x)
        assert model(x).square().mean() / made.square().mean() == pytest.approx(1, abs=0.02)


def test_a_recurrence_that_looks_back_twice_gives_half_to_each() -> None:
    """relu(U x + V h + W g), g the state before h: V and W are sqrt(1/2) of an orthonormal matrix."""

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        before = state = x.new_zeros(len(x), 16)
        for step in range(4):
            before, state = state, F.relu(net.into(x[:, step]) + net.near(state) + net.far(before))
        return net.head(state)

    layers = {name: nn.Linear(16, 16) for name in ("into", "near", "far")}
    model = begun(forward, 64, 4, 16, **layers, head=nn.Linear(16, 4))
    assert_orthonormal(model.near.weight.detach()[:8, :8], 2**0.5)
    assert_orthonormal(model.far.weight.detach()[:8, :8], 2**0.5)


def test_alpha_of_a_product_is_made_up_for() -> None:
    """addmm(b, x, W, alpha=4): W is a quarter of an orthonormal matrix."""
    model = begun(
        lambda net, x: torch.addmm(x.new_zeros(4), F.relu(net.a(x)), net.b.weight, alpha=4.0),
        64, 16, a=nn.Linear(16, 16), b=nn.Linear(4, 16, bias=False),
    )  # fmt: skip
    assert_orthonormal(model.b.weight.detach().T[:, :8], 4.0)


def test_transposed_convolutions_make_up_for_their_strides() -> None:
    """Each input position reaches one of 2 x 2 output positions for each channel: scaled by 2, the power of 1 stays."""
    model = begun(
        lambda net, x: net.b(F.relu(net.a(x))),
        64, 16, 4, 4, a=nn.ConvTranspose2d(16, 32, 2, 2), b=nn.ConvTranspose2d(32, 16, 2, 2),
    )  # fmt: skip
    x = torch.randn(64, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert model.a(x).square().mean().item() == pytest.approx(1, rel=0.1)
        assert model(x).square().mean().item() == pytest.approx(1, rel=0.1)


def test_the_first_layers_of_two_networks_differ_by_seed_alone() -> None:
    """No direction is preferred: over 20 seeds the mean of the first weight is 0 within four standard errors."""
    weights = []
    for seed in range(20):
        model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        plan(model, torch.zeros(4, 16), method="mirrored").apply(model, seed=seed, force=True)
        weights.append(model[0].weight.detach()[:16])
    stacked = torch.stack(weights)
    assert stacked.mean(0).abs().max() < 4 * (1 / 16 / 20) ** 0.5 * 1.1
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(weights))
