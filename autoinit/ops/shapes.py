"""Operations that only move, drop or repeat elements, and those that leave them as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from autoinit.ops.registry import Acts, register_op
from autoinit.ops.roles import Role, Trait

# Known to be neutral: values pass as they are (dropout in expectation).
register_op(
    "identity",
    Role.TRANSPARENT,
    modules=nn.Identity,
    names=("clone", "contiguous", "detach", "alias", "lift_fresh", "lift_fresh_copy", "positive", "__pos__", "pos",
           "requires_grad", "data", "conj", "resolve_conj", "resolve_neg", "retain_grad", "pin_memory",
           "fake_quantize_per_tensor_affine", "fake_quantize_per_channel_affine", "fused_moving_avg_obs_fake_quant",
           "_fused_moving_avg_obs_fq_helper", "_fake_quantize_learnable_per_tensor_affine",
           "_fake_quantize_learnable_per_channel_affine", "_assert_tensor_metadata",
           "sym_constrain_range_for_size", "as_tensor", "tensor", "asarray", "view_as_real", "view_as_complex",
           "share_memory", "__deepcopy__", "as_subclass", "dequantize", "__copy__", "rename", "refine_names",
           "align_to"),
    acts=Acts.ELEMENTWISE,
    traits=Trait.NEUTRAL,
    function=lambda x, **_: x,
)  # fmt: skip
register_op(
    "neg",
    Role.TRANSPARENT,
    names=("neg", "negative", "__neg__"),
    acts=Acts.ELEMENTWISE,
    function=torch.neg,
)
register_op(
    "cast",
    Role.TRANSPARENT,
    names=("to", "type", "type_as", "float", "half", "double", "bfloat16", "cpu", "cuda", "_to_copy", "to_dense",
           "convert_element_type", "cfloat", "chalf", "cdouble", "int", "long", "short", "bool", "byte", "char",
           "_to_cpu", "xpu", "ipu", "to_sparse", "to_sparse_coo", "to_sparse_csr", "to_sparse_csc", "coalesce"),
    acts=Acts.ELEMENTWISE,
    traits=Trait.NEUTRAL,
    function=lambda x, **_: x,
)  # fmt: skip
register_op(
    "dropout",
    Role.TRANSPARENT,
    modules=(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout),
    names=("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
           "feature_dropout", "native_dropout", "bernoulli_dropout"),
    signature="input, p=0.5, training=True, inplace=False",
    acts=Acts.ELEMENTWISE,
    traits=Trait.NEUTRAL,
    function=lambda x, **_: x,
)  # fmt: skip

_REARRANGING = {
    "view": "view view_as reshape reshape_as _unsafe_view _reshape_alias unsafe_view",
    "flatten": "flatten ravel",
    "unflatten": "unflatten",
    "permute": "permute",
    "transpose": "transpose swapaxes swapdims t movedim moveaxis T mT H mH numpy_T adjoint",
    "squeeze": "squeeze",
    "unsqueeze": "unsqueeze",
    "expand": "expand expand_as broadcast_to expand_copy",
    "repeat": "repeat tile repeat_interleave",
    "roll": "roll flip fliplr flipud rot90",
    "diagonal": "diagonal diag diag_embed diagflat tril triu tril_ triu_",
    "pixel_shuffle": "pixel_shuffle",
    "pixel_unshuffle": "pixel_unshuffle",
    "channel_shuffle": "channel_shuffle native_channel_shuffle",
    "unfold": "unfold im2col",
    "fold": "fold col2im",
    "view_dtype": "as_strided",
    "block_diag": "block_diag",
}
_TRAITS = {"block_diag": Trait.JOINING, "unfold": Trait.WINDOWED, "fold": Trait.SUMMING}
_MODULES: dict[str, tuple[type[nn.Module], ...]] = {
    "flatten": (nn.Flatten,),
    "unflatten": (nn.Unflatten,),
    "pixel_shuffle": (nn.PixelShuffle,),
    "pixel_unshuffle": (nn.PixelUnshuffle,),
    "channel_shuffle": (nn.ChannelShuffle,),
    "unfold": (nn.Unfold,),
    "fold": (nn.Fold,),
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "flatten": torch.flatten,
    "unflatten": torch.unflatten,
    "pixel_shuffle": torch.pixel_shuffle,
    "pixel_unshuffle": torch.pixel_unshuffle,
    "channel_shuffle": torch.channel_shuffle,
}
_SIGNATURES = {
    "flatten": "input, start_dim=0, end_dim=-1",
    "unflatten": "input, dim, sizes",
    "permute": "input, dims",
    "transpose": "input, dim0=None, dim1=None",
    "squeeze": "input, dim=None",
    "unsqueeze": "input, dim",
    "pixel_shuffle": "input, upscale_factor",
    "pixel_unshuffle": "input, downscale_factor",
    "channel_shuffle": "input, groups",
    "fold": "input, output_size, kernel_size, dilation=1, padding=0, stride=1",
    "unfold": "input, kernel_size, dilation=1, padding=0, stride=1",
}
for _name, _spellings in _REARRANGING.items():
    register_op(
        _name,
        Role.TRANSPARENT,
        modules=_MODULES.get(_name, ()),
        names=_spellings.split(),
        signature=_SIGNATURES.get(_name, "input"),
        function=_FUNCTIONS.get(_name),
        acts=Acts.REDUCING if _name == "fold" else Acts.REARRANGING,
        attributes={"dim": "dim", "sizes": "unflattened_size"} if _name == "unflatten" else {},
        traits=_TRAITS.get(_name, Trait.NONE),
    )

for _name, _spellings, _signature in (
    ("sort", "sort", "input, dim=-1, descending=False"),
    ("topk", "topk kthvalue", "input, k, dim=-1"),
):
    register_op(_name, Role.TRANSPARENT, names=_spellings.split(), signature=_signature, acts=Acts.REARRANGING,
                ranks=True)  # fmt: skip
register_op("diff", Role.TRANSPARENT, names="diff", signature="input, n=1, dim=-1", acts=Acts.MIXING)
register_op("msort", Role.TRANSPARENT, names="msort", acts=Acts.MIXING)
register_op("values", Role.TRANSPARENT, names="values", acts=Acts.MIXING)  # of what max, sort and topk return
register_op("pack", Role.TRANSPARENT, names=("_pack_padded_sequence", "_pad_packed_sequence"),
            signature="input, lengths", several=True)  # fmt: skip
register_op("nested", Role.TRANSPARENT, signature="input", acts=Acts.REARRANGING,
            names=("_nested_view_from_jagged", "_nested_get_values", "_nested_from_padded_tensor",
                   "to_padded_tensor"))  # fmt: skip

# The features may part here: the walk looks which of them go on.
_SPLITTING = {
    "getitem": ("getitem __getitem__ unsafe_getitem", "input, index"),
    "chunk": ("chunk unsafe_chunk", "input, chunks, dim=0"),
    "split": ("split unsafe_split split_with_sizes unsafe_split_with_sizes tensor_split hsplit vsplit dsplit",
              "input, split_size_or_sections, dim=0"),
    "unbind": ("unbind", "input, dim=0"),
    "narrow": ("narrow narrow_copy", "input, dim, start, length"),
    "select": ("select select_copy", "input, dim, index"),
    "slice": ("slice slice_copy", "input, dim=0, start=None, end=None, step=1"),
    "gather": ("gather take index_select masked_select aten::index _unsafe_index unsafe_index",
               "input, dim=None, index=None"),
    "take_along_dim": ("take_along_dim", "input, indices, dim=None"),
}  # fmt: skip
for _name, (_spellings, _signature) in _SPLITTING.items():
    register_op(_name, Role.SPLIT, names=_spellings.split(), signature=_signature, acts=Acts.REARRANGING)
