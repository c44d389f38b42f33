"""Operations that a weight enters: linear maps and convolutions. Layouts say what the weight's axes mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import nn

from autoinit.ops.registry import REGISTRY, WeightSlot, register_op
from autoinit.ops.roles import Role, Trait
from autoinit.theory.layouts import Layout

Constants = Mapping[str, Any]


def _fixed(axes: str) -> Callable[[Constants, tuple[int, ...]], Layout]:
    """A layout whose last axes are `axes`; what comes before are independent copies. A vector is summed over."""
    return lambda _constants, shape: Layout("i" if len(shape) == 1 else "b" * (len(shape) - len(axes)) + axes)


def _stride_area(stride: Any, dims: int) -> int:
    values = [stride] if isinstance(stride, int) else [value for value in stride if isinstance(value, int)]
    return prod(values * dims if len(values) == 1 else values)


def _convolution(constants: Constants, shape: tuple[int, ...]) -> Layout:
    dims = len(shape) - 2
    groups = constants.get("groups", 1)
    transposed = bool(constants.get("transposed", False))
    return Layout(
        axes=("io" if transposed else "oi") + "k" * dims,
        groups=groups if isinstance(groups, int) else 1,
        stride_area=_stride_area(constants.get("stride", 1), dims),
        transposed=transposed,
    )


def _transposed(constants: Constants, shape: tuple[int, ...]) -> Layout:
    return _convolution({**constants, "transposed": True}, shape)


def _deformable(constants: Constants, shape: tuple[int, ...]) -> Layout:
    return _convolution({**constants, "stride": (constants["stride_h"], constants["stride_w"])}, shape)


def _one(slot: WeightSlot) -> Callable[[Constants], tuple[WeightSlot, ...]]:
    return lambda _constants: (slot,)


register_op(
    "linear",
    Role.WEIGHT,
    modules=nn.Linear,
    names="linear",
    signature="input, weight, bias=None",
    weights=_one(WeightSlot("weight", _fixed("oi"), ("bias",), features=lambda *_: (-1,))),
)
register_op(
    "bilinear",
    Role.WEIGHT,
    modules=nn.Bilinear,
    names="bilinear",
    signature="input1, input2, weight, bias=None",
    weights=_one(WeightSlot("weight", _fixed("oii"), ("bias",), features=lambda *_: (-1,))),
)

_CONV = "input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1"
_CONV_TRANSPOSE = "input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1"


def _channels(_constants: Constants, shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1 - len(shape),)


for _dims, _conv, _conv_transpose in (
    (1, nn.Conv1d, nn.ConvTranspose1d),
    (2, nn.Conv2d, nn.ConvTranspose2d),
    (3, nn.Conv3d, nn.ConvTranspose3d),
):
    register_op(
        f"conv{_dims}d",
        Role.WEIGHT,
        modules=_conv,
        names=f"conv{_dims}d",
        signature=_CONV,
        weights=_one(WeightSlot("weight", _convolution, ("bias",), features=_channels)),
    )
    register_op(
        f"conv_transpose{_dims}d",
        Role.WEIGHT,
        modules=_conv_transpose,
        names=(f"conv_transpose{_dims}d", f"conv_transpose{_dims}d.input"),
        signature=_CONV_TRANSPOSE,
        weights=_one(WeightSlot("weight", _transposed, ("bias",), features=_channels)),
    )
register_op(
    "convolution",
    Role.WEIGHT,
    names=("convolution", "_convolution"),
    signature="input, weight, bias=None, stride=1, padding=0, dilation=1, transposed=False, output_padding=0, groups=1",
    weights=_one(WeightSlot("weight", _convolution, ("bias",), features=_channels)),
)
register_op(
    "conv_tbc",
    Role.WEIGHT,
    names="conv_tbc",
    signature="input, weight, bias, pad=0",
    weights=_one(WeightSlot("weight", _fixed("kio"), ("bias",), features=lambda *_: (-1,))),
)
register_op(
    "deform_conv2d",
    Role.WEIGHT,
    names="torchvision::deform_conv2d",
    signature="input, weight, offset, mask, bias, stride_h=1, stride_w=1, pad_h=0, pad_w=0, dil_h=1, dil_w=1, groups=1",
    weights=_one(WeightSlot("weight", _deformable, ("bias",), features=_channels)),
)

# Products of matrices: either operand may be the parameter.
_RIGHT = WeightSlot("other", _fixed("io"), features=lambda *_: (-1,))
_LEFT = WeightSlot("input", _fixed("oi"), features=lambda *_: (-2,))


def _either(bias: tuple[str, ...] = ()) -> Callable[[Constants], tuple[WeightSlot, ...]]:
    right = WeightSlot(_RIGHT.slot, _RIGHT.layout, bias, features=_RIGHT.features)
    left = WeightSlot(_LEFT.slot, _LEFT.layout, bias, features=_LEFT.features)
    return lambda _constants: (right, left)


register_op(
    "matmul",
    Role.PRODUCT,
    names=("matmul", "mm", "bmm", "__matmul__", "__rmatmul__"),
    signature="input, other",
    weights=_either(),
)
register_op(
    "addmm",
    Role.PRODUCT,
    names=("addmm", "baddbmm", "addbmm", "addmm_activation", "scaled_addmm"),
    signature="bias, input, other, beta=1, alpha=1",
    weights=_either(("bias",)),
)
register_op("sparse_mm", Role.PRODUCT, functions=torch.sparse.mm, names=("_sparse_mm", "smm"),
            signature="input, other", weights=_either())  # fmt: skip


def _vector_product(bias: tuple[str, ...] = ()) -> Callable[[Constants], tuple[WeightSlot, ...]]:
    matrix = WeightSlot("input", _fixed("oi"), bias, features=lambda *_: (-1,))
    return lambda _constants: (matrix, WeightSlot("other", _fixed("i"), bias))


register_op(
    "matvec",
    Role.PRODUCT,
    names="mv",
    signature="input, other",
    weights=_vector_product(),
)
register_op(
    "addmv",
    Role.PRODUCT,
    names="addmv",
    signature="bias, input, other, beta=1, alpha=1",
    weights=_vector_product(("bias",)),
)


def _inner(_constants: Constants, shape: tuple[int, ...]) -> Layout:
    """The last axis is summed over; all others are outputs."""
    return Layout("o" * (len(shape) - 1) + "i")


register_op(
    "inner",
    Role.PRODUCT,
    names=("inner", "dot", "vdot"),
    signature="input, other",
    weights=lambda _constants: (
        WeightSlot("other", _inner, features=lambda _c, shape: tuple(range(1 - len(shape), 0))),
        WeightSlot("input", _inner),
    ),
)
register_op(
    "grouped_mm",
    Role.PRODUCT,
    names=("_grouped_mm", "grouped_mm"),
    signature="input, other, offs=None, bias=None",
    weights=_one(WeightSlot("other", _fixed("io"), ("bias",), features=lambda *_: (-1,))),
)


def _einsum(constants: Constants) -> tuple[WeightSlot, ...]:
    """The letters of the equation tell the axes: `bnd,dhk->bnhk` reads W (d, h, k) as `ioo`.

    As in a product of matrices, axes that stand before the matrix in W are independent copies, whether all of them take
    the same input (`ni,eio->eno`) or each its own (`eni,eio->eno`). W without a letter that is summed together with
    another operand's is no matrix: it has no `i`.
    """
    equation = constants.get("equation")
    if not isinstance(equation, str):
        return ()
    terms, _, output = equation.replace(" ", "").replace("...", "").partition("->")
    operands = terms.split(",")
    if "->" not in equation:
        output = "".join(sorted(letter for letter in set(terms) - {","} if terms.count(letter) == 1))

    def slot(position: int) -> WeightSlot:
        letters = operands[position]
        others = "".join(operands[:position] + operands[position + 1 :])

        def role(letter: str) -> str:
            if letter not in output:
                return "i"
            return "b" if letter in others else "o"

        axes = _copies_first("".join(map(role, letters)))
        if not any(axis == "i" and letter in others for axis, letter in zip(axes, letters, strict=True)):
            axes = "b" * len(axes)
        features = tuple(
            output.index(letter) - len(output) for axis, letter in zip(axes, letters, strict=True) if axis == "o"
        )
        return WeightSlot(f"operands.{position}", lambda *_: Layout(axes), features=lambda *_: features)

    return tuple(map(slot, range(len(operands))))


def _copies_first(axes: str) -> str:
    """Axes in which each `o` before the matrix (its last `o` and `i`, or `i` and `o`) is a copy: `oio` as `bio`."""
    before, inputs, after = axes.partition("i")
    if "o" in after:
        return before.replace("o", "b") + inputs + after
    copies, own, between = before.rpartition("o")
    return copies.replace("o", "b") + own + between + inputs + after


register_op("einsum", Role.PRODUCT, names="einsum", signature="equation, *operands", weights=_einsum)

WEIGHTED_SUM = "weighted_sum"
"""`(h * v).sum(-1)`: `tracing` makes it of a product and a sum, and gives it the equation."""
register_op(WEIGHTED_SUM, Role.PRODUCT, signature="equation, *operands", weights=_einsum)
register_op("vecdot", Role.PRODUCT, names=("vecdot", "linalg_vecdot"), signature="input, other, dim=-1")


def _tensordot(constants: Constants) -> tuple[WeightSlot, ...]:
    """Sums over the last axes of the input and the first of the other, or over the axes listed for each."""
    dims = constants.get("dims", 2)
    if constants.get("dims_other") is not None:  # ATen takes the two lists one by one
        dims = (dims, constants["dims_other"])

    def summed(position: int, rank: int) -> set[int]:
        if isinstance(dims, int):
            return set(range(rank - dims, rank) if position == 0 else range(dims))
        return {axis % rank for axis in dims[position]}

    def slot(position: int, name: str) -> WeightSlot:
        def layout(_constants: Constants, shape: tuple[int, ...]) -> Layout:
            inputs = summed(position, len(shape))
            return Layout("".join("i" if axis in inputs else "o" for axis in range(len(shape))))

        def features(_constants: Constants, shape: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(range(len(summed(position, len(shape))) - len(shape), 0))

        return WeightSlot(name, layout, features=features if position else None)

    return (slot(0, "input"), slot(1, "other"))


register_op(
    "tensordot", Role.PRODUCT, names="tensordot", signature="input, other, dims=2, dims_other=None", weights=_tensordot
)
register_op(
    "linear_cross_entropy",
    Role.WEIGHT,
    names="linear_cross_entropy",
    signature="input, linear_weight, target, weight=None",
    weights=_one(WeightSlot("linear_weight", _fixed("oi"), gates=("softmax",), features=lambda *_: (-1,))),
)

_MHA = (
    "query, key, value, embed_dim_to_check=None, num_heads=None, in_proj_weight=None, in_proj_bias=None, bias_k=None, "
    "bias_v=None, add_zero_attn=False, dropout_p=0.0, out_proj_weight=None, out_proj_bias=None, training=True, "
    "key_padding_mask=None, need_weights=True, attn_mask=None, use_separate_proj_weight=False, q_proj_weight=None, "
    "k_proj_weight=None, v_proj_weight=None"
)


def _attention_weights(_constants: Constants) -> tuple[WeightSlot, ...]:
    separate = (
        WeightSlot(f"{which}_proj_weight", _fixed("oi"), ("in_proj_bias",), gates=("attention",)) for which in "qkv"
    )
    return (
        WeightSlot("in_proj_weight", _fixed("oi"), ("in_proj_bias",), gates=("attention",) * 3),
        *separate,
        WeightSlot("out_proj_weight", _fixed("oi"), ("out_proj_bias",), features=lambda *_: (-1,)),
    )


register_op(
    "multi_head_attention",
    Role.WEIGHT,
    modules=nn.MultiheadAttention,
    names=("multi_head_attention_forward", "_native_multi_head_attention"),
    signature=_MHA,
    weights=_attention_weights,
    several=True,
)

_LSTM_GATES = ("sigmoid", "sigmoid", "tanh", "sigmoid")
_GRU_GATES = ("sigmoid", "sigmoid", "tanh")
_NAMED = {_LSTM_GATES: ("input", "forget", "cell", "output"), _GRU_GATES: ("reset", "update", "new")}
_OF_STATE: dict[tuple[str, ...], tuple[str, ...]] = {_GRU_GATES: ("sigmoid", "sigmoid", "gate")}
"""Where what comes from the state meets something else first: the reset gate multiplies it in a GRU's new gate."""


