"""`propagate` of wide layers, of which some features and some heads are drawn: what stays as it is with all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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


class Normed(Gated):
    """The wide layer is brought to second moment 1, with a gain of 3 for each feature, before it is summed up."""

    def __init__(self, norm: nn.Module | None) -> None:
        super().__init__()
        self.norm = norm
        self.gain = nn.Parameter(torch.full((WIDE,), 3.0))

    def forward(self, x: Tensor) -> Tensor:
        h = self.gate(self.first(x))
        h = self.norm(h) if self.norm is not None else self.gain * (h * (h.square().mean(-1, True) + 1e-6).rsqrt())
        made: Tensor = self.down(h)
        return made


@pytest.mark.parametrize("norm", [nn.LayerNorm(WIDE), nn.RMSNorm(WIDE), None], ids=["layer", "rms", "written"])
def test_norms_of_some(monkeypatch: pytest.MonkeyPatch, norm: nn.Module | None) -> None:
    """3^2 = 9 behind the norm, and behind down, of variance 1 / fan_in.

    The gradient in front of the norm is that behind, 9 * NARROW / WIDE, over 2 (Ba et al. 2016), less two of WIDE
    directions.
    """
    if isinstance(norm, (nn.LayerNorm, nn.RMSNorm)):
        nn.init.constant_(norm.weight, 3.0)
    model = Normed(norm)
    whole = propagate(model, (8, NARROW))
    with at_most(monkeypatch, 1):
        report = propagate(model, (8, NARROW), seeds=SEEDS)
    assert any("256 of 2048" in note for note in report.notes)
    assert not any("of 2048" in note for note in whole.notes)
    assert report["gate"].q == pytest.approx(2.0, rel=0.01)
    assert report["down"].q == pytest.approx(9.0, rel=0.01)
    assert report["gate"].grad == pytest.approx(4.5 * NARROW / WIDE, rel=0.05)


class Chosen(Gated):
    """What reads the wide layer sees all features at once."""

    def __init__(self, reads: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.reads = reads

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.down(self.reads(self.gate(self.first(x))))
        return made


@pytest.mark.parametrize(
    "reads",
    [
        lambda h: h.softmax(-1),
        lambda h: h * h.sum(-1, keepdim=True),
        lambda h: h.sort(-1).values,
        lambda h: torch.cat([h[..., :100], h[..., 100:].relu()], -1),
    ],
    ids=["softmax", "sum", "sort", "unequal parts"],
)
def test_all_are_drawn_where_the_number_matters(
    monkeypatch: pytest.MonkeyPatch, reads: Callable[[Tensor], Tensor]
) -> None:
    """Softmax shares 1 among all, a sum grows with their number, and 100 is another share of fewer."""
    whole = propagate(Chosen(reads), (8, NARROW))
    with at_most(monkeypatch, 1):
        assert propagate(Chosen(reads), (8, NARROW)).rows == whole.rows


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


class Llama(nn.Module):
    """Blocks as in LLaMA: written norms, heads turned by their positions, two to each of keys and values, gates."""

    def __init__(self) -> None:
        super().__init__()
        inner, fewer = 512, 256
        self.words = nn.Embedding(100, inner)
        widths = {"query": (inner, inner), "key": (inner, fewer), "value": (inner, fewer), "out": (inner, inner)}
        widths |= {"gate": (inner, 1024), "up": (inner, 1024), "down": (1024, inner)}
        made = [{name: nn.Linear(*width, bias=False) for name, width in widths.items()} for _ in range(2)]
        self.layers = nn.ModuleList(map(nn.ModuleDict, made))
        self.gain = nn.Parameter(torch.ones(inner))
        turn = torch.outer(torch.arange(16.0), torch.exp(-torch.arange(32.0) / 4)).repeat(1, 2)
        self.register_buffer("cos", turn.cos())
        self.register_buffer("sin", turn.sin())

    def turned(self, heads: Tensor) -> Tensor:
        first, second = heads[..., :32], heads[..., 32:]
        return heads * self.cos + torch.cat((-second, first), -1) * self.sin

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleDict)
            h = self.gain * (x * (x.square().mean(-1, True) + 1e-6).rsqrt())
            q, k, v = (layer[name](h) for name in ("query", "key", "value"))
            q, k, v = (each.view(2, 16, -1, 64).transpose(1, 2) for each in (q, k, v))
            k, v = (each[:, :, None].expand(2, 4, 2, 16, 64).reshape(2, 8, 16, 64) for each in (k, v))
            y = F.scaled_dot_product_attention(self.turned(q), self.turned(k), v, is_causal=True)
            x = x + layer["out"](y.transpose(1, 2).reshape(2, 16, 512))
            h = self.gain * (x * (x.square().mean(-1, True) + 1e-6).rsqrt())
            x = x + layer["down"](F.silu(layer["gate"](h)) * layer["up"](h))
        return x


class Vision(nn.Module):
    """As in ViT: a convolution and a token make a stream, queries, keys and values come from one matrix, three stds."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 256, 4, 4)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 256)), nn.Parameter(torch.randn(1, 17, 256))
        made = [
            {"norm": nn.LayerNorm(256), "qkv": nn.Linear(256, 768), "out": nn.Linear(256, 256),
             "again": nn.LayerNorm(256), "up": nn.Linear(256, 1024), "down": nn.Linear(1024, 256)}
            for _ in range(2)
        ]  # fmt: skip
        self.layers = nn.ModuleList(map(nn.ModuleDict, made))
        self.head = nn.Linear(256, 10)
        for parts in made:
            for part, std in zip(parts["qkv"].weight.chunk(3), (0.05, 0.1, 0.3), strict=True):
                nn.init.normal_(part, std=std)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleDict)
            q, k, v = layer["qkv"](layer["norm"](x)).reshape(2, 17, 3, 8, 32).permute(2, 0, 3, 1, 4).unbind(0)
            x = x + layer["out"](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 17, 256))
            x = x + layer["down"](F.gelu(layer["up"](layer["again"](x))))
        made: Tensor = self.head(x[:, 0])
        return made


