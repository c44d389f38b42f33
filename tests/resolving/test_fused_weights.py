"""Fused projections in rarer spellings: each run of output rows has its own resolution, fan and std.

`tests.test_slices` holds the plain spellings; here are those that split by other means, other layouts of the weight,
and the std of every slice. A slice of r rows has fan_out r; std is gain / sqrt(fan_in) for what has a second-moment
gain and gain * sqrt(2 / (fan_in + fan_out)) for linear, tanh and sigmoid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import plan
from autoinit.models import ModelView
from autoinit.planning import plan_dataflow
from autoinit.plans.layers import LayerPlan
from autoinit.plans.options import PlanOptions
from autoinit.tracing import trace
from tests.shared.models.parted import HALVES, HEAD, HEADS, HIDDEN, THIRDS, WIDTH, Attending, Gated
from tests.shared.written_nets import GELU_MOMENT, SILU_MOMENT, SOFTPLUS_MOMENT, Many, Net, numbers, xavier

ways = pytest.mark.parametrize("with_input", [False, True], ids=["no_input", "input"])

SEQUENCE = (2, 5, WIDTH)


SILU = 1 / math.sqrt(SILU_MOMENT)
GELU = 1 / math.sqrt(GELU_MOMENT)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


def he(fan_in: float, gain: float) -> float:
    return gain / math.sqrt(fan_in)


Slice = tuple[Any, str, str, float, float, float]


def slices(layer: LayerPlan) -> list[Slice]:
    return [
        (part.rows, part.nonlinearity, part.reason, part.fan_in, part.fan_out, pytest.approx(part.std, rel=1e-6))
        for part in layer.slices
    ]


def thirds(width: int, fan_in: int) -> list[Slice]:
    """Query, key and value, `width` rows each."""
    return [
        (((start, start + width),), "linear", "attention", fan_in, width, xavier(fan_in, width))
        for start in (0, width, 2 * width)
    ]


SWIGLU = [
    (((0, HIDDEN),), "silu", "activation", WIDTH, HIDDEN, he(WIDTH, SILU)),
    (((HIDDEN, 2 * HIDDEN),), "linear", "gate", WIDTH, HIDDEN, xavier(WIDTH, HIDDEN)),
]


# One projection for gate and value.


@ways
@pytest.mark.parametrize("part", HALVES)
def test_swiglu_has_a_std_for_each_half(part: str, with_input: bool):
    model = Gated(HALVES[part], lambda first, second: F.silu(first) * second)
    layer = plan(model, SEQUENCE if with_input else None)["fused"]
    assert slices(layer) == SWIGLU
    assert layer.std == pytest.approx(math.sqrt((he(WIDTH, SILU) ** 2 + xavier(WIDTH, HIDDEN) ** 2) / 2))


@ways
@pytest.mark.parametrize("part", HALVES)
def test_geglu_has_a_std_for_each_half(part: str, with_input: bool):
    model = Gated(HALVES[part], lambda value, gate: value * F.gelu(gate))
    layer = plan(model, SEQUENCE if with_input else None)["fused"]
    assert slices(layer) == [
        (((0, HIDDEN),), "linear", "gate", WIDTH, HIDDEN, xavier(WIDTH, HIDDEN)),
        (((HIDDEN, 2 * HIDDEN),), "gelu", "activation", WIDTH, HIDDEN, he(WIDTH, GELU)),
    ]


def test_glu_has_a_std_for_each_half():
    layer = plan(Net(lambda m, x: m.down(F.glu(m.fused(x))), fused=nn.Linear(6, 8), down=nn.Linear(4, 6)))["fused"]
    assert slices(layer) == [
        (((0, 4),), "linear", "gate", 6, 4, xavier(6, 4)),
        (((4, 8),), "sigmoid", "activation", 6, 4, xavier(6, 4)),
    ]


Parts = tuple[Tensor, ...]


def _rearranged(x: Tensor) -> Parts:
    einops = pytest.importorskip("einops")
    first, second = einops.rearrange(x, "b t (two h) -> two b t h", two=2)
    return first, second


def _rearranged_and_unbound(x: Tensor) -> Parts:
    einops = pytest.importorskip("einops")
    return einops.rearrange(x, "b t (two h) -> b t two h", two=2).unbind(2)


def _rearranged_with_a_list(x: Tensor) -> Parts:
    einops = pytest.importorskip("einops")
    first, second = einops.rearrange([*x.chunk(2, dim=-1)], "two b t h -> b t two h").unbind(2)
    return first, second


def _unpacked(x: Tensor) -> Parts:
    einops = pytest.importorskip("einops")
    first, second = einops.unpack(x, [[HIDDEN], [HIDDEN]], "b t *")
    return first, second


MORE_HALVES: dict[str, Callable[[Tensor], Parts]] = {
    "movedim": lambda x: (x.unflatten(-1, (2, HIDDEN)).movedim(-2, 0)[0], x.unflatten(-1, (2, -1)).movedim(2, 0)[1]),
    "permute_unbind": lambda x: torch.unbind(x.reshape(*x.shape[:2], 2, HIDDEN).permute(2, 0, 1, 3)),
    "permute_unpacked": lambda x: tuple(x.reshape(x.shape[0], x.shape[1], 2, HIDDEN).permute(2, 0, 1, 3).unbind()),
    "swapaxes": lambda x: x.view(x.shape[0], x.shape[1], 2, HIDDEN).swapaxes(1, 2).unbind(1),
    "transpose_then_chunk": lambda x: tuple(each.transpose(1, 2) for each in x.transpose(1, 2).chunk(2, dim=1)),
    "dsplit": lambda x: torch.dsplit(x, 2),
    "tensor_split_indices": lambda x: x.tensor_split([HIDDEN], dim=-1),
    "split_with_sizes": lambda x: torch.split_with_sizes(x, [HIDDEN, HIDDEN], -1),
    "list_of_indices": lambda x: (x[..., list(range(HIDDEN))], x[..., list(range(HIDDEN, 2 * HIDDEN))]),
    "slice_of_a_flattened": lambda x: (x.flatten(0, 1)[:, :HIDDEN], x.flatten(0, 1)[:, HIDDEN:]),
    "contiguous_and_cast": lambda x: x.float().contiguous().clone().chunk(2, -1),
    "chunks_joined": lambda x: (torch.cat(x.chunk(4, -1)[:2], -1), torch.cat(x.chunk(4, -1)[2:], -1)),
    "unbind_then_stack": lambda x: (torch.stack(x.unbind(-1)[:HIDDEN], -1), torch.stack(x.unbind(-1)[HIDDEN:], -1)),
    "rolled": lambda x: (x[..., :HIDDEN], x.roll(HIDDEN, -1)[..., :HIDDEN]),
    "index_select": lambda x: (
        x.index_select(-1, torch.arange(HIDDEN)), x.index_select(-1, torch.arange(HIDDEN) + HIDDEN)
    ),
    "padded": lambda x: (F.pad(x, (0, 2))[..., :HIDDEN], F.pad(x, (2, 0))[..., HIDDEN + 2 :]),
    "rearrange": _rearranged,
    "rearrange_unbind": _rearranged_and_unbound,
    "rearrange_of_a_list": _rearranged_with_a_list,
    "einops_unpack": _unpacked,
}  # fmt: skip


@pytest.mark.parametrize("part", MORE_HALVES)
def test_rarer_ways_to_part_in_two(part: str):
    model = Gated(MORE_HALVES[part], lambda first, second: F.silu(first) * second)
    assert slices(plan(model, SEQUENCE)["fused"]) == SWIGLU


def test_a_rearrange_layer_of_einops():
    torch_layers = pytest.importorskip("einops.layers.torch")
    model = nn.Sequential(nn.Linear(6, 8), torch_layers.Rearrange("b t (two h) -> two b t h", two=2))
    whole = Net(lambda m, x: m.down(F.silu(m.up(x)[0]) * m.up(x)[1]), up=model, down=nn.Linear(4, 6))
    assert slices(plan(whole, SEQUENCE)["up.0"]) == SWIGLU


def test_interleaved_gate_and_value():
    """`x[..., ::2]`, `x[..., 1::2]`: runs of one row, four to each half."""
    model = Gated(lambda x: (x[..., ::2], x[..., 1::2]), lambda gate, value: F.silu(gate) * value)
    layer = plan(model, SEQUENCE)["fused"]
    assert slices(layer) == [
        (tuple((row, row + 1) for row in (0, 2, 4, 6)), "silu", "activation", 6, 4, he(6, SILU)),
        (tuple((row, row + 1) for row in (1, 3, 5, 7)), "linear", "gate", 6, 4, xavier(6, 4)),
    ]


def test_unequal_parts():
    """As in a state-space block: gate, signal and step size in one matrix; rows 6 and 7 are read twice."""

    def forward(model: Any, x: Tensor) -> Tensor:
        z, y, dt = model.fused(x).split([4, 6, 2], dim=-1)
        return model.down(F.softplus(dt).repeat_interleave(2, -1) * y[..., :4] * F.silu(z) + y[..., 2:])

    layer = plan(Net(forward, fused=nn.Linear(6, 12), down=nn.Linear(4, 6)), SEQUENCE)["fused"]
    assert slices(layer) == [
        (((0, 4),), "silu", "activation", 6, 4, he(6, SILU)),
        (((4, 6),), "linear", "gate", 6, 2, xavier(6, 2)),
        (((6, 8),), "linear", "gate", 6, 2, xavier(6, 2)),
        (((8, 10),), "linear", "add", 6, 2, xavier(6, 2)),
        (((10, 12),), "softplus", "activation", 6, 2, he(6, 1 / math.sqrt(SOFTPLUS_MOMENT))),
    ]


# Query, key and value.


@ways
@pytest.mark.parametrize("part", THIRDS)
def test_fused_qkv_has_a_std_for_each_third(part: str, with_input: bool):
    """E = 6: the whole is (18, 6); each third is a (6, 6) of its own, std sqrt(2 / 12), not sqrt(2 / 24)."""
    layer = plan(Attending(3 * HEADS * HEAD, THIRDS[part]), SEQUENCE if with_input else None)["fused"]
    assert slices(layer) == thirds(6, 6)
    assert layer.std == pytest.approx(math.sqrt(1 / 6))


MORE_THIRDS: dict[str, Callable[[Tensor], Parts]] = {
    "movedim": lambda x: x.unflatten(-1, (3, HEADS, HEAD)).movedim(2, 0).transpose(2, 3).unbind(0),
    "permute_and_split": lambda x: tuple(
        each.squeeze(0) for each in x.view(*x.shape[:2], 3, HEADS, HEAD).permute(2, 0, 3, 1, 4).split(1)
    ),
    "permute_and_unpack": lambda x: tuple(x.view(*x.shape[:2], 3, HEADS, HEAD).permute(2, 0, 3, 1, 4)),
    "chunk_then_view": lambda x: tuple(
        each.contiguous().view(x.shape[0], x.shape[1], HEADS, HEAD).transpose(1, 2) for each in x.chunk(3, 2)
    ),
    "fortran_style": lambda x: tuple(
        each.reshape(x.shape[0], HEADS, HEAD, -1).transpose(2, 3) for each in x.transpose(1, 2).chunk(3, 1)
    ),
}


@pytest.mark.parametrize("part", MORE_THIRDS)
def test_rarer_ways_to_part_in_three(part: str):
    assert slices(plan(Attending(3 * HEADS * HEAD, MORE_THIRDS[part]), SEQUENCE)["fused"]) == thirds(6, 6)


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) / 2, -1) @ v


def test_qkv_of_a_pointwise_convolution():
    """(batch, 3 C, height, width), parted over channels."""

    def forward(model: Any, x: Tensor) -> Tensor:
        q, k, v = model.qkv(x).flatten(2).chunk(3, dim=1)
        return model.out(attended(q, k, v).view_as(x))

    layer = plan(Net(forward, qkv=nn.Conv2d(6, 18, 1), out=nn.Conv2d(6, 6, 1)), (2, 6, 4, 4))["qkv"]
    assert slices(layer) == thirds(6, 6)


def test_qkv_of_a_plain_product():
    """`x @ W`, W (in, 3 out): the rows of the slices are columns of W."""
    model = Net(lambda m, x: attended(*(x @ m.qkv).chunk(3, -1)) @ m.out, qkv=parameter(6, 12), out=parameter(4, 6))
    layer = plan(model, SEQUENCE)["qkv"]
    assert (layer.axes, slices(layer)) == ("io", thirds(4, 6))


def test_qkv_of_an_einsum_with_an_axis_for_each():
    """W (in, 3, heads, head) is `iooo`; the output's first axis tells query, key and value apart."""

    def forward(model: Any, x: Tensor) -> Tensor:
        q, k, v = torch.einsum("btd,dchk->cbhtk", x, model.qkv)
        return torch.einsum("bhtk,hkd->btd", attended(q, k, v), model.out)

    made = plan(Net(forward, qkv=parameter(6, 3, 2, 3), out=parameter(2, 3, 6)), SEQUENCE)
    assert (made["qkv"].axes, slices(made["qkv"])) == ("iooo", thirds(6, 6))
    assert (made["out"].axes, made["out"].fan_in, made["out"].fan_out) == ("iio", 6, 6)
    assert made["out"].std == pytest.approx(xavier(6, 6))


