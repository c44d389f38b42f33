"""Where four covariances are not enough: tokens that are padding, neighbours in windows, tables of coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autoinit import plan
from autoinit.errors import ArgumentError
from autoinit.signal import InputSignal, measure, propagate
from autoinit.signal._metering import Meter
from autoinit.signal.predicting._beyond_moments import before_windows, behind_inputs
from autoinit.signal.predicting.fields import Axes, Covariance, covariance, matched
from autoinit.signal.predicting.replaying import fill
from autoinit.tracing import trace


def measured(make: Callable[[], nn.Module], shape: tuple[int, ...], seeds: int) -> dict[str, tuple[float, float]]:
    """Second moment of each layer's pre-activation over fresh weights and inputs: mean, and its relative error."""
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = make()
        inputs = torch.empty(shape).normal_(generator=torch.Generator().manual_seed(1000 + seed))
        for name, row in measure(model, (inputs,), backward=False).items():
            found.setdefault(name, []).append(row.q)
    moments = {name: torch.tensor(each, dtype=torch.float64) for name, each in found.items()}
    return {
        name: (float(each.mean()), float(each.std() / each.mean()) / math.sqrt(seeds)) for name, each in moments.items()
    }


@settings(max_examples=40)
@given(st.integers(2, 5), st.integers(2, 7), st.integers(0, 2**31), st.sampled_from(["bct", "btc"]))
def test_a_tensor_is_matched_to_covariances(samples: int, positions: int, seed: int, letters: str) -> None:
    """Whatever structure it has. Wanted are those of another random tensor: any such four numbers are possible."""
    sizes = {"b": samples, "t": positions, "c": 40}
    generator = torch.Generator().manual_seed(seed)
    shape = [sizes[letter] for letter in letters]
    axes = Axes(letters)
    other = torch.empty(shape).normal_(generator=generator) + torch.empty(
        [1 if letter == "t" else sizes[letter] for letter in letters]
    ).normal_(generator=generator)
    wanted = covariance(other, axes)
    x = torch.empty(shape).normal_(generator=generator).cumsum(letters.index("t"))
    before = x.clone()
    found = covariance(matched(x, axes, wanted), axes)
    for name in ("own", "position", "sample", "apart"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=2e-4 * wanted.own), name
    assert torch.equal(x, before)


def test_a_matched_tensor_keeps_its_neighbours_alike() -> None:
    """A walk along positions has neighbours that differ by one step, whatever it is scaled to."""
    x = torch.empty(4, 64, 30).normal_(generator=torch.Generator().manual_seed(0)).cumsum(2)
    made = matched(x, Axes("bct"), Covariance(1.0, 0.3, 0.0, 0.0))
    steps = float((made[..., 1:] - made[..., :-1]).square().mean())
    # Independent of each other beside what all positions share, two would differ by 2 (1 - 0.3) = 1.4.
    assert steps < 0.3


