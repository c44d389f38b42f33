"""Weights that plain operations use: found in the graph, with the fans that counting products gives.

Each case ends in a relu, so std = sqrt(2 / fan_in), or says what else its weight feeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoinit import Plan, plan
from autoinit.models import ModelView
from autoinit.planning import plan_dataflow
from autoinit.plans.options import PlanOptions
from autoinit.tracing import trace
from tests.shared.written_nets import Many, Net, numbers, xavier

GROUPED_MM = getattr(F, "grouped_mm", None) or torch._grouped_mm
"""Public from torch 2.10 on."""


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


Geometry = tuple[str, float, float]
"""Letters of the weight's axes, fan_in, fan_out."""

Use = Callable[[Any, Tensor], Tensor]

ONE_WEIGHT: dict[str, tuple[Use, tuple[int, ...], tuple[int, ...], Geometry]] = {
    # (x, W) -> pre-activation; shape of x; shape of W
    "at": (lambda m, x: x @ m.w, (2, 5), (5, 7), ("io", 5, 7)),
    "at_transposed": (lambda m, x: x @ m.w.mT, (2, 3, 5), (7, 5), ("oi", 5, 7)),
    "mm": (lambda m, x: torch.mm(x, m.w.t()), (2, 5), (7, 5), ("oi", 5, 7)),
    "from_the_left": (lambda m, x: torch.matmul(m.w, x), (5, 2), (7, 5), ("oi", 5, 7)),
    "at_vector": (lambda m, x: m.w @ x, (5,), (7, 5), ("oi", 5, 7)),
    "mv": (lambda m, x: torch.mv(m.w, x), (5,), (7, 5), ("oi", 5, 7)),
    "mv_method": (lambda m, x: m.w.mv(x), (5,), (7, 5), ("oi", 5, 7)),
    "addmv": (lambda m, x: torch.addmv(torch.zeros(7), m.w, x), (5,), (7, 5), ("oi", 5, 7)),
    "inner": (lambda m, x: torch.inner(x, m.w), (2, 5), (7, 5), ("oi", 5, 7)),
    "vector": (lambda m, x: x @ m.w, (2, 5), (5,), ("i", 5, 1)),
    "vector_from_the_left": (lambda m, x: m.w @ x, (5, 2), (5,), ("i", 5, 1)),
    "vector_as_a_column": (lambda m, x: x.matmul(m.w.unsqueeze(-1)), (2, 5), (5,), ("i", 5, 1)),
    "vector_of_linear": (lambda m, x: F.linear(x, m.w), (2, 5), (5,), ("i", 5, 1)),
    "vector_of_mv": (lambda m, x: torch.mv(x, m.w), (2, 5), (5,), ("i", 5, 1)),
    "vector_of_addmv": (lambda m, x: torch.addmv(torch.zeros(2), x, m.w), (2, 5), (5,), ("i", 5, 1)),
    "vector_of_inner": (lambda m, x: torch.inner(x, m.w), (2, 5), (5,), ("i", 5, 1)),
    "vector_of_dot": (lambda m, x: torch.dot(m.w, x), (5,), (5,), ("i", 5, 1)),
    "vector_of_einsum": (lambda m, x: torch.einsum("bti,i->bt", x, m.w), (2, 3, 5), (5,), ("i", 5, 1)),
    "vector_of_tensordot": (lambda m, x: torch.tensordot(x, m.w, dims=1), (2, 3, 5), (5,), ("i", 5, 1)),
    "linear": (lambda m, x: F.linear(x, m.w), (2, 5), (7, 5), ("oi", 5, 7)),
    "addmm": (lambda m, x: torch.addmm(torch.zeros(7), x, m.w), (2, 5), (5, 7), ("io", 5, 7)),
    "bmm": (lambda m, x: torch.bmm(x, m.w), (4, 2, 5), (4, 5, 7), ("bio", 5, 7)),
    "bmm_from_the_left": (lambda m, x: torch.bmm(m.w.expand(4, 7, 5), x), (4, 5, 2), (7, 5), ("oi", 5, 7)),
    "baddbmm": (lambda m, x: torch.baddbmm(torch.zeros(1), x, m.w), (4, 2, 5), (4, 5, 7), ("bio", 5, 7)),
    "heads_with_matrices": (lambda m, x: x @ m.w, (2, 3, 4, 5), (3, 5, 7), ("bio", 5, 7)),
    "einsum": (lambda m, x: torch.einsum("bi,io->bo", x, m.w), (2, 5), (5, 7), ("io", 5, 7)),
    "einsum_implicit": (lambda m, x: torch.einsum("bi,io", x, m.w), (2, 5), (5, 7), ("io", 5, 7)),
    "einsum_dots": (lambda m, x: torch.einsum("...i,oi->...o", x, m.w), (2, 3, 5), (7, 5), ("oi", 5, 7)),
    "einsum_weight_first": (lambda m, x: torch.einsum("oi,bi->bo", m.w, x), (2, 5), (7, 5), ("oi", 5, 7)),
    "einsum_operands_in_a_list": (lambda m, x: torch.einsum("bi,io->bo", [x, m.w]), (2, 5), (5, 7), ("io", 5, 7)),
    "einsum_axes_as_numbers": (
        lambda m, x: torch.einsum(x, [0, 1], m.w, [1, 2], [0, 2]), (2, 5), (5, 7), ("io", 5, 7)
    ),
    "einsum_axes_as_numbers_implicit": (
        lambda m, x: torch.einsum(x, [0, 1], m.w, [1, 2]), (2, 5), (5, 7), ("io", 5, 7)
    ),
    "einsum_image": (lambda m, x: torch.einsum("bchw,oc->bohw", x, m.w), (2, 5, 3, 3), (7, 5), ("oi", 5, 7)),
    "einsum_blocks": (lambda m, x: torch.einsum("bgi,gio->bgo", x, m.w), (2, 3, 5), (3, 5, 7), ("bio", 5, 7)),
    "einsum_experts": (lambda m, x: torch.einsum("ebi,eio->ebo", x, m.w), (3, 2, 5), (3, 5, 7), ("bio", 5, 7)),
    "einsum_every_expert": (
        lambda m, x: torch.einsum("bti,eio->bteo", x, m.w), (2, 4, 5), (3, 5, 7), ("bio", 5, 7)
    ),
    "einsum_bilinear": (lambda m, x: torch.einsum("bi,oij,bj->bo", x, m.w, x), (2, 5), (7, 5, 5), ("oii", 25, 7)),
    "tensordot": (lambda m, x: torch.tensordot(x, m.w, dims=1), (2, 3, 5), (5, 7), ("io", 5, 7)),
    "tensordot_two": (lambda m, x: torch.tensordot(x, m.w, 2), (2, 3, 5), (3, 5, 7), ("iio", 15, 7)),
    "tensordot_axes": (
        lambda m, x: torch.tensordot(x, m.w, dims=([2], [1])), (2, 3, 5), (7, 5), ("oi", 5, 7)
    ),
    "tensordot_axes_two": (
        lambda m, x: torch.tensordot(x, m.w, ([1, -1], [0, 2])), (2, 3, 5), (3, 7, 5), ("ioi", 15, 7)
    ),
    "tensordot_weight_first": (
        lambda m, x: torch.tensordot(m.w, x, dims=([1], [0])), (5, 2), (7, 5), ("oi", 5, 7)
    ),
    "conv1d": (lambda m, x: F.conv1d(x, m.w), (2, 5, 9), (7, 5, 3), ("oik", 15, 21)),
    "conv2d_grouped": (lambda m, x: F.conv2d(x, m.w, groups=2), (2, 6, 9, 9), (8, 3, 3, 3), ("oikk", 27, 36)),
    "conv2d_strided": (lambda m, x: torch.conv2d(x, m.w, None, 2), (2, 6, 9, 9), (8, 6, 3, 3), ("oikk", 54, 18)),
    "conv_transpose2d": (
        lambda m, x: F.conv_transpose2d(x, m.w, stride=2), (2, 6, 4, 4), (6, 8, 4, 4), ("iokk", 24, 128)
    ),
    "bilinear": (lambda m, x: F.bilinear(x, x, m.w), (2, 5), (7, 5, 5), ("oii", 25, 7)),
    "expert_by_expert": (
        lambda m, x: torch.stack([F.linear(x, m.w[e]) for e in range(3)]), (2, 5), (3, 7, 5), ("boi", 5, 7)
    ),
    "every_expert_unbound": (
        lambda m, x: torch.cat([x @ each for each in m.w.unbind(0)]), (2, 5), (3, 5, 7), ("bio", 5, 7)
    ),
    "grouped_mm": (
        lambda m, x: GROUPED_MM(x, m.w, offs=torch.tensor([1, 2], dtype=torch.int32)),
        (8, 16), (2, 16, 8), ("bio", 16, 8),
    ),
    "private_grouped_mm": (
        lambda m, x: torch._grouped_mm(x, m.w.transpose(-2, -1), offs=torch.tensor([1, 2], dtype=torch.int32)),
        (8, 16), (2, 8, 16), ("boi", 16, 8),
    ),
}  # fmt: skip

