"""Models that start mirrored are held against the mirrored plan: clean right after it, and strays are named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoinit import autoinit, check
from autoinit.tensors.pairs import without_partners


def chain(activation: Callable[[], nn.Module]) -> nn.Module:
    layers = [each for _ in range(6) for each in (nn.Linear(64, 64), activation())]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def convolutions(activation: Callable[[], nn.Module]) -> nn.Module:
    layers = [each for _ in range(5) for each in (nn.Conv2d(16, 16, 3, padding=1), activation())]
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), activation(), *layers, nn.Flatten(), nn.Linear(1024, 10))


class Residual(nn.Module):
    """Branches without norms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.first = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(4))
        self.second = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(4))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for first, second in zip(self.first, self.second, strict=True):
            x = x + second(F.relu(first(x)))
        return self.head(x.mean((2, 3)))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "relu": (lambda: chain(nn.ReLU), (8, 64)),
    "gelu": (lambda: chain(nn.GELU), (8, 64)),
    "tanh": (lambda: chain(nn.Tanh), (8, 64)),
    "relu convolutions": (lambda: convolutions(nn.ReLU), (8, 1, 8, 8)),
    "tanh convolutions": (lambda: convolutions(nn.Tanh), (8, 1, 8, 8)),
    "residual": (Residual, (8, 3, 8, 8)),
    "glu": (lambda: nn.Sequential(nn.Linear(16, 64), nn.GLU(), nn.Linear(32, 8)), (8, 16)),
}


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_found_right_after_it(name: str) -> None:
    """With the inputs that it was planned on and without; and it is not taken for a trained model."""
    build, shape = MODELS[name]
    model, x = build(), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        autoinit(model, x, method="mirrored", seed=0, verbose=False)
    assert not check(model, x).findings
    assert not check(model).findings


def test_a_stray_among_mirrored_layers_is_named() -> None:
    """One of 13 matrices tripled: its pairs stand, and the others say what it should be."""
    layers = [each for _ in range(12) for each in (nn.Linear(64, 64), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    autoinit(model, torch.zeros(8, 64), method="mirrored", seed=0, verbose=False)
    with torch.no_grad():
        model[10].weight.mul_(3)
    (finding,) = check(model).findings
    assert finding.layer == "10"
    assert finding.expected_std == pytest.approx((2 / 64) ** 0.5, rel=0.01)  # 32 orthonormal rows of 32, each twice


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.Tanh])
def test_the_signal_of_a_deep_mirrored_model_is_seen_to_live(activation: Callable[[], nn.Module]) -> None:
    """40 layers: were the units independent, E[gelu^2] = 0.425 would halve the signal's power every five layers."""
    layers = [each for _ in range(40) for each in (nn.Linear(64, 64), activation())]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    autoinit(model, torch.zeros(8, 64), method="mirrored", seed=0, verbose=False)
    assert not check(model, torch.zeros(8, 64), select=["INI4"]).findings


@pytest.mark.parametrize("axes", ["oi", "io", "oik"])
def test_partners_are_told_apart(axes: str) -> None:
    """Rows [B; -B] keep B; columns [A, -A] keep A; a row that is not the exact negative stays."""
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(6, 5, *(3,) * axes.count("k"), generator=generator)
    rows = torch.cat([small, -small])
    whole = torch.cat([rows, -rows], 1)
    placed = whole.transpose(0, 1).contiguous() if axes == "io" else whole
    expected = small.transpose(0, 1) if axes == "io" else small
    torch.testing.assert_close(without_partners(placed, axes), expected, rtol=0, atol=0)
    near = torch.cat([small, -small * (1 + 1e-6)])
    assert without_partners(near.transpose(0, 1) if axes == "io" else near, axes).numel() == near.numel()


def test_zero_features_are_no_partners() -> None:
    """0 = -0, yet rows of zeros are no pair: nothing is dropped."""
    weight = torch.zeros(4, 3)
    assert without_partners(weight, "oi").shape == (4, 3)
