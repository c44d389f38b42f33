"""Rotary embeddings that are written into parts of a tensor: one matrix that feeds attention, as by stack or cat."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoinit import autoinit, check, plan
from tests.shared.written_nets import Net, assert_planned, linear, numbers, relu, tanh

WIDTH, LENGTH = 8, 5
PAIRS, HALF = WIDTH // 2, WIDTH // 2


def turned(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Each pair turned by an angle that grows with the position."""
    angles = torch.arange(LENGTH).unsqueeze(-1) / torch.arange(1, PAIRS + 1)
    return a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()


def written(x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    out[..., 0::2], out[..., 1::2] = turned(x[..., 0::2], x[..., 1::2])
    return out


def written_into_itself(x: Tensor) -> Tensor:
    x = x.clone()
    first, second = turned(x[..., 0::2], x[..., 1::2])
    x[..., 0::2] = first
    x[..., 1::2] = second
    return x


def copied(x: Tensor) -> Tensor:
    first, second = turned(x[..., 0::2], x[..., 1::2])
    out = torch.zeros_like(x)
    out[..., 0::2].copy_(first)
    out[..., 1::2].copy_(second)
    return out


def halves(x: Tensor) -> Tensor:
    out = x.new_empty(x.shape)
    out[..., :HALF], out[..., HALF:] = turned(x[..., :HALF], x[..., HALF:])
    return out


def pairs(x: Tensor) -> Tensor:
    x = x.unflatten(-1, (PAIRS, 2))
    out = torch.empty(x.shape)
    out[..., 0], out[..., 1] = turned(x[..., 0], x[..., 1])
    return out.flatten(-2)


def scattered(x: Tensor) -> Tensor:
    first, second = turned(x[..., 0::2], x[..., 1::2])
    return torch.zeros_like(x).slice_scatter(first, -1, 0, None, 2).slice_scatter(second, -1, 1, None, 2)


def selected(x: Tensor) -> Tensor:
    x = x.unflatten(-1, (PAIRS, 2))
    first, second = turned(x[..., 0], x[..., 1])
    return torch.select_scatter(torch.zeros_like(x).select_scatter(first, -1, 0), second, -1, 1).flatten(-2)


EVEN = torch.arange(0, WIDTH, 2)


def index_copied(x: Tensor) -> Tensor:
    first, second = turned(x[..., 0::2], x[..., 1::2])
    return torch.zeros_like(x).index_copy(-1, EVEN, first).index_copy_(-1, EVEN + 1, second)


def index_put(x: Tensor) -> Tensor:
    first, second = turned(x[..., 0::2], x[..., 1::2])
    out = torch.empty_like(x)
    out[..., EVEN], out[..., EVEN + 1] = first, second
    return out


def scattered_along(x: Tensor) -> Tensor:
    first, second = turned(x[..., 0::2], x[..., 1::2])
    out = torch.zeros_like(x).scatter(-1, EVEN.expand_as(first), first)
    return out.scatter_(-1, (EVEN + 1).expand_as(second), second)


def written_into_a_view(x: Tensor) -> Tensor:
    out = torch.empty_like(x).view(*x.shape[:-1], PAIRS, 2)
    out[..., 0], out[..., 1] = turned(x[..., 0::2], x[..., 1::2])
    return out.flatten(-2)


def stacked(x: Tensor) -> Tensor:
    return torch.stack(turned(x[..., 0::2], x[..., 1::2]), -1).flatten(-2)


WRITTEN = (written, written_into_itself, copied, halves, pairs, index_copied, index_put, written_into_a_view)
SCATTERED = (scattered, selected, scattered_along)
ROTARY: dict[str, Callable[[Tensor], Tensor]] = {each.__name__: each for each in (stacked, *WRITTEN, *SCATTERED)}


def attention(rotate: Callable[[Tensor], Tensor]) -> Net:
    def forward(net: Any, x: Tensor) -> Tensor:
        q, k, v = rotate(net.q(x)), rotate(net.k(x)), net.v(x)
        return net.out(torch.softmax(q @ k.transpose(1, 2) / math.sqrt(WIDTH), -1) @ v)

    return Net(forward, **{name: nn.Linear(WIDTH, WIDTH) for name in ("q", "k", "v", "out")})


EXPECTED = {name: linear("attention", WIDTH, WIDTH) for name in "qkv"} | {"out": linear("output", WIDTH, WIDTH)}


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's own, on decomposing
@pytest.mark.parametrize("way", ["recorded", "exported", "decomposed"])
@pytest.mark.parametrize("key", ROTARY)
def test_a_rotary_embedding(key: str, way: str):
    """All of q's rows go on together and feed attention: no slices, fans 8 and 8."""
    model, x = attention(ROTARY[key]), numbers(2, LENGTH, WIDTH)
    if way == "recorded":
        assert_planned(model, x, EXPECTED)
        return
    program = torch.export.export(model, (x,))
    assert_planned(program.run_decompositions({}) if way == "decomposed" else program, None, EXPECTED)


def test_a_written_rotary_embedding_is_right_after_autoinit():
    model, x = attention(written), torch.randn(2, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))
    autoinit(model, x, seed=0, verbose=False)
    assert check(model, x).ok