def test_qkv_of_a_conv1d_of_transformers():
    """GPT-2's c_attn holds (in, 3 out)."""
    pytest.importorskip("transformers")
    from transformers.pytorch_utils import Conv1D

    model = Net(lambda m, x: m.out(attended(*m.qkv(x).split(6, dim=2))), qkv=Conv1D(18, 6), out=Conv1D(6, 6))
    made = plan(model, SEQUENCE)
    assert (made["qkv"].axes, slices(made["qkv"])) == ("io", thirds(6, 6))
    assert (made["out"].axes, made["out"].reason, made["out"].fan_in) == ("io", "output", 6)


# The packed weight of multi-head attention.


def _module(model: Any, x: Tensor) -> Tensor:
    return model.attention(x, x, x)[0]


def _functional(model: Any, x: Tensor) -> Tensor:
    a = model.attention
    return F.multi_head_attention_forward(
        x, x, x, 6, 2, a.in_proj_weight, a.in_proj_bias, None, None, False, 0.0, a.out_proj.weight, a.out_proj.bias
    )[0]


def _chunked_output(model: Any, x: Tensor) -> Tensor:
    a = model.attention
    return a.out_proj(attended(*F.linear(x, a.in_proj_weight, a.in_proj_bias).chunk(3, -1)))


