"""`(h * v).sum(-1)` is `h @ v`: a parameter that varies along an axis which is summed over is a weight.

An output sums as many products as the weight has elements along the summed axes (fan_in); an input reaches as many
outputs as the weight has elements along axes that the input has not (fan_out; 1 for a vector). The std is
sqrt(2 / (fan_in + fan_out)) before an output, and sqrt(2 / fan_in) before a ReLU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import autoinit, check, plan, trace
from autoinit.models import ModelView
from autoinit.planning import plan_dataflow
from autoinit.plans.options import PlanOptions
from autoinit.signal import propagate
from tests.shared.written_nets import Layer, Net, assert_planned, linear, numbers, relu, tanh, xavier

WIDTH, HIDDEN, HEADS, EACH = 6, 8, 2, 4
VECTOR = xavier(HIDDEN, 1)
BATCH = (numbers(5, WIDTH),)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def with_vector(forward: Callable[..., Tensor], *shape: int) -> Net:
    return Net(lambda net, x: forward(F.relu(net.first(x)), net.v), first=nn.Linear(WIDTH, HIDDEN), v=parameter(*shape))


VECTORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "method": lambda h, v: (h * v).sum(-1),
    "first_axis": lambda h, v: (h * v).sum(1),
    "keepdim": lambda h, v: (v * h).sum(-1, keepdim=True),
    "function": lambda h, v: torch.sum(torch.mul(h, v), dim=-1),
    "axis": lambda h, v: torch.mul(v, h).sum(axis=-1),
    "all": lambda h, v: torch.sum(h[0] * v),
    "in_place": lambda h, v: h.mul_(v).sum(-1),
    "dropped": lambda h, v: F.dropout(h * v).sum((-1,)),
    "viewed": lambda h, v: (h * v.view(1, HIDDEN)).sum(-1),
    "vecdot": lambda h, v: torch.linalg.vecdot(h, v),
    "vecdot_left": lambda h, v: torch.linalg.vecdot(v, h),
    "inner": lambda h, v: torch.inner(h, v),
    "dot": lambda h, v: torch.dot(h[0], v),
    "vdot": lambda h, v: torch.vdot(v, h[0]),
    "tensordot": lambda h, v: torch.tensordot(h, v, 1),
}


@pytest.mark.parametrize("key", VECTORS)
def test_a_vector(key: str):
    """8 products, one output: sqrt(2 / 9), as that of a linear layer of shape (1, 8)."""
    model = with_vector(VECTORS[key], HIDDEN)
    assert_planned(model, BATCH, {"first": relu(WIDTH), "v": Layer("linear", "output", VECTOR)})
    assert not plan(model, BATCH).others


@pytest.mark.parametrize("key", ["method", "first_axis", "keepdim", "vecdot", "inner"])
def test_a_vector_without_an_input_and_in_an_exported_program(key: str):
    model = with_vector(VECTORS[key], HIDDEN)
    for made in (plan(model), plan(torch.export.export(model, BATCH))):
        assert (made["v"].nonlinearity, made["v"].std) == ("linear", pytest.approx(VECTOR))


def test_a_vector_where_no_input_is_guessed():
    """Nothing tells the input's shape; all of the vector is summed, whatever it is."""
    made = plan(Net(lambda net, x: F.relu((x * net.v / 2).sum(-1)), v=parameter(HIDDEN)))
    assert made.tier == "symbolic"
    assert made["v"].std == pytest.approx(2 * math.sqrt(2 / HIDDEN))


def test_the_mean_of_what_a_weight_made_needs_no_shapes():
    """A linear map behind a written one is no product of elements: the mean of it sums no products, whatever it is."""
    made = plan(Net(lambda net, x: F.linear(x, net.w).relu().mean(-1), w=parameter(4, HIDDEN)))
    assert (made.tier, made["w"].reason) == ("symbolic", "activation")


SCALED: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float]] = {
    "mean": (lambda h, v: (h * v).mean(-1), 1 / HIDDEN),
    "mean_function": (lambda h, v: torch.mean(v * h, dim=1, keepdim=True), 1 / HIDDEN),
    "divided": (lambda h, v: (h * v / 4).sum(-1), 1 / 4),
    "multiplied": (lambda h, v: (-0.5 * (h * v)).sum(-1), 0.5),
    "scaled_mean": (lambda h, v: (2.0 * (h * v)).mean(-1), 2 / HIDDEN),
    "scaled_weight": (lambda h, v: (h * (0.1 * v)).sum(-1), 0.1),
}


