"""Softmax and its relatives: each element by its share of all along an axis."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from autoinit.theory.activations._activation import Fact, Nonlinearity, Spelling

_HEAD: dict[str, Any] = {
    "gain": lambda: 1.0,
    "source": "Glorot & Bengio 2010: a head, whose input is best left at unit variance",
    "scheme": "xavier",
    "acts": "mixing",
}

SOFTMAXES = (
    Nonlinearity(
        "softmax",
        torch.softmax,
        facts=Fact.BOUNDED | Fact.SHARE,
        spelling=Spelling(
            (nn.Softmax, nn.Softmax2d, nn.Softmin),
            names=("_softmax", "softmin", "_safe_softmax"),
            arguments="dim=None",
        ),
        **_HEAD,
    ),
    Nonlinearity(
        "log_softmax",
        torch.log_softmax,
        spelling=Spelling((nn.LogSoftmax,), names=("_log_softmax",), arguments="dim=None"),
        **_HEAD,
    ),
    Nonlinearity(
        "gumbel_softmax",
        torch.softmax,
        facts=Fact.BOUNDED | Fact.SHARE,
        spelling=Spelling(input="logits", arguments="tau=1.0, hard=False, eps=1e-10, dim=-1"),
        **_HEAD,
    ),
    Nonlinearity(
        "logsumexp",
        torch.logsumexp,
        spelling=Spelling(arguments="dim=None, keepdim=False"),
        **{**_HEAD, "acts": "reducing"},
    ),
)