@pytest.mark.parametrize("way", [_module, _functional, _chunked_output], ids=["module", "functional", "by_hand"])
def test_in_proj_parameter(way: Callable[..., Tensor]):
    layer = plan(Net(way, attention=nn.MultiheadAttention(6, 2)), (5, 2, 6))["attention.in_proj_weight"]
    assert slices(layer) == thirds(6, 6)
    assert layer.biases == ("attention.in_proj_bias",)


def test_separate_projections_of_other_widths():
    """kdim, vdim: three matrices, (6, 6), (6, 4) and (6, 8)."""
    model = Many(lambda m, q, k, v: m.attention(q, k, v)[0], attention=nn.MultiheadAttention(6, 2, kdim=4, vdim=8))
    made = plan(model, (numbers(5, 2, 6), numbers(7, 2, 4), numbers(7, 2, 8)))
    found = {name.removeprefix("attention."): (each.reason, each.fan_in, each.std) for name, each in made.items()}
    assert found == {
        "q_proj_weight": ("attention", 6, pytest.approx(xavier(6, 6))),
        "k_proj_weight": ("attention", 4, pytest.approx(xavier(4, 6))),
        "v_proj_weight": ("attention", 8, pytest.approx(xavier(8, 6))),
        "out_proj": ("output", 6, pytest.approx(xavier(6, 6))),
    }


