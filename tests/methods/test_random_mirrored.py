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
    """What 40 seeds draw: both kinds of image, groups, transposed and dilated convolutions, all nonlinearities."""
    networks = [Network(seed) for seed in SEEDS]
    layers = [layer for network in networks for layer in network.layers]
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert {network.convolutional for network in networks} == {True, False}
    assert any(layer.groups > 1 for layer in convolutions)
    assert any(layer.dilation[0] > 1 for layer in convolutions)
    assert any(isinstance(layer, nn.ConvTranspose2d) for layer in layers)
    assert len({name for network in networks for name in network.names}) == 12


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
