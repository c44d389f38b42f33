"""`propagate` of wide layers, of which some features and some heads are drawn: what stays as it is with all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit.signal import propagate
from autoinit.signal.predicting import _fewer_features, _fewer_heads

WIDE, NARROW, SEEDS = 2048, 192, 8


@contextmanager
def at_most(monkeypatch: pytest.MonkeyPatch, elements: int, fewest: int = 256) -> Iterator[None]:
    """Few are drawn of what has more elements."""
    with monkeypatch.context() as patch:
        for module in (_fewer_features, _fewer_heads):
            patch.setattr(module, "MOST_ELEMENTS", elements)
            patch.setattr(module, "FEWEST", fewest)
        yield


class Gated(nn.Module):
    """A narrow layer, then the product of a rectified wide layer with another, and one that sums them up."""

    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(NARROW, NARROW, bias=False)
        self.gate, self.up = (nn.Linear(NARROW, WIDE, bias=bias) for _ in range(2))
        self.down = nn.Linear(WIDE, NARROW, bias=False)
        for layer, variance in ((self.first, 1.0), (self.gate, 2.0), (self.up, 3.0), (self.down, 1.0)):
            rms = math.sqrt(variance / layer.in_features)
            with torch.no_grad():
                layer.weight.normal_(generator=torch.Generator().manual_seed(0))
                layer.weight.mul_(rms / layer.weight.square().mean(1, keepdim=True).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        made: Tensor = self.down(self.gate(h).relu() * self.up(h))
        return made


def test_closed_forms_of_a_gated_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """gate 2, up 3, rectified half of it: 1 * 3 = 3 behind the product, and 3 behind down, of variance 1 / fan_in.

    The gradient of the product is that of the output, 1, times NARROW / WIDE; of `up` that times E relu(gate)^2 = 1; of
    `gate` times 3 in half of the places. Back in `first`: 2 / NARROW * WIDE * 1.5 * NARROW / WIDE = 3 from the gate,
    and 3 / NARROW * WIDE * NARROW / WIDE = 3 from `up`.
    """
    share = NARROW / WIDE
    with at_most(monkeypatch, 1):
        reports = [propagate(Gated(), (8, NARROW), seed=seed) for seed in range(SEEDS)]
    wanted = {
        "first": (1.0, 6.0),
        "gate": (2.0, 1.5 * share),
        "up": (3.0, share),
        "down": (3.0, 1.0),
    }
    for name, (q, grad) in wanted.items():
        assert sum(each[name].q for each in reports) / SEEDS == pytest.approx(q, rel=0.05)
        assert sum(each[name].grad or 0 for each in reports) / SEEDS == pytest.approx(grad, rel=0.1)


def test_only_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """256 of 2048 are in gate, up, relu and their product, as the report says; with room for all it does not."""
    with at_most(monkeypatch, 1):
        some = propagate(Gated(), (8, NARROW))
    with at_most(monkeypatch, 8 * WIDE):
        whole = propagate(Gated(), (8, NARROW))
    assert whole.rows == propagate(Gated(), (8, NARROW)).rows
    assert some.rows != whole.rows
    said = "4 operations on wide layers draw some features, which stand for all"
    assert [note.partition(" (")[0] for note in some.notes if "wide layers" in note] == [said]
    assert not any("wide layers" in note for note in whole.notes)


class Flattened(Gated):
    """What reads the wide layer has a number for each feature."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDE)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.down(self.norm(self.gate(self.first(x))))
        return made


def test_all_are_drawn_where_the_number_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A norm has a gain for each feature."""
    whole = propagate(Flattened(), (8, NARROW))
    with at_most(monkeypatch, 1):
        assert propagate(Flattened(), (8, NARROW)).rows == whole.rows


def test_biases_of_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """Biases of 1 add 1 to the second moments of the wide layers."""
    model = Gated(bias=True)
    for layer in (model.gate, model.up):
        nn.init.ones_(layer.bias)
    with at_most(monkeypatch, 1):
        report = propagate(model, (8, NARROW), seeds=SEEDS)
    assert report["gate"].q == pytest.approx(3.0, rel=0.05)
    assert report["up"].q == pytest.approx(4.0, rel=0.05)


class Grouped(nn.Module):
    """Two layers of causal attention, two heads of queries to each of eight heads of keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: nn.Linear(NARROW, width, bias=False) for name, width in self.widths.items()})
            for _ in range(2)
        )

    widths = {"query": 2 * NARROW, "key": NARROW, "value": NARROW}  # noqa: RUF012

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleDict)
            q, k, v = (layer[name](x).unflatten(-1, (-1, NARROW // 8)).transpose(1, 2) for name in self.widths)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            x = x + y.transpose(1, 2).flatten(2)[..., :NARROW]
        return x


def logarithms(model: nn.Module, name: str) -> Tensor:
    reports = [propagate(model, (2, 24, NARROW), seed=seed) for seed in range(SEEDS)]
    rows = [[getattr(each.row, name) for each in report.operations if each.row] for report in reports]
    return torch.tensor(rows).double().log()


@pytest.mark.parametrize("name", ["q", "grad"])
def test_attention_of_some_heads_agrees_with_all(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Of every operation, within four standard errors of the scatter that both have over seeds."""
    torch.manual_seed(0)
    model = Grouped()
    whole = logarithms(model, name)
    with at_most(monkeypatch, 1, fewest=NARROW // 4):
        some = logarithms(model, name)
    assert not torch.equal(whole, some)
    error = ((whole.var(0) + some.var(0)) / SEEDS).sqrt()
    assert float(error.max()) < 0.15
    off = (whole.mean(0) - some.mean(0)).abs()
    assert bool((off <= 4 * error + 0.01).all()), (off / error).tolist()
