"""Scaling: for each parameter of a model how it starts and how far a step may move it, against a smaller base model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import msgspec
import torch

from autoinit import formats
from autoinit.errors import PlanError
from autoinit.errors.arguments import refusal, require
from autoinit.models import Model, ModelView
from autoinit.plans.plan import Plan, Report
from autoinit.transfer.rules import OPTIMIZERS, Optimizer


@dataclass(frozen=True)
class Scaled:
    """One parameter.

    Attributes:
        kind: what it is to the rules (`KINDS`).
        std: of the weight at the scaled start; None where `apply` draws nothing.
        lr, weight_decay, eps: multipliers of the values that were tuned on the base model.
        std_scale: the multiplier of the base model's std.
        reason: how much has grown.
        counterpart: the base model's parameter that it is compared with; empty where there is no base model.
        fill: the one value that `apply` gives to all its elements; None where it gives none.
        muon: whether Muon updates it, where that was asked for.
    """

    kind: str
    std: float | None
    lr: float
    weight_decay: float
    eps: float
    reason: str
    std_scale: float = 1.0
    counterpart: str = ""
    fill: float | None = None
    muon: bool = False


KINDS: Mapping[str, str] = {
    "input": "a weight whose fan_in is given by the task",
    "hidden": "a weight between features that grow",
    "depthwise": "a weight that reads one feature for each that it makes",
    "head": "a weight whose output is the model's",
    "narrow": "a weight whose number of outputs stays: a router, keys of fixed size, LoRA's A",
    "table": "a table that is looked up",
    "position": "a table of positions",
    "tied table": "a table that is the head as well",
    "norm": "a norm's gain or bias",
    "norm before a tied head": "the gain and bias that scale what a tied head reads",
    "bias": "a bias",
    "other": "any other parameter",
    "uncalled": "no operation uses it",
}
"""What a parameter can be."""


@dataclass(frozen=True)
class Scaling(Mapping[str, Scaled], formats.Printable):
    """A mapping from parameter name, as in `named_parameters()`, to `Scaled`.

    Attributes:
        entries: the names and what belongs to them, in the model's order.
        plan: the scaled start.
        optimizer: a key of `OPTIMIZERS`.
        depth: alpha, see `rules`.
        against: what the model was compared with.
        notes: what the rules do not cover in this model.
    """

    _kind = "scaling"

    entries: tuple[tuple[str, Scaled], ...]
    plan: Plan
    optimizer: Optimizer
    depth: float
    against: str
    notes: tuple[str, ...] = ()

    @cached_property
    def _by_name(self) -> dict[str, Scaled]:
        return dict(self.entries)

    def __getitem__(self, name: str) -> Scaled:
        try:
            return self._by_name[name]
        except KeyError:
            raise KeyError(f"no parameter {name!r} in the scaling of {self.plan.model}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def apply(self, model: Model, seed: int | None = 0, *, force: bool = False) -> Report:
        """Write the scaled start: the weights, zeros into their biases, and what the rules fill with one value.

        Args:
            model: the model that was scaled, or another with the same weights.
            seed: of the values, as in `Plan.apply`.
            force: write although the model looks trained.

        Raises:
            PlanError: the scaling does not fit the model; nothing was written.
            TrainedModelError: the model looks trained; nothing was written.
        """
        self._held(model)
        return self.plan.apply(model, seed, force=force)

    def groups(
        self,
        model: Model,
        lr: float,
        weight_decay: float = 0.0,
        *,
        eps: float = 1e-8,
        muon_lr: float | None = None,
    ) -> list[dict[str, Any]]:
        """torch.optim's param groups: `torch.optim.AdamW(scaling.groups(model, lr=3e-3, weight_decay=0.1))`.

        Call it after the model was wrapped or compiled. Nothing is attached to parameters.

        Args:
            model: the model that was scaled, wrapped or not.
            lr: the learning rate that was tuned on the base model.
            weight_decay: likewise.
            eps: likewise.
            muon_lr: Muon's learning rate, where that is the optimizer; `lr` if None.

        Returns:
            A group for each set of multipliers. `params` are pairs of name and parameter; `lr_scale` is the multiplier
            of the learning rate, for loops that set `group["lr"]`. Of Muon, `use_muon` tells the two optimizers apart.

        Raises:
            PlanError: the model has other parameters.
            ArgumentError: a value is no number.
        """
        muons = 0.0 if muon_lr is None else muon_lr
        numbers: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "eps": eps, "muon_lr": muons}
        for name, value in numbers.items():
            require(name, value, (int, float, torch.Tensor), "a number")
            if (isinstance(value, torch.Tensor) and value.numel() != 1) or not value >= 0:
                raise refusal(name, value, "a number, 0 or more")
        found: dict[tuple[float, float, float, bool], list[tuple[str, torch.nn.Parameter]]] = {}
        for name, parameter in self._held(model).items():
            each = self[name]
            if parameter.requires_grad:
                found.setdefault((each.lr, each.weight_decay, each.eps, each.muon), []).append((name, parameter))
        made = []
        for (lr_scale, decay_scale, eps_scale, muon), params in found.items():
            base_lr = muon_lr if muon and muon_lr is not None else lr
            group = {
                "params": params,
                "lr": base_lr * lr_scale,
                "lr_scale": lr_scale,
                "weight_decay": weight_decay * decay_scale,
            }
            if OPTIMIZERS[self.optimizer].eps:
                group["eps"] = eps * eps_scale
            if self.optimizer == "muon":
                group["use_muon"] = muon
            made.append(group)
        return made

    def _held(self, model: Model) -> Mapping[str, torch.nn.Parameter]:
        """The model's parameters, if they are those of the scaling.

        Raises:
            PlanError: they are not.
        """
        view = ModelView.of(model)
        missing = [name for name in self if name not in view.parameters]
        other = [name for name in view.parameters if name not in self._by_name]
        if missing or other:
            named = f"it lacks {missing[0]}" if missing else f"{other[0]} is not in the scaling"
            raise PlanError(
                f"{view.class_name} is not the model that was scaled: {named}. Scale the model that is trained."
            )
        return view.held

    @classmethod
    def from_json(cls, text: str | bytes) -> Scaling:
        """Read a scaling written by `to_json`.

        Raises:
            PlanError: the text is none, or of another version.
        """
        require("text", text, (str, bytes), "what Scaling.to_json gave")
        try:
            document = msgspec.json.decode(text.encode() if isinstance(text, str) else text, type=_Document)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise PlanError(f"not a scaling: {error}. Expected the output of Scaling.to_json().") from None
        if document.version != VERSION:
            raise PlanError(f"scaling version {document.version}; this release reads version {VERSION}")
        given = {
            each.name: getattr(document, each.name) for each in fields(cls) if each.name not in ("entries", "plan")
        }
        plan = Plan.from_json(msgspec.json.encode(document.plan))
        return cls(entries=tuple(document.parameters.items()), plan=plan, **given)


VERSION = 1


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON form."""

    version: int
    parameters: dict[str, Scaled]
    plan: dict[str, Any]
    optimizer: Optimizer
    depth: float
    against: str
    notes: tuple[str, ...]