def logarithms(model: nn.Module, given: Any) -> dict[str, Tensor]:
    """Of q and grad of every operation, for each seed."""
    reports = [propagate(model, given, seed=seed) for seed in range(SEEDS)]
    rows = [[each.row for each in report.operations if each.row] for report in reports]
    return {
        name: torch.tensor([[getattr(row, name) for row in each] for each in rows]).double().log()
        for name in ("q", "grad")
    }


def agree(whole: Tensor, some: Tensor) -> Tensor:
    """The standard error of the difference over seeds; four of them are allowed."""
    assert not torch.equal(whole, some)
    error = ((whole.var(0) + some.var(0)) / SEEDS).sqrt()
    off = (whole.mean(0) - some.mean(0)).abs()
    assert bool((off <= 4 * error + 0.01).all()), (off / error).tolist()
    return error


def test_attention_of_some_heads_agrees_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every operation, within four standard errors of the scatter that both have over seeds."""
    torch.manual_seed(0)
    model = Grouped()
    whole = logarithms(model, (2, 24, NARROW))
    with at_most(monkeypatch, 1, fewest=NARROW // 4):
        some = logarithms(model, (2, 24, NARROW))
    assert all(float(agree(whole[name], some[name]).max()) < 0.15 for name in whole)


def test_some_of_llama_agrees_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every operation, within four standard errors; gradients of queries, of which there are few, scatter most."""
    torch.manual_seed(0)
    model, given = Llama(), torch.empty(2, 16, dtype=torch.long, device="meta")
    whole, report = logarithms(model, given), propagate(model, given)
    with at_most(monkeypatch, 32 * 128, fewest=128):
        some, notes = logarithms(model, given), propagate(model, given).notes
    drawn = int(next(note for note in notes if "draw some features" in note).split()[0])
    assert drawn > 0.8 * sum(1 for each in report.operations if each.row)  # all but means and what is made of them
    assert all(float(agree(whole[name], some[name]).median()) < 0.05 for name in whole)


def test_some_of_a_vision_transformer_agree_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every operation; its stem makes all features, of which the stream goes on with half."""
    torch.manual_seed(0)
    model, given = Vision(), (2, 3, 16, 16)
    whole, report = logarithms(model, given), propagate(model, given)
    with at_most(monkeypatch, 34 * 128, fewest=128):
        some, notes = logarithms(model, given), propagate(model, given).notes
    drawn = int(next(note for note in notes if "draw some features" in note).split()[0])
    assert drawn > 0.7 * sum(1 for each in report.operations if each.row)
    assert all(float(agree(whole[name], some[name]).median()) < 0.1 for name in whole)