def _sliced_weight(model: Any, x: Tensor) -> Tensor:
    w = model.packed
    return attended(F.linear(x, w[:6]), F.linear(x, w[6:12]), F.linear(x, w[12:]))


def _chunked_weight(model: Any, x: Tensor) -> Tensor:
    return attended(*(F.linear(x, part) for part in model.packed.chunk(3)))


@pytest.mark.parametrize("way", [_sliced_weight, _chunked_weight], ids=["sliced", "chunked"])
def test_a_packed_weight_used_in_thirds(way: Callable[..., Tensor]):
    """The matrices in use are (6, 6) and agree: one std for all rows."""
    (layer,) = plan(Net(way, packed=parameter(18, 6)), SEQUENCE).values()
    assert (layer.reason, layer.fan_in, layer.fan_out) == ("attention", 6, 6)
    assert layer.std == pytest.approx(xavier(6, 6))


# Gates of recurrent networks: input, forget, cell, output; reset, update, new.

TANH = 5 / 3


def gates(names: str, hidden: int, fan_in: int) -> list[Slice]:
    rows = [(((n * hidden, (n + 1) * hidden),), name) for n, name in enumerate(names.split())]
    stds = {name: xavier(fan_in, hidden, TANH if name == "tanh" else 1.0) for _, name in rows}
    reasons = {"linear": "gate"}
    return [(each, name, reasons.get(name, "activation"), fan_in, hidden, stds[name]) for each, name in rows]


