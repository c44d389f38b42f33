"""Normalisations."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from autoinit.ops.registry import register_op
from autoinit.ops.roles import Role, Trait

register_op(
    "batch_norm",
    Role.NORM,
    modules=(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    functions=F.batch_norm,
    signature="input, running_mean=None, running_var=None, weight=None, bias=None, training=False, momentum=0.1, "
    "eps=1e-5",
    traits=Trait.CHANNELWISE | Trait.OVER_SAMPLES,
)
register_op(
    "native_batch_norm",  # torch's own order of arguments, which ATen shares
    Role.NORM,
    functions=(torch.batch_norm, torch.ops.aten.batch_norm),
    names=("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm", "_batch_norm_with_update"),
    signature="input, weight=None, bias=None, running_mean=None, running_var=None, training=False, momentum=0.1, "
    "eps=1e-5",
    traits=Trait.CHANNELWISE | Trait.OVER_SAMPLES,
)
register_op(
    "native_batch_norm_in_evaluation",
    Role.NORM,
    names="_native_batch_norm_legit_no_training",
    signature="input, weight=None, bias=None, running_mean=None, running_var=None, momentum=0.1, eps=1e-5",
    traits=Trait.CHANNELWISE,
)
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
    names="group_norm",
    signature="input, num_groups, weight=None, bias=None, eps=1e-5",
)
register_op(
    "native_group_norm",
    Role.NORM,
    names="native_group_norm",
    signature="input, weight, bias, batch, channels, positions, num_groups, eps",
)
register_op(
    "instance_norm",
    Role.NORM,
    modules=(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    functions=F.instance_norm,
    signature="input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True",
    traits=Trait.CHANNELWISE,
)
register_op(
    "native_instance_norm",
    Role.NORM,
    functions=(torch.instance_norm, torch.ops.aten.instance_norm),
    signature="input, weight=None, bias=None, running_mean=None, running_var=None, use_input_stats=True",
    traits=Trait.CHANNELWISE,
)
register_op(
    "local_response_norm",
    Role.NORM,
    modules=(nn.LocalResponseNorm, nn.CrossMapLRN2d),
    names="local_response_norm",
    signature="input, size, alpha=1e-4, beta=0.75, k=1.0",
)
register_op("normalize", Role.NORM, names="normalize", signature="input, p=2.0, dim=1, eps=1e-12")