TIERS = ("recorded", "symbolic", "exported")
NOT_TRACED = {  # by torch itself: loops over proxies; its meta kernel of grouped products takes bfloat16 alone
    ("every_expert_unbound", "symbolic"),
    ("grouped_mm", "exported"),
    ("private_grouped_mm", "exported"),
}
WAYS = [
    (key, tier)
    for key in ONE_WEIGHT
    for tier in TIERS
    if (key, tier) not in NOT_TRACED and not (tier == "symbolic" and key.startswith("einsum_axes"))
]


def planned(model: nn.Module, shape: tuple[int, ...], tier: str) -> Plan:
    if tier == "recorded":
        return plan(model, numbers(*shape))
    if tier == "exported":
        return plan(torch.export.export(model, (numbers(*shape),)))
    return plan_dataflow(trace(model, tier="symbolic"), ModelView.of(model), PlanOptions())


def geometry(made: Plan, name: str) -> Geometry:
    return made[name].axes, made[name].fan_in, made[name].fan_out


@pytest.mark.parametrize(("key", "tier"), WAYS)
def test_a_weight_of_a_plain_operation(key: str, tier: str):
    use, input_shape, shape, expected = ONE_WEIGHT[key]
    made = planned(Net(lambda m, x: torch.relu(use(m, x)), w=parameter(*shape)), input_shape, tier)
    assert list(made) == ["w"]
    layer = made["w"]
    assert (layer.nonlinearity, layer.reason, layer.status) == ("relu", "activation", "planned")
    assert geometry(made, "w") == expected
    assert layer.std == pytest.approx(math.sqrt(2 / expected[1]))
    assert made.unsupported == ()


