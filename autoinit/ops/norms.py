"""Normalisations."""

from __future__ import annotations

from torch import nn

from autoinit.ops.registry import register_op
from autoinit.ops.roles import Role

register_op(
    "batch_norm",
    Role.NORM,
    modules=(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    names=("batch_norm", "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
           "cudnn_batch_norm", "_batch_norm_with_update"),
    signature="input, running_mean=None, running_var=None, weight=None, bias=None, training=False, eps=1e-5",
)  # fmt: skip
register_op(
    "layer_norm",
    Role.NORM,
    modules=nn.LayerNorm,
    names=("layer_norm", "native_layer_norm"),
    signature="input, normalized_shape, weight=None, bias=None, eps=1e-5",
)
register_op(
    "rms_norm",
    Role.NORM,
    modules=nn.RMSNorm,
    names=("rms_norm", "_fused_rms_norm"),
    signature="input, normalized_shape, weight=None, eps=None",
)
register_op(
    "group_norm",
    Role.NORM,
    modules=nn.GroupNorm,
    names=("group_norm", "native_group_norm"),
    signature="input, num_groups, weight=None, bias=None, eps=1e-5",
)
register_op(
    "instance_norm",
    Role.NORM,
    modules=(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    names="instance_norm",
    signature="input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True",
)
register_op(
    "local_response_norm",
    Role.NORM,
    modules=(nn.LocalResponseNorm, nn.CrossMapLRN2d),
    names="local_response_norm",
    signature="input, size, alpha=1e-4, beta=0.75, k=1.0",
)
register_op("normalize", Role.NORM, names="normalize", signature="input, p=2.0, dim=1, eps=1e-12")
