"""Operations that combine positions: pooling, reductions, padding, resampling, transforms along an axis."""

from __future__ import annotations

import torch
from torch import nn

from autoinit.ops.registry import Acts, register_op
from autoinit.ops.roles import Role, Trait

register_op(
    "max_pool",
    Role.TRANSPARENT,
    modules=(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d),
    names=("max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices",
           "max_pool3d_with_indices", "fractional_max_pool2d", "fractional_max_pool3d",
           "fractional_max_pool2d_with_indices", "fractional_max_pool3d_with_indices"),
    signature="input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False",
    traits=Trait.WINDOWED,
)  # fmt: skip
register_op(
    "avg_pool",
    Role.TRANSPARENT,
    modules=(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    names=("avg_pool1d", "avg_pool2d", "avg_pool3d"),
    signature="input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True",
    traits=Trait.WINDOWED,
)
register_op(
    "lp_pool",
    Role.TRANSPARENT,
    modules=(nn.LPPool1d, nn.LPPool2d, nn.LPPool3d),
    names=("lp_pool1d", "lp_pool2d", "lp_pool3d"),
    signature="input, norm_type, kernel_size, stride=None, ceil_mode=False",
    traits=Trait.WINDOWED,
)
register_op(
    "adaptive_avg_pool",
    Role.TRANSPARENT,
    modules=(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    names=("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d",
           "_adaptive_avg_pool3d"),
    signature="input, output_size",
    traits=Trait.WINDOWED,
)  # fmt: skip
register_op(
    "adaptive_max_pool",
    Role.TRANSPARENT,
    modules=(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    names=("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "adaptive_max_pool1d_with_indices",
           "adaptive_max_pool2d_with_indices", "adaptive_max_pool3d_with_indices"),
    signature="input, output_size, return_indices=False",
    traits=Trait.WINDOWED,
)  # fmt: skip
register_op(
    "max_unpool",
    Role.TRANSPARENT,
    modules=(nn.MaxUnpool1d, nn.MaxUnpool2d, nn.MaxUnpool3d),
    names=("max_unpool1d", "max_unpool2d", "max_unpool3d"),
    signature="input, indices, kernel_size, stride=None, padding=0, output_size=None",
)
register_op(
    "pad",
    Role.TRANSPARENT,
    modules=(nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d,
             nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d, nn.ReplicationPad1d, nn.ReplicationPad2d,
             nn.ReplicationPad3d, nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
    names=("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d",
           "replication_pad1d", "replication_pad2d", "replication_pad3d", "pad_sequence"),
    signature="input, pad, mode='constant', value=None",
    attributes={"pad": "padding"},
)  # fmt: skip
register_op(
    "interpolate",
    Role.TRANSPARENT,
    modules=(nn.Upsample, nn.UpsamplingBilinear2d, nn.UpsamplingNearest2d),
    names=("interpolate", "upsample", "upsample_nearest", "upsample_bilinear", "upsample_nearest1d",
           "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d",
           "upsample_bicubic2d", "upsample_trilinear3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
           "_upsample_nearest_exact2d", "grid_sample", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d"),
    signature="input, size=None, scale_factor=None, mode='nearest', align_corners=None",
    traits=Trait.WINDOWED,
)  # fmt: skip
register_op(
    "roi_align",
    Role.TRANSPARENT,
    names=("torchvision::roi_align", "torchvision::roi_pool", "torchvision::ps_roi_align", "torchvision::ps_roi_pool"),
    signature="input, boxes, spatial_scale, pooled_height, pooled_width, sampling_ratio=0, aligned=False",
    steered_by=("boxes",),
)


def _max_variant(arguments: object) -> str | None:
    other = arguments.get("dim") if isinstance(arguments, dict) else None
    return "maximum" if hasattr(other, "op") else None


for _name in ("max", "min"):
    register_op(
        _name,
        Role.TRANSPARENT,
        names=(_name,),
        signature="input, dim=None, keepdim=False",
        acts=Acts.REDUCING,
        variant=_max_variant,
        ranks=True,
    )
register_op("amax", Role.TRANSPARENT, names=("amax", "amin", "aminmax", "quantile", "nanquantile"),
            signature="input, dim=None, keepdim=False", acts=Acts.REDUCING)  # fmt: skip
register_op("median", Role.TRANSPARENT, names=("cummax", "cummin", "median", "nanmedian", "mode"),
            signature="input, dim=None, keepdim=False", acts=Acts.REDUCING, ranks=True)  # fmt: skip
register_op("mean", Role.TRANSPARENT, names=("mean", "nanmean"), signature="input, dim=None, keepdim=False",
            acts=Acts.REDUCING)  # fmt: skip
register_op("sum", Role.TRANSPARENT, names=("sum", "nansum", "cumsum", "logcumsumexp", "trace"),
            signature="input, dim=None, keepdim=False", acts=Acts.REDUCING, traits=Trait.SUMMING)  # fmt: skip
register_op("var", Role.TRANSPARENT, names=("var", "std", "var_mean", "std_mean"),
            signature="input, dim=None, keepdim=False", acts=Acts.REDUCING, traits=Trait.SUMMING)  # fmt: skip
register_op("norm", Role.TRANSPARENT, names=("norm", "vector_norm", "matrix_norm", "linalg_vector_norm",
            "linalg_matrix_norm", "renorm"), signature="input, p=2, dim=None", acts=Acts.REDUCING,
            traits=Trait.SUMMING)  # fmt: skip
register_op("segment_reduce", Role.TRANSPARENT, names="segment_reduce", signature="input, reduce", traits=Trait.SUMMING)
register_op("prod", Role.TRANSPARENT, names=("prod", "cumprod"), signature="input, dim=None", acts=Acts.REDUCING,
            traits=Trait.SUMMING)  # fmt: skip
register_op(
    "fft",
    Role.TRANSPARENT,
    names=("fft", "ifft", "rfft", "irfft", "fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn", "rfftn", "irfftn",
           "hfft", "ihfft", "fftshift", "ifftshift", "stft", "istft"),
    signature="input",
    traits=Trait.SUMMING,
)  # fmt: skip
register_op("real", Role.TRANSPARENT, names="real", acts=Acts.ELEMENTWISE, function=torch.real)
register_op("complex", Role.TRANSPARENT, names=("complex", "polar", "imag"), signature="input, imag=None")
