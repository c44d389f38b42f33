"""Operations on several tensors: sums, products, concatenation. Their role depends on how many carry a signal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from autoinit.ops.registry import Acts, register_op
from autoinit.ops.roles import Role, Trait

_BINARY = "input, other, alpha=1"

register_op("add", Role.ADD, names=("add", "__add__", "__radd__", "__iadd__", "iadd"), signature=_BINARY,
            acts=Acts.ELEMENTWISE, function=torch.add, traits=Trait.ADDING)  # fmt: skip
register_op("sub", Role.ADD, names=("sub", "subtract", "__sub__", "__isub__", "isub"), signature=_BINARY,
            acts=Acts.ELEMENTWISE, function=torch.sub, traits=Trait.ADDING)  # fmt: skip
register_op("rsub", Role.ADD, names=("rsub", "__rsub__"), signature=_BINARY, acts=Acts.ELEMENTWISE,
            function=torch.rsub, traits=Trait.ADDING)  # fmt: skip
for _name in ("xlogy", "xlog1py"):
    register_op(_name, Role.PRODUCT, names=_name, signature="input, other", acts=Acts.ELEMENTWISE,
                function=getattr(torch.special, _name))  # fmt: skip
register_op("lerp", Role.ADD, names="lerp", signature="input, end, weight", acts=Acts.ELEMENTWISE, function=torch.lerp)
register_op("addcmul", Role.ADD, names="addcmul", signature="input, tensor1, tensor2, value=1", acts=Acts.ELEMENTWISE)
register_op("addcdiv", Role.ADD, names="addcdiv", signature="input, tensor1, tensor2, value=1", acts=Acts.ELEMENTWISE)

register_op("mul", Role.PRODUCT, names=("mul", "multiply", "__mul__", "__rmul__", "__imul__", "imul"),
            signature="input, other", acts=Acts.ELEMENTWISE, function=torch.mul, traits=Trait.SCALING)  # fmt: skip

for _name in ("deg2rad", "rad2deg"):
    register_op(_name, Role.PRODUCT, names=_name, acts=Acts.ELEMENTWISE, traits=Trait.SCALING,
                function=getattr(torch, _name))  # fmt: skip
register_op("ldexp", Role.PRODUCT, names="ldexp", signature="input, other", acts=Acts.ELEMENTWISE,
            function=torch.ldexp, traits=Trait.SCALING, passes=("input",))  # fmt: skip

register_op(
    "div",
    Role.PRODUCT,
    names=(
        "div",
        "divide",
        "true_divide",
        "truediv",
        "__truediv__",
        "__div__",
        "__itruediv__",
        "__idiv__",
        "itruediv",
    ),
    signature="input, other, rounding_mode=None",
    acts=Acts.ELEMENTWISE,
    function=torch.div,
    traits=Trait.SCALING,
    passes=("input",),
)
register_op("dist", Role.PRODUCT, names=("dist", "cdist", "pdist", "pairwise_distance", "cosine_similarity"),
            modules=(nn.PairwiseDistance, nn.CosineSimilarity), signature="input, other")  # fmt: skip
register_op("solve", Role.PRODUCT, names=("solve_triangular", "linalg_solve_triangular", "solve", "linalg_solve",
            "triangular_solve", "cholesky_solve", "lu_solve"), signature="input, other")  # fmt: skip
register_op(
    "cross",
    Role.PRODUCT,
    names=("cross", "outer", "ger", "kron", "atan2", "arctan2", "hypot"),
    signature="input, other",
)
register_op(
    "scaled_dot_product_attention",
    Role.PRODUCT,
    names=(
        "scaled_dot_product_attention",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_attention_math",
    ),
    signature="input, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False",
    passes=("value",),
)

for _name in ("maximum", "minimum", "fmax", "fmin", "logaddexp", "logaddexp2"):
    register_op(_name, Role.TRANSPARENT, names=_name, signature="input, other", acts=Acts.ELEMENTWISE,
                function=getattr(torch, _name), traits=Trait.CHOOSING)  # fmt: skip
register_op("where", Role.TRANSPARENT, names="where", signature="condition, input=None, other=None",
            acts=Acts.ELEMENTWISE, function=torch.where, traits=Trait.CHOOSING, steered_by=("condition",))  # fmt: skip
register_op("masked_fill", Role.TRANSPARENT, names="masked_fill", signature="input, mask, value",
            acts=Acts.ELEMENTWISE, function=torch.masked_fill, traits=Trait.CHOOSING, steered_by=("mask",))  # fmt: skip

register_op("cat", Role.TRANSPARENT, names=("cat", "concat", "concatenate"), signature="tensors, dim=0",
            acts=Acts.REARRANGING, traits=Trait.JOINING)  # fmt: skip
register_op("stack", Role.TRANSPARENT, names=("stack", "hstack", "vstack", "dstack", "column_stack", "row_stack"),
            signature="tensors, dim=0", acts=Acts.REARRANGING, traits=Trait.JOINING)  # fmt: skip
register_op(
    "scatter",
    Role.TRANSPARENT,
    names=("scatter_add", "scatter_reduce", "index_add", "diagonal_scatter", "index_fill", "put", "index_reduce"),
    signature="input",
    traits=Trait.SUMMING,
)  # fmt: skip
# Before what each of these gives is walked, it is written out as an item set, where it is one.
register_op("scatter_copy", Role.TRANSPARENT, names="scatter", signature="input, dim, index, src=None, reduce=None",
            traits=Trait.SUMMING)  # fmt: skip
register_op("index_copy", Role.TRANSPARENT, names="index_copy", signature="input, dim, index, source",
            traits=Trait.SUMMING)  # fmt: skip
register_op("index_put", Role.TRANSPARENT, names="index_put", signature="input, indices, values, accumulate=False",
            traits=Trait.SUMMING)  # fmt: skip
register_op("masked_scatter", Role.TRANSPARENT, names="masked_scatter", signature="input, index, value",
            traits=Trait.CHOOSING)  # fmt: skip
register_op("setitem", Role.TRANSPARENT, names=("setitem", "__setitem__"), signature="input, index, value",
            traits=Trait.CHOOSING)  # fmt: skip
register_op("slice_scatter", Role.TRANSPARENT, names="slice_scatter",
            signature="input, src, dim=0, start=None, end=None, step=1")  # fmt: skip
register_op("select_scatter", Role.TRANSPARENT, names="select_scatter", signature="input, src, dim, index")
register_op("copy", Role.TRANSPARENT, names="copy", signature="input, src", acts=Acts.ELEMENTWISE,
            function=lambda input, src: src.expand_as(input))  # fmt: skip
# A tuple or record of tensors is made.
register_op("group", Role.TRANSPARENT, signature="*items", acts=Acts.REARRANGING, traits=Trait.JOINING)
register_op("cartesian_prod", Role.TRANSPARENT, names="cartesian_prod")
register_op("meshgrid", Role.TRANSPARENT, names="meshgrid", signature="*tensors", each=True)
register_op("broadcast_tensors", Role.TRANSPARENT, names=("broadcast_tensors", "align_tensors"), signature="*tensors",
            each=True)  # fmt: skip
register_op("atleast", Role.TRANSPARENT, names=("atleast_1d", "atleast_2d", "atleast_3d"), signature="*tensors",
            each=True)  # fmt: skip


def output_in_place(
    input: Any, function: Callable[..., Any], position: int, operands: Sequence[Any], others: Mapping[str, Any]
) -> Any:
    """The output at `position` of a function of several tensors, each output of which belongs to one of them.

    input, at that position, takes the place that is empty in `operands`.
    """
    given = [*operands[:position], input, *operands[position:]]
    return function(*given, **others)[position]


register_op("output_in_place", Role.TRANSPARENT, functions=output_in_place, acts=Acts.REARRANGING,
            signature="input, function, position, operands, others")  # fmt: skip
