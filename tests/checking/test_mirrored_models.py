"""Models that start mirrored are held against the mirrored plan: clean right after it, and strays are named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoinit import autoinit, check, plan
from autoinit.signal import measure, propagate
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


class Dense(nn.Module):
    """Each layer reads all before it, the input too, whose second moment each so depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(16, 32), nn.Linear(48, 24), nn.Linear(72, 8)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.second):
            x = torch.cat([x, F.relu(layer(x))], 1)
        return self.head(x)


class Recurrent(nn.Module):
    """A recurrence written as a loop."""

    def __init__(self, curve: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.into, self.over, self.head = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 8)
        self.curve = curve

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(len(x), 32)
        for step in range(x.shape[1]):
            state = self.curve(self.into(x[:, step]) + self.over(state))
        return self.head(state)


def encoder() -> nn.Module:
    """Strides, groups, dilations, and back by transposed convolutions."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=2, dilation=2, groups=2), nn.GELU(),
        nn.ConvTranspose2d(32, 16, 3, 2, 1, output_padding=1, groups=4), nn.SiLU(), nn.ConvTranspose2d(16, 16, 2, 2),
        nn.ReLU(), nn.Conv2d(16, 3, 1),
    )  # fmt: skip


def separable() -> nn.Module:
    """Depthwise convolutions that carry pairs, and one over channels behind each."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 1), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 16, 1), nn.GELU()]
    return nn.Sequential(*layers, nn.Conv2d(16, 8, 1))


class Gated(nn.Module):
    """WaveNet's gates, conditioned: what is added in front of either factor is read from the input."""

    def __init__(self) -> None:
        super().__init__()
        names = [f"{name}{i}" for i in range(3) for name in ("value", "gate", "into", "beside")]
        self.layers = nn.ModuleDict({name: nn.Linear(16, 16) for name in names})
        self.head = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        first = x
        for i in range(3):
            value = self.layers[f"value{i}"](x) + self.layers[f"into{i}"](first)
            gate = self.layers[f"gate{i}"](x) + self.layers[f"beside{i}"](first)
            x = torch.tanh(value) * torch.sigmoid(gate)
        return self.head(x)


class Normed(nn.Module):
    """Norms everywhere: the head is all that is mirrored."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.inner = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(6))
        self.norms = nn.ModuleList(nn.BatchNorm2d(16) for _ in range(6))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.stem(x))), 2)
        for i in range(0, 6, 2):
            branch = self.norms[i + 1](self.inner[i + 1](F.relu(self.norms[i](self.inner[i](x)))))
            x = F.relu(x + branch)
        return self.head(x.mean((2, 3)))


def pooled() -> nn.Module:
    """Max pooling behind half of the nonlinearities: what lies before it is planned by `signal`."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8),
    )  # fmt: skip


