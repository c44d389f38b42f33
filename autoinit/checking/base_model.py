"""A base model that another one is to follow in another width or depth, and the learning rates that are to follow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from autoinit.errors.arguments import refusal
from autoinit.models import Model, ModelView
from autoinit.tensors.measuring import WeightStats, weight_stats
from autoinit.transfer.making import scaling
from autoinit.transfer.record import Scaling
from autoinit.transfer.rules import OPTIMIZERS, Optimizer

Groups = torch.optim.Optimizer | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class FollowedBase:
    """What is expected of a model that follows another.

    Attributes:
        scaling: of the model against its base.
        base_stats: of each of the base model's parameters that has values.
        rates: the learning rate that each of the model's parameters is given; empty where none were handed in.
    """

    scaling: Scaling
    base_stats: Mapping[str, WeightStats]
    rates: Mapping[str, float] = field(default_factory=dict)

    def expected(self, name: str) -> float | None:
        """The root mean square that a parameter is to have; None where the base says nothing."""
        scaled = self.scaling[name]
        stats = self.base_stats.get(scaled.counterpart)
        return math.hypot(stats.std, stats.mean) * scaled.std_scale or None if stats is not None else None

    def noise(self, name: str, count: int) -> float:
        """The standard error of the ratio of a parameter's std to its base's, both of Gaussian values."""
        return math.sqrt((1 / count + 1 / self.base_stats[self.scaling[name].counterpart].numel) / 2)

    def base_rate(self) -> float | None:
        """The learning rate of what keeps that of the base model; else the one that most parameters follow."""
        kept = [rate for name, rate in self.rates.items() if self.scaling[name].lr == 1]
        found = sorted(kept or [rate / self.scaling[name].lr for name, rate in self.rates.items()])
        return found[len(found) // 2] if found else None


def followed_base(view: ModelView, base: Model, optimizer: Groups | None, example_inputs: Any) -> FollowedBase:
    """What a model is to be, by its base.

    Args:
        view: of the model.
        base: narrower, or with fewer blocks, with its weights as they are before training.
        optimizer: that trains the model, or its param groups.
        example_inputs: of both, where they are needed.

    Raises:
        ArgumentError: the optimizer is none.
        PlanError: the base is another architecture.
    """
    made = scaling(view.root, base, optimizer=_kind(optimizer), example_inputs=example_inputs)
    base_view = ModelView.of(base)
    stats = {name: weight_stats(each) for name, each in base_view.parameters.items() if each.is_floating_point()}
    measured = {name: each for name, each in stats.items() if each is not None}
    return FollowedBase(made, measured, _rates(view, optimizer))


def _kind(optimizer: Groups | None) -> Optimizer:
    """The rules that an optimizer asks for, by its class; those of AdamW where only groups are given."""
    return next((name for name, rule in OPTIMIZERS.items() if isinstance(optimizer, rule.kind)), "adamw")


def _rates(view: ModelView, optimizer: Groups | None) -> dict[str, float]:
    if optimizer is None:
        return {}
    groups = optimizer.param_groups if isinstance(optimizer, torch.optim.Optimizer) else optimizer
    if not isinstance(groups, Iterable) or not all(isinstance(each, Mapping) and "params" in each for each in groups):
        raise refusal("optimizer", optimizer, "a torch.optim.Optimizer or its param groups")
    names = {id(parameter): name for name, parameter in view.parameters.items()}
    found: dict[str, float] = {}
    for group in groups:
        if "lr" not in group:
            raise refusal("optimizer", optimizer, "param groups with a learning rate, `lr`, each")
        for each in group["params"]:
            parameter = each[1] if isinstance(each, tuple) else each
            if id(parameter) in names:
                found[names[id(parameter)]] = float(group["lr"])
    return found