@pytest.mark.parametrize("key", SCALED)
def test_numbers_that_multiply_the_products(key: str):
    """A mean is the sum over 8: the weight in use is v / 8, so that v is planned 8 times larger."""
    forward, factor = SCALED[key]
    layer = plan(with_vector(forward, HIDDEN), BATCH)["v"]
    assert layer.std == pytest.approx(VECTOR / factor)
    assert f"multiplies its std by {factor:.3g}" in layer.note


MATRICES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], tuple[int, ...]]] = {
    "rows": (lambda h, w: (h[..., None, :] * w).sum(-1), (HEADS, HIDDEN)),
    "columns": (lambda h, w: (h.unsqueeze(-1) * w).sum(-2), (HIDDEN, HEADS)),
    "vecdot": (lambda h, w: torch.linalg.vecdot(h[:, None], w), (HEADS, HIDDEN)),
    "sample": (lambda h, w: (h[0] * w).sum(1), (HEADS, HIDDEN)),
}


@pytest.mark.parametrize("key", MATRICES)
def test_a_matrix(key: str):
    """8 products for each of 2 outputs, each of which reads all inputs: sqrt(2 / (8 + 2))."""
    forward, shape = MATRICES[key]
    expected = {"first": relu(WIDTH), "v": linear("output", HIDDEN, HEADS)}
    assert_planned(with_vector(forward, *shape), BATCH, expected)


ATTENDING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gat": lambda h, a: F.leaky_relu((h.view(-1, HEADS, EACH) * a).sum(dim=-1), 0.2),
    "einsum": lambda h, a: F.leaky_relu(torch.einsum("nhc,hc->nh", h.view(-1, HEADS, EACH), a[0]), 0.2),
    "vecdot": lambda h, a: F.leaky_relu(torch.linalg.vecdot(h.view(-1, HEADS, EACH), a), 0.2),
}


@pytest.mark.parametrize("key", ATTENDING)
def test_attention_vectors_of_heads(key: str):
    """Velickovic et al. 2018, as torch_geometric writes it: each head sums its own 4 products into one output."""
    layer = plan(with_vector(ATTENDING[key], 1, HEADS, EACH), BATCH)["v"]
    assert (layer.nonlinearity, layer.fan_in, layer.fan_out) == ("leaky_relu", EACH, 1)
    assert layer.std == pytest.approx(math.sqrt(2 / (1.04 * EACH)))


NO_WEIGHTS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "channels_pooled": lambda net, x: (net.conv(x) * net.channel).sum((2, 3)),
    "channels_averaged": lambda net, x: (net.channel * net.conv(x)).mean((2, 3)),
    "layer_scale": lambda net, x: (net.conv(x) + net.channel * net.conv(x)).mean((-2, -1)),
    "norm": lambda net, x: (F.layer_norm(net.conv(x).mean((2, 3)), (HIDDEN,)) * net.channel.view(-1)).sum(-1),
    "bent": lambda net, x: (net.conv(x) * net.channel.softmax(0)).sum(1),
    "buffer": lambda net, x: (net.conv(x) * net.fixed).sum(1),
}


@pytest.mark.parametrize("key", NO_WEIGHTS)
def test_gains_and_scales_are_none(key: str):
    """Scales of channels before a pooling over positions, of layers, of norms; what is not proportional, or fixed."""
    model = Net(
        NO_WEIGHTS[key],
        conv=nn.Conv2d(3, HIDDEN, 3),
        channel=parameter(HIDDEN, 1, 1),
        fixed=numbers(HIDDEN, 1, 1),
    )
    made = plan(model, (numbers(2, 3, 7, 7),))
    assert set(made) == {"conv"}
    kinds = {"norm": "norm", "buffer": "uncalled"}
    assert {each.name: each.kind for each in made.others} == {"channel": kinds.get(key, "other")}


def test_a_gain_of_ones_is_kept():
    """All weights 1, a plain sum at the start, is the author's choice."""
    model = with_vector(VECTORS["method"], HIDDEN)
    with torch.no_grad():
        model.v.fill_(1.0)
    autoinit(model, BATCH, verbose=False)
    assert bool((model.v == 1).all())