def between() -> nn.Module:
    """Depthwise convolutions between nonlinearities, as MobileNet's without norms."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 8))


class Sequence(nn.Module):
    """torch's recurrent module, and a layer behind its last state."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.rnn = nn.RNN(16, 32, batch_first=True, **settings)
        self.head = nn.Linear(64 if "bidirectional" in settings else 32, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "relu": (lambda: chain(nn.ReLU), (8, 64)),
    "gelu": (lambda: chain(nn.GELU), (8, 64)),
    "tanh": (lambda: chain(nn.Tanh), (8, 64)),
    "relu convolutions": (lambda: convolutions(nn.ReLU), (8, 1, 8, 8)),
    "tanh convolutions": (lambda: convolutions(nn.Tanh), (8, 1, 8, 8)),
    "dense": (Dense, (8, 16)),
    "residual": (Residual, (8, 3, 8, 8)),
    "transposed and grouped": (encoder, (8, 3, 8, 8)),
    "separable": (separable, (8, 3, 8, 8)),
    "gates of two weights": (Gated, (8, 16)),
    "recurrence": (lambda: Recurrent(F.relu), (8, 6, 8)),
    "recurrence of tanh": (lambda: Recurrent(torch.tanh), (8, 6, 8)),
    "nn.RNN": (lambda: Sequence(nonlinearity="relu"), (8, 6, 16)),
    "nn.RNN of tanh, two layers": (lambda: Sequence(num_layers=2), (8, 6, 16)),
    "nn.RNN in both directions": (
        lambda: Sequence(nonlinearity="relu", num_layers=2, bidirectional=True),
        (8, 7, 16),
    ),
    "nn.RNN of tanh in both directions": (lambda: Sequence(bidirectional=True), (8, 12, 16)),
    "norms everywhere": (Normed, (8, 3, 32, 32)),
    "max pooling": (pooled, (8, 3, 16, 16)),
    "depthwise between nonlinearities": (between, (8, 3, 16, 16)),
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


PREDICTED = (
    "depthwise between nonlinearities",
    "transposed and grouped",
    "separable",
    "gates of two weights",
    "recurrence",
    "recurrence of tanh",
    "residual",
    "nn.RNN",
    "nn.RNN in both directions",
)


@pytest.mark.parametrize("name", PREDICTED)
def test_what_is_predicted_is_what_its_weights_make(name: str) -> None:
    """Pairs are no independent units; measured on the weights themselves, on 256 inputs, within a fifth."""
    build, shape = MODELS[name]
    model, x = build(), torch.randn(256, *shape[1:], generator=torch.Generator().manual_seed(0))
    made = plan(model, x, method="mirrored")
    made.apply(model, seed=0, force=True)
    predicted, measured = propagate(made, x, model=model), measure(model, x)
    for layer in made:
        assert predicted[layer].q == pytest.approx(measured[layer].q, rel=0.2)


def test_a_stray_among_layers_with_norms_is_named() -> None:
    """A head is all that is mirrored; one of the others, tripled, is still held against its own std."""
    model, x = Normed(), torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    autoinit(model, x, method="mirrored", seed=0, verbose=False)
    with torch.no_grad():
        model.inner[2].weight.mul_(3)
    for given in ((x,), ()):
        (finding,) = check(model, *given).findings
        assert finding.layer == "inner.2"


def test_what_reads_others_features_depends_on_their_values() -> None:
    """A factor that is kept: at 1.3 in place of 1, what reads it would be planned at 1 / 1.3 of its std. The layers
    between, which read pairs alone, say that the model is mirrored still."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(32))
            self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(6))

        def forward(self, x: Tensor) -> Tensor:
            x = torch.tanh(x) * self.factor
            for layer in self.layers:
                x = F.relu(layer(x))
            return x

    model, x = Scaled(), torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    autoinit(model, x, method="mirrored", seed=0, verbose=False)
    with torch.no_grad():
        model.factor.mul_(1.3)
    assert not check(model, x, select=["INI1"]).findings
    with torch.no_grad():
        model.layers[0].weight.mul_(3)
    assert [finding.layer for finding in check(model, x, select=["INI1"]).findings] == ["layers.0"]


def test_single_taps_are_no_outliers() -> None:
    """Two input channels are loud, behind a factor of 1/20 that is made up for: 2 of 16 columns are 20 times as large,
    at one tap of nine."""

    class Uneven(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 28, 1), nn.Conv2d(3, 4, 1)
            self.c, self.d = nn.Conv2d(32, 16, 3, padding=1), nn.Conv2d(16, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cat([F.relu(self.a(x)), F.relu(self.b(x)) / 20], 1)
            return self.d(F.relu(self.c(x)))

    model, x = Uneven(), torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    autoinit(model, x, method="mirrored", seed=0, verbose=False)
    loud = model.c.weight[:, 28:].abs().max() / model.c.weight[:, :28].abs().max()
    assert loud > 8
    assert not check(model, x, select=["INI006"]).findings


def test_other_starts_with_an_orthogonal_head_are_not_taken_for_it() -> None:
    """He's weights and an orthogonal head: held against each layer's own place, where all are as they should be."""
    model = Normed()
    autoinit(model, verbose=False, seed=0)
    nn.init.orthogonal_(model.head.weight)
    assert not check(model, torch.randn(8, 3, 32, 32)).findings


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
