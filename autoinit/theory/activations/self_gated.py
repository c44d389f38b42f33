"""A signal times a share of itself: x * share(x)."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import nn

from autoinit.theory.activations._activation import Activation, Fact, Spelling

SELF_GATED = (
    Activation(
        "gelu", F.gelu, facts=Fact.HOMOGENEOUS_NEAR_ZERO, spelling=Spelling((nn.GELU,), arguments="approximate='none'")
    ),
    Activation(
        "gelu_tanh",
        functools.partial(F.gelu, approximate="tanh"),
        facts=Fact.HOMOGENEOUS_NEAR_ZERO,
        variant_of="gelu",
        constants={"approximate": "tanh"},
    ),
    Activation("quick_gelu", lambda x: x * torch.sigmoid(1.702 * x), facts=Fact.HOMOGENEOUS_NEAR_ZERO),
    Activation(
        "silu",
        F.silu,
        facts=Fact.HOMOGENEOUS_NEAR_ZERO,
        spelling=Spelling((nn.SiLU,), arguments="inplace=False"),
    ),
    Activation(
        "mish",
        F.mish,
        facts=Fact.HOMOGENEOUS_NEAR_ZERO,
        spelling=Spelling((nn.Mish,), arguments="inplace=False"),
    ),
    Activation(
        "hardswish",
        F.hardswish,
        facts=Fact.HOMOGENEOUS_NEAR_ZERO,
        spelling=Spelling((nn.Hardswish,), arguments="inplace=False"),
    ),
)