def _recurrent(gates: tuple[str, ...]) -> Callable[[Constants], tuple[WeightSlot, ...]]:
    def slots(constants: Constants) -> tuple[WeightSlot, ...]:
        chosen = constants.get("nonlinearity")
        here = (chosen,) if isinstance(chosen, str) and len(gates) == 1 else gates
        named = [
            replace(_gated(here, of_state=which == "hh"), slot=f"weight_{which}", bias=(f"bias_{which}",), prefix=True)
            for which in ("ih", "hh")
        ]
        named.append(WeightSlot("weight_hr", _fixed("oi"), prefix=True))
        return (*named, *_flat_recurrent(constants, here))

    return slots


def _gated(gates: tuple[str, ...], *, of_state: bool) -> WeightSlot:
    """A nameless slot for the weight that makes gates of the input or of the state."""
    fed = _OF_STATE.get(gates, gates) if of_state else gates
    return WeightSlot("", _fixed("oi"), gates=fed, named_gates=_NAMED.get(gates, ("new",)), of_state=of_state)


def _flat_recurrent(constants: Constants, gates: tuple[str, ...]) -> tuple[WeightSlot, ...]:
    """The functional forms take all weights in one list: w_ih, w_hh (, b_ih, b_hh) for each layer and direction."""
    biases, layers, both = (constants.get(name) for name in ("has_biases", "num_layers", "bidirectional"))
    if not isinstance(layers, int):
        return ()
    step = 4 if biases else 2
    slots = []
    for start in range(0, layers * (2 if both else 1) * step, step):
        for offset in (0, 1):
            bias = (f"params.{start + 2 + offset}",) if biases else ()
            slots.append(replace(_gated(gates, of_state=offset == 1), slot=f"params.{start + offset}", bias=bias))
    return tuple(slots)