def test_a_product_that_something_else_takes_too():
    """The products go through a tanh as well: v scales them there, and sums them here."""
    model = Net(
        lambda net, x: (lambda p: (torch.tanh(p), p.sum(-1)))(net.first(x) * net.v),
        first=nn.Linear(WIDTH, HIDDEN),
        v=parameter(HIDDEN),
    )
    made = plan(model, BATCH)
    assert (made["first"].nonlinearity, made["v"].reason) == ("tanh", "output")


@pytest.mark.parametrize("key", ["method", "first_axis", "vecdot", "mean"])
def test_the_signal_behind_it(key: str):
    """256 inputs of second moment 1 behind the ReLU: 256 std^2 = 512 / 257, also of a mean, whose v is larger."""
    forward = (VECTORS | {key: each for key, (each, _) in SCALED.items()})[key]
    wide = 256
    model = Net(
        lambda net, x: forward(F.relu(net.first(x)), net.v), first=nn.Linear(wide, wide, bias=False), v=parameter(wide)
    )
    batch = (numbers(64, wide),)
    predicted = propagate(plan(model, batch), batch, model=model)["v"].q
    assert predicted == pytest.approx(2 * wide / (wide + 1), rel=0.05)


def test_it_passes_the_check_once_written():
    model = with_vector(VECTORS["method"], HIDDEN)
    autoinit(model, BATCH, seed=0, verbose=False)
    assert check(model, BATCH).ok


def test_a_tanh_before_it():
    """tanh(W h) summed with a vector: additive attention (Bahdanau et al. 2015)."""
    model = Net(
        lambda net, x: torch.softmax((torch.tanh(net.first(x)) * net.v).sum(-1), 0),
        first=nn.Linear(WIDTH, HIDDEN),
        v=parameter(HIDDEN),
    )
    expected = {"first": tanh(WIDTH, HIDDEN), "v": Layer("softmax", "softmax", VECTOR)}
    assert_planned(model, BATCH, expected)


def _rms(x: Tensor, gain: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * gain


def _standardised(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5)


GAINS_WHOSE_SIGNAL_GOES_ON: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "before_a_written_norm": lambda h, g: _standardised(_rms(h, g)),
    "centred": lambda h, g: _centred(_rms(h, g)),
    "by_its_sum": lambda h, g: _centred_by_sum(_rms(h, g)),
    "dropped": lambda h, g: _standardised(F.dropout(_rms(h, g), 0.1)),
    "halved": lambda h, g: _standardised(_rms(h, g) * 0.5),
    "beside_its_sum": lambda h, g: _summed_beside(_rms(h, g)),
}


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def _centred_by_sum(x: Tensor) -> Tensor:
    return x - (x.sum(-1) / HIDDEN).unsqueeze(-1)


def _summed_beside(x: Tensor) -> Tensor:
    return torch.cat([x, x.sum(-1, keepdim=True)], -1)[:, :HIDDEN]


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("key", GAINS_WHOSE_SIGNAL_GOES_ON)
def test_a_gain_whose_signal_goes_on_is_no_weight_where_it_is_summed_as_well(key: str, device: str):
    """A gain of eight features, then a mean (or sum) that its own signal meets again: a norm's, not a layer's.

    The layer before feeds the sum of a skip, on both ways; one that is said to end at the mean would be mixed.
    """
    forward = GAINS_WHOSE_SIGNAL_GOES_ON[key]
    net = Net(
        lambda net, x: (lambda h: net.last(h + forward(h, net.g)))(net.first(x)),
        first=nn.Linear(WIDTH, HIDDEN),
        g=nn.Parameter(torch.linspace(0.5, 1.5, HIDDEN)),
        last=nn.Linear(HIDDEN, 2),
    ).to(device)
    for tier in ("symbolic", "recorded") if device == "cpu" else ("recorded",):
        made = plan_dataflow(trace(net, BATCH, tier=tier), ModelView.of(net), PlanOptions())
        assert list(made) == ["first", "last"], tier
        assert made["first"].reason == "add", tier
        assert [(other.name, other.kind) for other in made.others] == [("g", "norm")], tier


def test_sizes_that_are_asked_of_a_product_do_not_make_it_a_gain():
    model = with_vector(lambda h, v: _averaged(h * v), HIDDEN)
    made = plan(model, BATCH)
    assert list(made) == ["first", "v"]


def _averaged(products: Tensor) -> Tensor:
    return products.sum(-1) * (8 / products.shape[-1])