class Padded(nn.Module):
    """4 tokens, and 12 that are zero; what a weight makes of the 4 is averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 128, bias=False), nn.Linear(128, 64, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.second(self.first(F.pad(x, (0, 0, 0, 12)))[:, :4].mean(1))
        return made


def test_tokens_of_zeros_do_not_make_the_others_less_alike() -> None:
    """Of 4 tokens with q = 1 and p = 0.6, each pair counted, the mean has 1/4 + 3/4 * 0.6 = 0.7.

    He's std makes 2 * q * 4 / 16 of the first layer over all tokens, and 2 * 2 * 0.7 of the second.
    """
    model = Padded()
    with torch.no_grad():
        for layer in (model.first, model.second):
            drawn = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0))
            layer.weight.copy_(drawn / drawn.square().mean(1, keepdim=True).sqrt() * math.sqrt(2 / drawn.shape[1]))
    report = propagate(model, (8, 4, 32), inputs=InputSignal(1.0, 0.6, 0.0))
    assert report["first"].q == pytest.approx(0.5, rel=1e-3)
    assert report["second"].q == pytest.approx(2.8, rel=0.05)


def pooled() -> nn.Module:
    """Overlapping windows make neighbours alike, and zeros make borders: both count for the largest of 9."""
    layers: list[nn.Module] = []
    for channels, made in ((3, 96), (96, 192), (192, 192)):
        layers += [nn.Conv2d(channels, made, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(192 * 3 * 3, 32, bias=False))
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return model


def test_overlapping_windows() -> None:
    """Against fresh networks. Positions that were all alike would put the last layer 30 % too high."""
    found = measured(pooled, (8, 3, 31, 31), 24)
    torch.manual_seed(99)
    predicted = propagate(pooled(), (8, 3, 31, 31), backward=False, seeds=4)
    for name, (mean, error) in found.items():
        assert error < 0.07
        assert abs(math.log(predicted[name].q / mean)) < 0.05 + 2.5 * error, name


class Coordinates(nn.Module):
    """A bias by a small network of coordinates, as in windowed attention: smooth in them, whatever the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(1, 256), nn.Linear(256, 64, bias=False)
        self.body = nn.Linear(64, 64, bias=False)
        self.register_buffer("places", torch.linspace(-1, 1, 50)[:, None])
        nn.init.kaiming_normal_(self.second.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        bias = self.second(F.relu(self.first(self.places)))
        return self.body(x + bias), bias[1:] - bias[:-1]


def test_networks_of_coordinates_stay_smooth() -> None:
    """The difference of neighbours is that of the mean over weights, far below 2 (q - p)."""
    torch.manual_seed(0)
    predicted = propagate(Coordinates(), (8, 50, 64), backward=False, seeds=4)
    steps = []
    for seed in range(12):
        torch.manual_seed(seed)
        steps.append(float(Coordinates()(torch.zeros(8, 50, 64))[1].detach().square().mean()))
    mean = sum(steps) / len(steps)
    assert predicted.outputs[1].q == pytest.approx(mean, rel=0.25)
    assert 20 * mean < 2 * (predicted["second"].q - (predicted["second"].p or 0))


def test_deep_gates_keep_their_scale() -> None:
    """E[(a sigmoid(b))^2] = E[sigmoid(z)^2] = 0.293 for a, b, z ~ N(0, 1), at every depth."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(64, 128) for _ in range(60))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = F.glu(layer(x))
            return x

    made = plan(Gated(), (8, 64), method="signal")
    moments = [1 / (64 * layer.std**2) for layer in made.layers[1:]]
    assert all(abs(moment / 0.2932 - 1) < 0.2 for moment in moments)
    assert math.exp(sum(map(math.log, moments)) / len(moments)) == pytest.approx(0.2932, rel=0.03)


def test_draws_are_averaged() -> None:
    """Each number is the mean of those of the single draws."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))
    single = [propagate(model, (4, 6), seed=seed)["4"] for seed in (5, 6, 7)]
    mean = propagate(model, (4, 6), seed=5, seeds=3)["4"]
    assert mean.q == pytest.approx(sum(each.q for each in single) / 3)
    assert len({round(each.q, 9) for each in single}) == 3
    gradient = propagate(model, (4, 6), seed=5, seeds=3)["0"].grad
    assert gradient == pytest.approx(sum(propagate(model, (4, 6), seed=each)["0"].grad or 0 for each in (5, 6, 7)) / 3)


@pytest.mark.parametrize("seeds", [0, -1, 1.5])
def test_a_number_of_draws(seeds: Any) -> None:
    with pytest.raises(ArgumentError, match=f"seeds={seeds}"):
        propagate(nn.Linear(2, 2), (2, 2), seeds=seeds)


def test_places() -> None:
    """Convolutions before a window that leaves positions; operations behind the inputs."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2)
            self.table = nn.Linear(1, 2)
            self.register_buffer("places", torch.ones(5, 1))

        def forward(self, x: Tensor) -> Tensor:
            x = self.b(F.max_pool2d(self.a(x), 2))
            made: Tensor = self.c(F.adaptive_avg_pool2d(x, 1).flatten(1)) + self.table(self.places).sum(0)
            return made

    dataflow = trace(Both(), (2, 3, 16, 16))
    by_module = {op.module: op for op in dataflow.graph.nodes if op.role.value == "weight"}
    windowed, fed = before_windows(dataflow), behind_inputs(dataflow)
    assert [name for name, op in by_module.items() if op in windowed] == ["a"]
    assert sorted(name for name, op in by_module.items() if op in fed) == ["a", "b", "c"]


def test_writing_to_an_expanded_view() -> None:
    """Its elements along an expanded axis are one place in memory."""
    base = torch.zeros(3, 1)
    fill(base.expand(3, 4), torch.tensor([[1.0], [2.0], [3.0]]).expand(3, 4))
    assert base.flatten().tolist() == [1, 2, 3]
    fill(base.expand(3, 4), 5.0)
    assert base.flatten().tolist() == [5, 5, 5]


def test_a_tensor_that_is_passed_on_is_measured_once() -> None:
    """By hand: of (1, -1, 3, -3) the second moment is (1 + 1 + 9 + 9) / 4 = 5; doubled in place it is 20.

    The gradient of (x^2).sum() / 2 is x: second moment 5, once, though the tensor came by twice. Values on the other
    axis are other rows: over the columns (1, 3) and (-1, -3) the product of different rows is -(1 + 9) / 2 = -5, over
    the rows (1, -1) and (3, -3) it is (3 + 3) / 2 = 3.
    """
    value = torch.tensor([[[1.0, -1.0], [3.0, -3.0]]], requires_grad=True)
    meter = Meter(1, backward=True)
    first, again = meter.take(value, -1), meter.take(value, -1)
    across = meter.take(value, -2)
    assert again is first
    assert (first.q, first.p, across.p) == (5.0, 3.0, -5.0)
    (value.square().sum() / 2).backward()
    assert first.grads == [5.0]
    assert first.row().grad == 5.0
    with torch.no_grad():
        value.mul_(2)
    assert meter.take(value, -1).q == 20.0
    with torch.inference_mode():
        hidden = torch.ones(2, 2)
        assert meter.take(hidden, None).q == 1.0
        assert meter.take(hidden.mul_(3), None).q == 9.0