_FLAT = (
    "input, hx=None, params=None, has_biases=None, num_layers=None, dropout=0.0, train=True, bidirectional=None, "
    "batch_first=False"
)
_CELL = "input, hx=None, weight_ih=None, weight_hh=None, bias_ih=None, bias_hh=None"
for _name, _module, _cell, _gates in (
    ("lstm", nn.LSTM, nn.LSTMCell, _LSTM_GATES),
    ("gru", nn.GRU, nn.GRUCell, _GRU_GATES),
):
    register_op(_name, Role.WEIGHT, modules=_module, names=_name, signature=_FLAT, weights=_recurrent(_gates),
                several=True, traits=Trait.RECURRENT)  # fmt: skip
    register_op(f"{_name}_cell", Role.WEIGHT, modules=_cell, names=f"{_name}_cell", signature=_CELL,
                weights=_recurrent(_gates), several=_name == "lstm", traits=Trait.RECURRENT)  # fmt: skip
for _name in ("tanh", "relu"):
    register_op(f"rnn_{_name}", Role.WEIGHT, names=f"rnn_{_name}", signature=_FLAT, weights=_recurrent((_name,)),
                several=True, traits=Trait.RECURRENT)  # fmt: skip
    register_op(f"rnn_{_name}_cell", Role.WEIGHT, names=f"rnn_{_name}_cell", signature=_CELL,
                weights=_recurrent((_name,)), traits=Trait.RECURRENT)  # fmt: skip
register_op("rnn", Role.WEIGHT, modules=nn.RNN, signature=_FLAT + ", nonlinearity='tanh'",
            weights=_recurrent(("tanh",)), several=True, traits=Trait.RECURRENT)  # fmt: skip
register_op("rnn_cell", Role.WEIGHT, modules=nn.RNNCell, signature=_CELL + ", nonlinearity='tanh'",
            weights=_recurrent(("tanh",)), traits=Trait.RECURRENT)  # fmt: skip


def recurrent_gates(name: str) -> int:
    """How many gates the rows of a recurrent operation's weights make (4 in an LSTM); 0 of any other operation."""
    spec = REGISTRY.specs.get(name)
    if spec is None or spec.weights is None or Trait.RECURRENT not in spec.traits:
        return 0
    return len(spec.weights({})[0].gates)


register_op("glu", Role.SPLIT, modules=nn.GLU, names="glu", signature="input, dim=-1")

register_op(
    "weight_norm",
    Role.TRANSPARENT,
    names=("_weight_norm", "_weight_norm_interface"),
    signature="v, g, dim=0",
)