def test_halves_that_are_written_apart_stay_apart():
    """out[..., :4] = relu(a), out[..., 4:] = tanh(b): each half of the rows feeds its own."""

    def forward(net: Any, x: Tensor) -> Tensor:
        h = net.layer(x)
        out = torch.empty_like(h)
        out[..., :HALF] = torch.relu(h[..., :HALF])
        out[..., HALF:] = torch.tanh(h[..., HALF:])
        return out

    made = plan(Net(forward, layer=nn.Linear(WIDTH, WIDTH)), (2, WIDTH))["layer"]
    stds = [relu(WIDTH).std, tanh(WIDTH, HALF).std]
    assert [(part.rows, part.nonlinearity) for part in made.slices] == [(((0, 4),), "relu"), (((4, 8),), "tanh")]
    assert [part.std for part in made.slices] == pytest.approx(stds)


RECTIFIERS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "places": (lambda x: with_zeros(x, (x < 0).nonzero(as_tuple=True)), 0.0),
    "where": (lambda x: with_zeros(x, torch.where(x < 0)), 0.0),
    "put": (lambda x: x.index_put((x < 0,), torch.tensor(0.0)), 0.0),
    "masked_scatter": (lambda x: torch.zeros_like(x).masked_scatter(x > 0, x[x > 0]), 0.0),
    "masked_select": (lambda x: torch.zeros_like(x).masked_scatter(x > 0, x.masked_select(x > 0)), 0.0),
    "copied": (lambda x: with_values(torch.zeros_like(x), x > 0, x[x > 0]), 0.0),
    "scaled": (lambda x: with_values(x.clone(), x < 0, 0.1 * x[x < 0]), 0.1),
}


def with_zeros(x: Tensor, places: Any) -> Tensor:
    return with_values(x.clone(), places, 0.0)


def with_values(out: Tensor, places: Any, values: Any) -> Tensor:
    out[places] = values
    return out


@pytest.mark.parametrize("way", ["recorded", "exported"])
@pytest.mark.parametrize("key", RECTIFIERS)
def test_rectifiers_written_by_places(key: str, way: str):
    """He's sqrt(2 / (1 + a^2)) / sqrt(8), a the slope of what is below zero."""
    change, slope = RECTIFIERS[key]
    parts = {"layer": nn.Linear(WIDTH, WIDTH), "last": nn.Linear(WIDTH, 1)}
    model, x = Net(lambda net, x: net.last(change(net.layer(x))), **parts), numbers(2, WIDTH)
    layer = (plan(model, x) if way == "recorded" else plan(torch.export.export(model, (x,))))["layer"]
    assert layer.nonlinearity == ("leaky_relu" if slope else "relu")
    assert layer.std == pytest.approx(math.sqrt(2 / (1 + slope**2) / WIDTH), rel=1e-4)


def test_some_places_alone_are_no_function():
    """x[x > 0] gives some of the elements, which feed a sum: the layer is linear, at Xavier's sqrt(2 / 16)."""
    model = Net(lambda net, x: (y := net.layer(x))[y > 0].mean() + y.mean(), layer=nn.Linear(WIDTH, WIDTH))
    layer = plan(model, numbers(2, WIDTH))["layer"]
    assert (layer.nonlinearity, layer.std) == ("linear", pytest.approx(math.sqrt(2 / (2 * WIDTH))))


def test_places_written_by_their_sign_are_a_nonlinearity():
    """x[x < 0] = 0 is a relu."""

    def forward(net: Any, x: Tensor) -> Tensor:
        h = net.layer(x)
        h[h < 0] = 0
        return h

    assert_planned(Net(forward, layer=nn.Linear(WIDTH, WIDTH)), (2, WIDTH), {"layer": relu(WIDTH)})
