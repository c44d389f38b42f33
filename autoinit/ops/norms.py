"""Normalisations."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from autoinit.ops.registry import register_op
from autoinit.ops.roles import Role, Trait


def _standardising(name: str, traits: Trait = Trait.NONE, **given: Any) -> None:
    """A norm whose output has second moment 1."""
    register_op(name, Role.NORM, traits=traits | Trait.STANDARDISING, **given)


_standardising(
    "batch_norm",
    modules=(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    functions=F.batch_norm,
    signature="input, running_mean=None, running_var=None, weight=None, bias=None, training=False, momentum=0.1, "
    "eps=1e-5",
    traits=Trait.CHANNELWISE | Trait.OVER_SAMPLES,
)
_standardising(
    "native_batch_norm",  # torch's own order of arguments, which ATen shares
    functions=(torch.batch_norm, torch.ops.aten.batch_norm),
    names=("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm", "_batch_norm_with_update"),
    signature="input, weight=None, bias=None, running_mean=None, running_var=None, training=False, momentum=0.1, "
    "eps=1e-5",
    traits=Trait.CHANNELWISE | Trait.OVER_SAMPLES,
)
_standardising(
    "native_batch_norm_in_evaluation",
    names="_native_batch_norm_legit_no_training",
    signature="input, weight=None, bias=None, running_mean=None, running_var=None, momentum=0.1, eps=1e-5",
    traits=Trait.CHANNELWISE,
)
_standardising(
    "layer_norm",
    modules=nn.LayerNorm,
    names=("layer_norm", "native_layer_norm"),
    signature="input, normalized_shape, weight=None, bias=None, eps=1e-5",
)
_standardising(
    "rms_norm",
    modules=nn.RMSNorm,
    names=("rms_norm", "_fused_rms_norm"),
    signature="input, normalized_shape, weight=None, eps=None",
)
_standardising(
    "group_norm",
    modules=nn.GroupNorm,
    names="group_norm",
    signature="input, num_groups, weight=None, bias=None, eps=1e-5",
)
_standardising(
    "native_group_norm",
    names="native_group_norm",
    signature="input, weight, bias, batch, channels, positions, num_groups, eps",
)
_standardising(
    "instance_norm",
    modules=(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    functions=F.instance_norm,
    signature="input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True",
    traits=Trait.CHANNELWISE,
)
_standardising(
    "native_instance_norm",
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
