"""Where weights stand in each operation, and what their axes mean, by torch's documentation; what bears no signal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from autoinit.ops import REGISTRY
from autoinit.theory.layouts import Layout
from autoinit.tracing import trace
from tests.shared.small_nets import Between

Row = tuple[str, dict[str, Any], str, tuple[int, ...], str, int, int, bool, "tuple[int, ...] | None"]

CHANNELS_1D, CHANNELS_2D, CHANNELS_3D = (-2,), (-3,), (-4,)
LAST: tuple[int, ...] = (-1,)
# Operation, constants, slot, shape of the weight; its axes, groups, stride area, transposed; and which axes of the
# output are features, counted from the last.
SLOTS: list[Row] = [
    ("linear", {}, "weight", (3, 4), "oi", 1, 1, False, LAST),
    ("bilinear", {}, "weight", (3, 4, 5), "oii", 1, 1, False, LAST),
    ("conv1d", {}, "weight", (3, 4, 5), "oik", 1, 1, False, CHANNELS_1D),
    ("conv1d", {"stride": 3, "groups": 2}, "weight", (4, 2, 5), "oik", 2, 3, False, CHANNELS_1D),
    ("conv2d", {"stride": 2, "groups": 4}, "weight", (4, 1, 3, 3), "oikk", 4, 4, False, CHANNELS_2D),
    ("conv2d", {"stride": (2, 3)}, "weight", (4, 1, 3, 3), "oikk", 1, 6, False, CHANNELS_2D),
    ("conv2d", {"stride": (2,)}, "weight", (4, 1, 3, 3), "oikk", 1, 4, False, CHANNELS_2D),
    ("conv2d", {"groups": "a number that is not known"}, "weight", (4, 1, 3, 3), "oikk", 1, 1, False, CHANNELS_2D),
    ("conv3d", {"stride": 2}, "weight", (4, 1, 3, 3, 3), "oikkk", 1, 8, False, CHANNELS_3D),
    ("conv_transpose1d", {"stride": 2}, "weight", (4, 5, 3), "iok", 1, 2, True, CHANNELS_1D),
    ("conv_transpose2d", {"groups": 2}, "weight", (4, 5, 3, 3), "iokk", 2, 1, True, CHANNELS_2D),
    ("conv_transpose3d", {"stride": (1, 2, 3)}, "weight", (4, 5, 3, 3, 3), "iokkk", 1, 6, True, CHANNELS_3D),
    ("convolution", {"transposed": True, "stride": [2, 2]}, "weight", (4, 5, 3, 3), "iokk", 1, 4, True, CHANNELS_2D),
    ("convolution", {"transposed": False}, "weight", (4, 5, 3, 3), "oikk", 1, 1, False, CHANNELS_2D),
    ("convolution", {}, "weight", (4, 5, 3, 3), "oikk", 1, 1, False, CHANNELS_2D),
    ("conv_tbc", {}, "weight", (3, 4, 5), "kio", 1, 1, False, LAST),
    (
        *("deform_conv2d", {"stride_h": 2, "stride_w": 3, "groups": 2}, "weight", (4, 2, 3, 3)),
        *("oikk", 2, 6, False, CHANNELS_2D),
    ),
    ("matmul", {}, "other", (4, 3), "io", 1, 1, False, LAST),
    ("matmul", {}, "other", (7, 4, 3), "bio", 1, 1, False, LAST),
    ("matmul", {}, "other", (4,), "i", 1, 1, False, LAST),
    ("matmul", {}, "input", (3, 4), "oi", 1, 1, False, (-2,)),
    ("addmm", {}, "other", (4, 3), "io", 1, 1, False, LAST),
    ("addmm", {}, "input", (3, 4), "oi", 1, 1, False, (-2,)),
    ("sparse_mm", {}, "other", (4, 3), "io", 1, 1, False, LAST),
    ("matvec", {}, "input", (3, 4), "oi", 1, 1, False, LAST),
    ("matvec", {}, "other", (4,), "i", 1, 1, False, None),
    ("addmv", {}, "input", (3, 4), "oi", 1, 1, False, LAST),
    ("inner", {}, "other", (3, 4), "oi", 1, 1, False, LAST),
    ("inner", {}, "other", (2, 3, 4), "ooi", 1, 1, False, (-2, -1)),
    ("inner", {}, "input", (3, 4), "oi", 1, 1, False, None),
    ("grouped_mm", {}, "other", (7, 4, 3), "bio", 1, 1, False, LAST),
    ("einsum", {"equation": "bnd,dhk->bnhk"}, "operands.1", (4, 2, 3), "ioo", 1, 1, False, (-2, -1)),
    ("einsum", {"equation": "bnd,hd"}, "operands.1", (2, 4), "oi", 1, 1, False, (-2,)),
    ("einsum", {"equation": "eni,eio->eno"}, "operands.1", (7, 4, 3), "bio", 1, 1, False, LAST),
    ("einsum", {"equation": "ni,eio->eno"}, "operands.1", (7, 4, 3), "bio", 1, 1, False, LAST),
    ("einsum", {"equation": "bn,n->bn"}, "operands.1", (4,), "b", 1, 1, False, ()),
    ("tensordot", {}, "other", (4, 5, 3), "iio", 1, 1, False, LAST),
    ("tensordot", {"dims": 1}, "other", (4, 5, 3), "ioo", 1, 1, False, (-2, -1)),
    ("tensordot", {"dims": 1}, "input", (3, 4), "oi", 1, 1, False, None),
    ("tensordot", {"dims": ([1], [2])}, "other", (5, 3, 4), "ooi", 1, 1, False, (-2, -1)),
    ("linear_cross_entropy", {}, "linear_weight", (3, 4), "oi", 1, 1, False, LAST),
    ("multi_head_attention", {}, "in_proj_weight", (12, 4), "oi", 1, 1, False, None),
    ("multi_head_attention", {}, "q_proj_weight", (4, 4), "oi", 1, 1, False, None),
    ("multi_head_attention", {}, "out_proj_weight", (4, 4), "oi", 1, 1, False, LAST),
    *(
        (name, {}, slot, (12, 4), "oi", 1, 1, False, None)
        for name in ("lstm", "lstm_cell", "gru", "gru_cell", "rnn", "rnn_cell", "rnn_tanh", "rnn_relu_cell")
        for slot in ("weight_ih", "weight_hh", "weight_hr")
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", SLOTS, ids=lambda row: f"{row[0]} {row[1] or ''} {row[2]} {row[4]}")
def test_axes_of_a_weight_by_torchs_documentation(row: Row) -> None:
    name, constants, wanted, shape, axes, groups, stride_area, transposed, features = row
    weights = REGISTRY.specs[name].weights
    assert weights is not None
    (slot,) = (each for each in weights(constants) if each.slot == wanted)
    assert slot.layout(constants, shape) == Layout(axes, groups, stride_area, transposed)
    assert (slot.features and slot.features(constants, shape)) == features


SILENT: dict[str, Callable[[Tensor], Any]] = {
    "constant": torch.zeros_like,
    "random": torch.rand_like,
    "comparison": lambda x: x > 0,
    "logical": lambda x: torch.logical_not(x),
    "rounding": torch.floor,
    "index": lambda x: x.argmax(-1),
}


@pytest.mark.parametrize("name", SILENT)
def test_what_has_no_gradient_bears_no_signal(name: str) -> None:
    x = torch.randn(4, 6, requires_grad=True)
    y = SILENT[name](x)
    if y.requires_grad:
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert not gradient.any()
    traced = trace(Between(6, lambda x: x + SILENT[name](x)), tier="symbolic")
    (found,) = (op for op in traced.graph.nodes if op.op == name)
    assert not found.signal
    (added,) = (op for op in traced.graph.nodes if op.op == "add")
    assert str(added.role) == "transparent"  # a sum of one signal


@pytest.mark.parametrize(
    ("name", "constants", "expected"),
    [
        ("rnn_relu", {"has_biases": False, "num_layers": 1}, [("params.0", ("relu",)), ("params.1", ("relu",))]),
        (
            *("rnn_tanh", {"has_biases": True, "num_layers": 1, "bidirectional": False}),
            [("params.0", ("tanh",)), ("params.1", ("tanh",))],
        ),
        (
            *("rnn_relu", {"has_biases": True, "num_layers": 1, "bidirectional": True}),
            [(f"params.{place}", ("relu",)) for place in (0, 1, 4, 5)],
        ),
        (  # the reset gate multiplies what comes from the state before tanh takes it
            *("gru", {"has_biases": True, "num_layers": 1}),
            [("params.0", ("sigmoid", "sigmoid", "tanh")), ("params.1", ("sigmoid", "sigmoid", "gate"))],
        ),
        ("lstm", {"has_biases": True, "bidirectional": True}, []),  # of how many layers, nobody knows
    ],
)
def test_weights_of_a_functional_recurrent_layer_and_what_they_feed(
    name: str, constants: dict[str, Any], expected: list[tuple[str, tuple[str, ...]]]
) -> None:
    """torch lists w_ih, w_hh, and b_ih, b_hh where there are biases, for each layer and each direction."""
    slots = REGISTRY.specs[name].weights(constants)  # type: ignore[misc]
    assert [(each.slot, each.gates) for each in slots if each.slot.startswith("params")] == expected


def test_an_attentions_projection_is_three() -> None:
    """Queries, keys and values, one after the other."""
    slots = REGISTRY.specs["multi_head_attention"].weights({})  # type: ignore[misc]
    assert {each.slot: each.gates for each in slots if each.gates} == {
        "in_proj_weight": ("attention", "attention", "attention"),
        "q_proj_weight": ("attention",),
        "k_proj_weight": ("attention",),
        "v_proj_weight": ("attention",),
    }