# Beside a bias, and in modules.


BIASED: dict[str, tuple[Use, tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    "linear": (lambda m, x: F.linear(x, m.w, m.b), (2, 5), (7, 5), (7,)),
    "addmm": (lambda m, x: torch.addmm(m.b, x, m.w), (2, 5), (5, 7), (7,)),
    "addmv": (lambda m, x: torch.addmv(m.b, m.w, x), (5,), (7, 5), (7,)),
    "baddbmm": (lambda m, x: torch.baddbmm(m.b, x, m.w), (4, 2, 5), (4, 5, 7), (4, 1, 7)),
    "conv2d": (lambda m, x: F.conv2d(x, m.w, m.b), (2, 5, 6, 6), (7, 5, 3, 3), (7,)),
    "conv_transpose1d": (lambda m, x: F.conv_transpose1d(x, m.w, m.b, 2), (2, 5, 6), (5, 7, 3), (7,)),
    "bilinear": (lambda m, x: F.bilinear(x, x, m.w, m.b), (2, 5), (7, 5, 5), (7,)),
}


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("key", BIASED)
def test_the_bias_of_a_plain_operation(key: str, tier: str):
    use, input_shape, shape, bias = BIASED[key]
    made = planned(Net(lambda m, x: torch.relu(use(m, x)), w=parameter(*shape), b=parameter(*bias)), input_shape, tier)
    assert list(made) == ["w"]
    assert made["w"].biases == ("b",)


def test_conv1d_of_transformers():
    pytest.importorskip("transformers")
    from transformers.pytorch_utils import Conv1D

    made = plan(Net(lambda m, x: m.down(torch.relu(m.up(x))), up=Conv1D(20, 5), down=Conv1D(5, 20)), (2, 3, 5))
    assert (geometry(made, "up"), geometry(made, "down")) == (("io", 5, 20), ("io", 20, 5))
    assert made["up"].std == pytest.approx(math.sqrt(2 / 5))
    assert made["down"].std == pytest.approx(xavier(20, 5))
    assert (made["up"].biases, made["down"].biases) == (("up.bias",), ("down.bias",))


def test_bilinear_of_two_inputs():
    """12 products of 3 and 4 features make each output."""
    model = Many(lambda m, x, y: torch.relu(m.f(x, y)), f=nn.Bilinear(3, 4, 7))
    made = plan(model, (numbers(2, 3), numbers(2, 4)))
    assert (geometry(made, "f"), made["f"].biases) == (("oii", 12, 7), ("f.bias",))
    assert made["f"].std == pytest.approx(math.sqrt(2 / 12))


def test_weights_in_lists_and_dicts():
    model = Net(
        lambda m, x: torch.relu(x @ m.ws[0]) @ m.by_name["out"],
        ws=nn.ParameterList([parameter(5, 7)]),
        by_name=nn.ParameterDict({"out": parameter(7, 3)}),
    )
    made = plan(model, (2, 5))
    assert {name: (each.reason, each.fan_in) for name, each in made.items()} == {
        "ws.0": ("activation", 5),
        "by_name.out": ("output", 7),
    }


# Stacked experts.


def swiglu_experts(model: Any, x: Tensor) -> Tensor:
    gate, up = torch.bmm(x, model.gate_up).chunk(2, -1)
    return torch.bmm(F.silu(gate) * up, model.down)


def interleaved_experts(model: Any, x: Tensor) -> Tensor:
    both = torch.einsum("eti,eio->eto", x, model.gate_up)
    return torch.einsum("eti,eio->eto", F.silu(both[..., ::2]) * both[..., 1::2], model.down)


def grouped_experts(model: Any, x: Tensor) -> Tensor:
    ends = torch.arange(1, 4, dtype=torch.int32) * x.shape[1]
    gate, up = GROUPED_MM(x.flatten(0, 1), model.gate_up, offs=ends).chunk(2, -1)
    return GROUPED_MM(F.silu(gate) * up, model.down, offs=ends)


HALVES = (((0, 8),), ((8, 16),))
ALTERNATING = (tuple((n, n + 1) for n in range(0, 16, 2)), tuple((n, n + 1) for n in range(1, 16, 2)))


@pytest.mark.parametrize(
    ("forward", "rows"),
    [(swiglu_experts, HALVES), (interleaved_experts, ALTERNATING), (grouped_experts, HALVES)],
    ids=["bmm", "einsum_interleaved", "grouped_mm"],
)
def test_experts_with_gate_and_value_in_one_tensor(forward: Callable[..., Tensor], rows: Any):
    """(expert, in 16, 2 x 8): rows are columns of each expert's matrix; the experts count for nothing."""
    made = plan(Net(forward, gate_up=parameter(3, 16, 16), down=parameter(3, 8, 16)), (3, 4, 16))
    assert made["gate_up"].axes == "bio"
    gate, up = made["gate_up"].slices
    assert ((gate.rows, up.rows), gate.nonlinearity, up.nonlinearity, up.reason) == (rows, "silu", "linear", "gate")
    assert [(part.fan_in, part.fan_out) for part in (gate, up)] == [(16, 8), (16, 8)]
    assert gate.std == pytest.approx(1.6765324703310909 / 4)  # E[silu^2] = 0.35578
    assert up.std == pytest.approx(xavier(16, 8))
    assert (geometry(made, "down"), made["down"].std) == (("bio", 8, 16), pytest.approx(xavier(8, 16)))


# Deformable convolution, a custom operator of torchvision's.


@pytest.mark.parametrize("call", ["module", "function"])
def test_deformable_convolution(call: str):
    """Samples k x k places for each output: the fans of a convolution. Offsets and mask come from convolutions."""
    from torchvision.ops import DeformConv2d, deform_conv2d

    def forward(m: Any, x: Tensor) -> Tensor:
        offset, mask = m.offset(x), torch.sigmoid(m.mask(x))
        if call == "module":
            return torch.relu(m.conv(x, offset, mask))
        return torch.relu(deform_conv2d(x, offset, m.conv.weight, m.conv.bias, 2, 1, mask=mask))

    around = {"kernel_size": 3, "stride": 2, "padding": 1}
    model = Net(forward, offset=nn.Conv2d(4, 18, **around), mask=nn.Conv2d(4, 9, **around),
                conv=DeformConv2d(4, 8, groups=2, **around))  # fmt: skip
    made = plan(model, (1, 4, 8, 8))
    assert made["conv"].biases == ("conv.bias",)
    assert geometry(made, "conv") == ("oikk", 2 * 9, 4 * 9 / 4)
    assert made["conv"].std == pytest.approx(math.sqrt(2 / 18))
    assert (made["mask"].nonlinearity, made["offset"].reason) == ("sigmoid", "weight")


# Tables: what is looked up is an embedding, no weight layer.


@pytest.mark.parametrize(
    "look_up",
    [lambda m, ids: F.embedding(ids, m.table), lambda m, ids: F.embedding_bag(ids, m.table)],
    ids=["embedding", "embedding_bag"],
)
def test_a_table_is_left_alone(look_up: Callable[..., Tensor]):
    model = Net(lambda m, ids: m.head(look_up(m, ids)), table=parameter(11, 6), head=nn.Linear(6, 3))
    made = plan(model, (torch.tensor([[1, 2], [3, 4]]),))
    assert list(made) == ["head"]
    assert [(each.name, each.kind) for each in made.others] == [("table", "embedding")]


# What is not understood is told.


def test_a_chain_of_products_is_not_guessed():
    """multi_dot chooses its own order; the table does not say which of its operands is what."""
    made = plan(Net(lambda m, x: torch.linalg.multi_dot([x, m.a, m.b]), a=parameter(5, 3), b=parameter(3, 7)), (2, 5))
    assert list(made) == []
    assert len(made.unsupported) == 1
    assert "multi_dot" in made.unsupported[0]
    assert {each.name for each in made.others} == {"a", "b"}


def test_a_product_written_as_a_sum_is_one():
    """`(x * W).sum` sums 5 products for each of 7 outputs: W feeds the relu, and the layer before it feeds W."""
    model = Net(
        lambda m, x: torch.relu((m.before(x)[..., None] * m.w).sum(-2)), before=nn.Linear(5, 5), w=parameter(5, 7)
    )
    made = plan(model, (2, 5))
    assert {name: (each.nonlinearity, each.reason) for name, each in made.items()} == {
        "before": ("linear", "weight"),
        "w": ("relu", "activation"),
    }
    assert made["w"].std == pytest.approx(math.sqrt(2 / 5))


def test_numbered_axes_without_a_run_are_not_guessed():
    """Without an input the numbers of einsum's axes are not read: the weight is listed, and what feeds it is right."""
    model = Net(
        lambda m, x: torch.relu(torch.einsum(m.before(x), [0, 1], m.w, [1, 2], [0, 2])),
        before=nn.Linear(5, 5), w=parameter(5, 7),
    )  # fmt: skip
    made = planned(model, (2, 5), "symbolic")
    assert {name: (each.reason, each.status) for name, each in made.items()} == {
        "before": ("weight", "planned"),
        "w": ("unresolved", "unresolved"),
    }
    assert made["w"].note == "its axes could not be followed to einsum (called einsum)"


@pytest.mark.parametrize("flatten", [lambda w: w.flatten(1), lambda w: w.view(7, -1)], ids=["flatten", "view"])
@pytest.mark.parametrize("left", [False, True], ids=["linear", "from_the_left"])
def test_a_convolution_written_as_a_product(flatten: Callable[[Tensor], Tensor], left: bool):
    """A patch embedding by a linear map: an output sums 4 x 3 x 3 products."""

    def forward(model: Any, x: Tensor) -> Tensor:
        w = flatten(model.conv.weight)
        return torch.relu(w @ F.unfold(x, 3) if left else F.linear(F.unfold(x, 3).transpose(1, 2), w))

    made = plan(Net(forward, conv=nn.Conv2d(4, 7, 3)), (2, 4, 6, 6))
    assert geometry(made, "conv") == ("oiii", 36, 7)
    assert made["conv"].std == pytest.approx(math.sqrt(2 / 36))


@pytest.mark.parametrize("known", [False, True], ids=["data", "constant"])
def test_experts_that_an_index_chooses(known: bool):
    """W[index] (batch, out, in): each sample has the matrix of its expert."""

    def forward(model: Any, x: Tensor) -> Tensor:
        chosen = torch.tensor([0, 1]) if known else model.router(x).argmax(-1)
        return torch.relu(torch.einsum("bi,boi->bo", x, model.w[chosen]))

    made = plan(Net(forward, w=parameter(3, 7, 5), router=nn.Linear(5, 3)), (2, 5))
    assert geometry(made, "w") == ("boi", 5, 7)
    assert made["w"].std == pytest.approx(math.sqrt(2 / 5))
