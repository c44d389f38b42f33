"""Functions that take what is near zero to zero."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import nn

from autoinit.theory.activations._activation import Activation, Fact, Spelling
from autoinit.theory.activations._curve import REACH, Curve

_NOT_NEGATIVE = ("lambd >= 0", lambda lambd: lambd >= 0)


def _fit_softshrink(phi: Curve) -> Mapping[str, float] | None:
    return {"lambd": REACH - phi.high} if phi.high < REACH else None


def _fit_hardshrink(phi: Curve) -> Mapping[str, float] | None:
    edge = phi.identity_from
    return {"lambd": edge} if edge is not None and edge > 0 else None


SHRINKING = (
    Activation(
        "hardshrink",
        F.hardshrink,
        facts=Fact.ODD,
        spelling=Spelling((nn.Hardshrink,)),
        defaults={"lambd": 0.5},
        condition=_NOT_NEGATIVE,
        fit=_fit_hardshrink,
    ),
    Activation(
        "softshrink",
        F.softshrink,
        facts=Fact.ODD,
        spelling=Spelling((nn.Softshrink,)),
        defaults={"lambd": 0.5},
        condition=_NOT_NEGATIVE,
        fit=_fit_softshrink,
    ),
    Activation("tanhshrink", F.tanhshrink, facts=Fact.ODD, spelling=Spelling((nn.Tanhshrink,))),
)