LSTM, GRU = "sigmoid sigmoid tanh sigmoid", "sigmoid sigmoid tanh"
GRU_STATE = "sigmoid sigmoid linear"  # the reset gate multiplies the state's part before tanh


@ways
@pytest.mark.parametrize(
    ("layer", "of_input", "of_state"),
    [
        (nn.LSTM(6, 5), LSTM, LSTM),
        (nn.GRU(6, 5), GRU, GRU_STATE),
        (nn.LSTMCell(6, 5), LSTM, LSTM),
        (nn.GRUCell(6, 5), GRU, GRU_STATE),
    ],
    ids=["LSTM", "GRU", "LSTMCell", "GRUCell"],
)
def test_gates_of_torch_s_own(layer: nn.Module, of_input: str, of_state: str, with_input: bool):
    cell = isinstance(layer, nn.RNNCellBase)
    made = plan(layer, ((2, 6) if cell else (4, 2, 6)) if with_input else None)
    suffix = "" if cell else "_l0"
    assert slices(made[f"weight_ih{suffix}"]) == gates(of_input, 5, 6)
    assert slices(made[f"weight_hh{suffix}"]) == gates(of_state, 5, 5)
    assert made[f"weight_hh{suffix}"].biases == (f"bias_hh{suffix}",)


def lstm_step(gated: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = gated.chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def test_gates_written_out_over_time():
    """One matrix for [x, h], read at each of three steps."""

    def forward(model: Any, x: Tensor) -> Tensor:
        h, c = x.new_zeros(x.shape[1], 5), x.new_zeros(x.shape[1], 5)
        for step in x:
            h, c = lstm_step(model.cell(torch.cat([step, h], dim=1)), c)
        return model.head(h)

    model = Net(forward, cell=nn.Linear(11, 20), head=nn.Linear(5, 3))
    layer = plan(model, (3, 2, 6))["cell"]
    assert slices(layer) == gates(LSTM, 5, 11)
    assert len(layer.uses) == 3


def test_gates_of_a_convolutional_lstm():
    """3 x 3 over [x, h]: fan_in (2 + 4) * 9, fan_out 4 * 9."""

    def forward(model: Any, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 4, *x.shape[2:])
        return model.head(lstm_step(model.cell(torch.cat([x, h], dim=1)), h)[0])

    layer = plan(Net(forward, cell=nn.Conv2d(6, 16, 3, padding=1), head=nn.Conv2d(4, 1, 1)), (1, 2, 8, 8))["cell"]
    found = [(part.rows, part.nonlinearity, part.fan_in, part.fan_out, part.std) for part in layer.slices]
    wide = pytest.approx(xavier(54, 36)), pytest.approx(xavier(54, 36, TANH))
    assert found == [
        (((0, 4),), "sigmoid", 54, 36, wide[0]),
        (((4, 8),), "sigmoid", 54, 36, wide[0]),
        (((8, 12),), "tanh", 54, 36, wide[1]),
        (((12, 16),), "sigmoid", 54, 36, wide[0]),
    ]


def test_gates_summed_by_hand():
    """`ih(x) + hh(h)`: both are read by an addition before any gate, so both are linear, whole."""

    def forward(model: Any, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 5)
        return model.head(lstm_step(model.ih(x) + model.hh(h), h)[0])

    made = plan(Net(forward, ih=nn.Linear(6, 20), hh=nn.Linear(5, 20), head=nn.Linear(5, 3)), (2, 6))
    for name, fan_in in (("ih", 6), ("hh", 5)):
        assert (made[name].nonlinearity, made[name].reason) == ("linear", "add")
        assert made[name].std == pytest.approx(xavier(fan_in, 20))


# What the values choose is no split.


def test_a_router_that_takes_the_best():
    """topk over the experts: any row may be chosen, so no row has a place of its own; the indices carry nothing."""

    def forward(model: Any, x: Tensor) -> Tensor:
        logits, chosen = torch.topk(model.router(x), 2, dim=-1)
        order = torch.empty_like(chosen.flatten())
        order[chosen.flatten().argsort()] = torch.arange(order.numel())
        picked = model.experts[chosen].flatten(0, 1)[order]
        return model.head(x + (picked.view(*chosen.shape, 6) * torch.softmax(logits, -1)[..., None]).sum(1))

    model = Net(forward, router=nn.Linear(6, 8, bias=False), experts=torch.ones(8, 6), head=nn.Linear(6, 3))
    layer = plan(model, (30, 6))["router"]
    assert (layer.nonlinearity, layer.reason, layer.slices) == ("softmax", "softmax", ())
    assert layer.std == pytest.approx(xavier(6, 8))


def test_places_are_no_rows():
    """More positions than rows: sorted indices must not be taken for row numbers."""

    def forward(model: Any, x: Tensor) -> Tensor:
        _, chosen = model.router(x).max(dim=-1)
        permuted = x[torch.sort(chosen.flatten())[1]]
        return model.head(torch.relu(permuted))

    made = plan(Net(forward, router=nn.Linear(6, 8), head=nn.Linear(6, 3)), (30, 6))
    assert (made["router"].reason, made["router"].slices) == ("output", ())
    assert made["head"].reason == "output"


@pytest.mark.parametrize(
    "part",
    [lambda x: x.chunk(2, -1), lambda x: (x[:, :4], x[:, 4:]), lambda x: x.unflatten(-1, (2, 4)).unbind(1)],
    ids=["chunk", "slices", "unbind"],
)  # fmt: skip
def test_nothing_was_selected(part: Callable[[Tensor], Parts]):
    """A batch of no proposals, no tokens for an expert: the rows part all the same."""
    layer = plan(Gated(part, lambda first, second: F.silu(first) * second), torch.zeros(0, 6))["fused"]
    assert slices(layer) == SWIGLU


def test_zeros_that_fill_are_no_rows():
    """tril fills with zeros, which are not row 0."""

    def forward(model: Any, x: Tensor) -> Tensor:
        gate, value = model.fused(x).chunk(2, -1)
        return model.down(F.silu(gate) * torch.tril(value))

    layer = plan(Net(forward, fused=nn.Linear(6, 8), down=nn.Linear(4, 6)), SEQUENCE)["fused"]
    assert slices(layer) == SWIGLU


PLACES: dict[str, Callable[[Tensor], Any]] = {
    "topk": lambda x: x.topk(2, -1)[1],
    "sort": lambda x: torch.sort(x, dim=-1)[1],
    "max": lambda x: x.max(dim=-1, keepdim=True)[1],
    "min": lambda x: torch.min(x, -1, keepdim=True).indices,
    "kthvalue": lambda x: x.kthvalue(2, -1, keepdim=True)[1],
    "median": lambda x: x.median(-1, keepdim=True)[1],
    "mode": lambda x: torch.mode(x, -1, keepdim=True).indices,
    "cummax": lambda x: x.cummax(-1)[1],
}


@pytest.mark.parametrize("key", PLACES)
def test_places_carry_no_signal(key: str):
    """What is looked up at the places feeds the relu; what was ranked is only ranked."""

    def forward(model: Any, x: Tensor) -> Tensor:
        places = PLACES[key](model.score(x))
        return torch.relu(model.value(x).gather(-1, places))

    made = plan(Net(forward, score=nn.Linear(6, 8), value=nn.Linear(6, 8)), (5, 6))
    assert (made["value"].nonlinearity, made["value"].reason) == ("relu", "activation")
    assert (made["score"].reason, made["score"].alternatives) == ("output", ())


def test_a_signal_and_a_logarithm():
    """xlogy multiplies one signal by the logarithm of the other."""
    made = plan(Net(lambda m, x: torch.xlogy(m.a(x), m.b(x).exp()), a=nn.Linear(6, 8), b=nn.Linear(6, 8)), (5, 6))
    assert (made["a"].nonlinearity, made["a"].reason, made.unsupported) == ("linear", "gate", ())


# Places combined or chosen between the layer and the split: the features stay what they are.

IMAGE = (2, 3, 8, 8)

BETWEEN: dict[str, Callable[[Tensor], Tensor]] = {
    "max_pool": lambda y: F.max_pool2d(y, 2),
    "avg_pool": nn.AvgPool2d(2),
    "adaptive": nn.AdaptiveAvgPool2d(1),
    "adaptive_then_flat": lambda y: F.adaptive_avg_pool2d(y, 2).flatten(1).view(-1, 6, 4),
    "upsampled": lambda y: F.interpolate(y, scale_factor=2.0),
    "causal_padding": lambda y: F.pad(y, (1, 0))[..., :-1],
    "reflected": nn.ReflectionPad2d(1),
    "mean": lambda y: y.mean((2, 3)),
    "mean_kept": lambda y: y.mean((-1, -2), keepdim=True),
    "largest": lambda y: y.flatten(2).max(-1)[0],
    "largest_two": lambda y: y.flatten(2).topk(2).values,
    "sorted": lambda y: y.sort(-1)[0],
    "cumulative": lambda y: y.cumsum(-1),
    "beside_a_token": lambda y: torch.cat([torch.zeros(2, 6, 1), y.flatten(2)], -1).mean(-1),
    "blurred": lambda y: F.conv2d(y, torch.ones(6, 1, 3, 3), stride=2, groups=6),
}  # fmt: skip


@pytest.mark.parametrize("between", BETWEEN)
def test_parts_behind_combined_places(between: str):
    def forward(model: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        y = BETWEEN[between](model.fused(x))
        return torch.tanh(y[:, :2]), torch.relu(y[:, 2:])

    layer = plan(Net(forward, fused=nn.Conv2d(3, 6, 3, padding=1)), IMAGE)["fused"]
    assert [(part.rows, part.nonlinearity) for part in layer.slices] == [(((0, 2),), "tanh"), (((2, 6),), "relu")]


CHOICES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "constant": lambda y, score: y[torch.arange(2)],
    "rank": lambda y, score: y[score.topk(2).indices],
    "where": lambda y, score: y[torch.where(score > 0.1)[0]],
    "mask": lambda y, score: y[score > 0.1],
    "index_select": lambda y, score: y.index_select(0, score.topk(2).indices),
    "gather": lambda y, score: y.gather(0, score.topk(2).indices[:, None].expand(2, 6)),
    "take_along_dim": lambda y, score: torch.take_along_dim(y, score.topk(2).indices[:, None], 0),
    "mask_of_two_axes": lambda y, score: y.view(2, 2, 6)[score.view(2, 2) > 0.1],
    "two_indices": lambda y, score: y.view(2, 2, 6)[torch.arange(2)[:, None], score.view(2, 2).topk(2, dim=1).indices],
    "written": lambda y, score: torch.zeros_like(y).index_add(0, score.topk(4).indices, y),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_parts_behind_places_that_data_chooses(choice: str):
    def forward(model: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        y = CHOICES[choice](model.fused(x), torch.sigmoid(model.score(x)).flatten())
        return torch.tanh(y[..., :2]), torch.relu(y[..., 2:])

    layer = plan(Net(forward, score=nn.Linear(8, 1), fused=nn.Linear(8, 6)), numbers(4, 8))["fused"]
    assert [(part.rows, part.nonlinearity) for part in layer.slices] == [(((0, 2),), "tanh"), (((2, 6),), "relu")]


def test_features_that_data_chooses_are_listed_whole():
    """Any feature may stand anywhere: the smaller gain, that of relu (sqrt 2 against 5/3), stands for all."""

    def forward(model: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        y = model.fused(x)[:, model.score(x).topk(6, dim=1).indices[0]]
        return torch.tanh(y[..., :2]), torch.relu(y[..., 2:])

    layer = plan(Net(forward, score=nn.Linear(8, 6), fused=nn.Linear(8, 6)), numbers(4, 8))["fused"]
    assert (layer.nonlinearity, layer.reason, layer.slices) == ("relu", "mixed", ())


def test_positions_of_a_shape_that_is_not_known_are_no_features():
    """Traced with proxies alone, `y[:, 0]` may be a feature or a position: no slices are guessed."""
    model = Net(lambda m, x: (torch.relu(m.fused(x)[:, 0]), torch.tanh(m.fused(x)[:, 1:])), fused=nn.Linear(8, 6))
    layer = plan_dataflow(trace(model, tier="symbolic"), ModelView.of(model), PlanOptions())["fused"]
    assert (layer.nonlinearity, layer.reason, layer.slices) == ("relu", "mixed", ())


def test_a_norm_of_a_rectified_part_hides_no_relu():
    """`relu` is homogeneous, so that `relu(h) / |relu(h)|` ignores the scale of h; yet it is the relu that is fed."""

    def forward(model: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        h = model.body(x)
        y = torch.relu(h)
        return y / y.norm(dim=-1, keepdim=True), model.side(h)

    layer = plan(Net(forward, body=nn.Linear(6, 8), side=nn.Linear(8, 2)), (4, 6))["body"]
    assert (layer.nonlinearity, layer.reason, layer.normalised) == ("relu", "mixed", False)
