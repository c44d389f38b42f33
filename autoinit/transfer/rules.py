"""The rules: from how much a weight has grown to its std, learning rate, weight decay and eps.

Everything follows from one condition (Yang, Simon & Bernstein 2023, arXiv 2310.17813, condition 1): a weight and each
update of it have a spectral norm of the order sqrt(features / fan_in). Let m_i and m_o be the growth of a weight's
true fan_in and of its output features, against the base model.

- A random matrix of std s has spectral norm s (sqrt(fan_in) + sqrt(features)), so s grows as
  m_i^-1/2 min(1, sqrt(m_o / m_i)) (there, equation 9).
- An update of Adam has elements of size lr and, being aligned with what it reads, spectral norm
  lr sqrt(fan_in features): lr grows as 1 / m_i. The gradient itself has spectral norm of the order
  sqrt(fan_in / features): of SGD, lr grows as m_o / m_i.
- Muon's update is orthogonal: spectral norm 1, times the ratio by which the optimizer adjusts it.

These are the values of maximal update parametrisation (Yang et al. 2022, arXiv 2203.03466, table 8) with all
multipliers in the forward pass absorbed into the weights. What has no fan_in that grows (tables, biases, norms) has
m_i = 1.

In depth, let m_L be the growth of the number of branches in a residual stream, each multiplied by m_L^-alpha (Dey et
al. 2025, arXiv 2505.01618, table 1, with the multiplier absorbed into the weight that ends the branch). Of SGD: the
update of one branch moves the stream by its multiplier, twice, times lr; so lr grows as m_L^(2 alpha - 1), and as
1 / m_L where the multiplier is absorbed.
"""

from __future__ import annotations

import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Optimizer = Literal["adamw", "adam", "sgd", "muon"]
MuonAdjustment = Literal["original", "match_rms_adamw"]
Place = Literal["", "inside", "end"]


@dataclass(frozen=True)
class Growth:
    """How much larger a parameter's surroundings are than in the base model.

    Attributes:
        fan_in: of the weight's true fan_in (m_i); 1 for what is no weight.
        features: of its output features (m_o).
        branches: of the number of branches in its residual stream (m_L).
        place: whether it ends a branch of that stream, lies inside one, or neither.
        rows, columns: of the matrix, in the model itself; 0 where it is none.
    """

    fan_in: float = 1.0
    features: float = 1.0
    branches: float = 1.0
    place: Place = ""
    rows: int = 0
    columns: int = 0


@dataclass(frozen=True)
class Multipliers:
    """By how much the base model's values are multiplied.

    Attributes:
        std: of the weight, at the start.
        lr: the learning rate.
        weight_decay: as torch's optimizers define it, where each step takes lr * weight_decay of the weight.
        eps: Adam's.
    """

    std: float
    lr: float
    weight_decay: float
    eps: float


@dataclass(frozen=True)
class OptimizerRule:
    """What depends on the optimizer.

    Attributes:
        width: the learning rate's growth from that of the weight.
        depth: its growth inside a branch, from m_L and alpha.
        eps: whether the optimizer has an eps that gradients are compared with.
        name: of torch's class of it.
    """

    width: Callable[[Growth], float]
    depth: Callable[[float, float], float]
    eps: bool
    name: str

    @property
    def kind(self) -> type[Any]:
        """Torch's class; nothing of torch is loaded before."""
        found: type[Any] = pkgutil.resolve_name(f"torch.optim:{self.name}")
        return found


def _adam_width(grown: Growth) -> float:
    return 1 / grown.fan_in


def _adam_depth(branches: float, alpha: float) -> float:
    return math.pow(branches, alpha - 1)


_ADAM = OptimizerRule(_adam_width, _adam_depth, eps=True, name="Adam")
OPTIMIZERS: Mapping[Optimizer, OptimizerRule] = {
    "adamw": replace(_ADAM, name="AdamW"),
    "adam": _ADAM,
    "sgd": OptimizerRule(
        width=lambda grown: grown.features / grown.fan_in,
        depth=lambda branches, alpha: math.pow(branches, 2 * alpha - 1),
        eps=False,
        name="SGD",
    ),
    "muon": replace(_ADAM, name="Muon"),  # of what is no hidden matrix, for which AdamW stands beside it
}
"""A row for each optimizer."""


def multipliers(
    grown: Growth, optimizer: Optimizer, alpha: float = 1.0, muon: MuonAdjustment | None = None
) -> Multipliers:
    """The multipliers of a parameter.

    Args:
        grown: against the base model.
        optimizer: a key of `OPTIMIZERS`.
        alpha: a branch is multiplied by m_L^-alpha; between 1/2 and 1.
        muon: how Muon, which updates this matrix, adjusts its updates: its `adjust_lr_fn`.
    """
    rule = OPTIMIZERS[optimizer]
    lr = rule.width(grown) if muon is None else _muon_width(grown, muon)
    std = _std(grown.fan_in, grown.features)
    has_eps = rule.eps and muon is None
    eps = 1 / grown.features if has_eps else 1.0
    if grown.place == "end":
        std *= math.pow(grown.branches, -alpha)
        lr /= grown.branches
    elif grown.place == "inside":
        lr *= rule.depth(grown.branches, alpha)
        eps *= math.pow(grown.branches, -alpha) if has_eps else 1.0
    return Multipliers(std, lr, 1 / lr, eps)


def _std(fan_in: float, features: float) -> float:
    """Of a random matrix. A model that shrank is the reciprocal of one that grew."""
    if fan_in <= 1 and features <= 1:
        return 1 / (math.sqrt(fan_in) * min(1.0, math.sqrt(fan_in / features)))
    return 1 / math.sqrt(fan_in) * min(1.0, math.sqrt(features / fan_in))


def _muon_width(grown: Growth, adjustment: MuonAdjustment) -> float:
    """What is wanted of the update's spectral norm, over what the optimizer's own adjustment makes of it.

    torch.optim.Muon multiplies an orthogonal update by sqrt(max(1, rows / columns)) (`original`), or by
    0.2 sqrt(max(rows, columns)) (`match_rms_adamw`). Wanted is sqrt(features / fan_in).
    """
    wanted = math.sqrt(grown.features / grown.fan_in)
    before = grown.rows / grown.features, grown.columns / grown.fan_in
    return wanted * _muon_adjusts(*before, adjustment) / _muon_adjusts(grown.rows, grown.columns, adjustment)


def _muon_adjusts(rows: float, columns: float, adjustment: MuonAdjustment) -> float:
    return math.sqrt(max(1.0, rows / columns) if adjustment == "original" else max(rows, columns))
