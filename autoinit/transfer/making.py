"""`scaling`: from a model and its base to what each parameter needs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from autoinit.errors import ArgumentError, PlanError
from autoinit.errors.arguments import one_of, require
from autoinit.models import Model, ModelView
from autoinit.plans.layers import LayerPlan, RestPlan, SlicePlan, root_mean_square
from autoinit.plans.plan import Plan
from autoinit.tensors.process_state import collector_paused, tensors_on_cpu
from autoinit.theory.fans import Fans
from autoinit.tracing.tiers import trace_view
from autoinit.transfer.facts import ModelFacts, ParameterFacts, is_depthwise
from autoinit.transfer.growth import counterparts, growth
from autoinit.transfer.pitfalls import pitfalls
from autoinit.transfer.record import Scaled, Scaling
from autoinit.transfer.rules import OPTIMIZERS, Growth, Multipliers, MuonAdjustment, Optimizer, multipliers
from autoinit.transfer.spaces import widened


def scaling(
    model: Model,
    base: Model | None = None,
    *,
    width: float | None = None,
    optimizer: Optimizer = "adamw",
    depth: float = 1.0,
    adjust_lr_fn: MuonAdjustment = "original",
    example_inputs: Any = None,
    base_inputs: Any = None,
) -> Scaling:
    """How each parameter starts and how far a step may move it, so that what was tuned on a base model holds.

        >>> import torch.nn as nn
        >>> def mlp(d): return nn.Sequential(nn.Linear(8, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU(), nn.Linear(d, 2))
        >>> scaled = scaling(mlp(256), base=mlp(32))
        >>> scaled["2.weight"].kind, scaled["2.weight"].lr
        ('hidden', 0.125)

    Changes nothing, and needs no weights: models on the meta device will do.

    Args:
        model: the model that is trained.
        base: the same architecture, narrower (or with fewer blocks), on which learning rate, weight decay and eps were
            tuned. What differs between the two has grown.
        width: in place of a base, how many times wider the model is. Which features grow is then read from the model's
            own graph; what stays by choice (keys of fixed size, LoRA's rank) takes a base to be seen.
        optimizer: `adamw`, `adam`, `sgd`, or `muon` (torch.optim.Muon for hidden matrices, AdamW for the rest).
        depth: alpha: a branch of a stream that has m_L times as many is multiplied by m_L^-alpha; from 0.5 to 1.
        adjust_lr_fn: Muon's.
        example_inputs: of the model, as for `plan`.
        base_inputs: of the base model; those of the model if None.

    Raises:
        ArgumentError: an argument has no meaning.
        PlanError: the base is another architecture; a parameter has no elements; or a table is tied to a head before
            which no norm stands, or one whose gain is used as 1 + gain.
        TraceError: a model could not be traced.
    """
    _require(width, base, optimizer, depth, adjust_lr_fn)
    facts = _facts(model, example_inputs)
    if base is not None:
        small = _facts(base, example_inputs if base_inputs is None else base_inputs)
        pairs = counterparts(facts.parameters, small.parameters)
        grown: Mapping[str, Growth] = {
            name: growth(facts.parameters[name], small.parameters[other]) for name, other in pairs.items()
        }
        bases = {name: small.parameters[other] for name, other in pairs.items()}
        against = f"{small.view.class_name}, {small.plan.parameters:,} parameters"
        notes = pitfalls(facts, small)
    else:
        assert width is not None
        grown, bases, against, notes = (
            widened(facts, float(width)),
            {},
            f"a model {width:g} times narrower",
            pitfalls(facts, None),
        )
    made = _Made(facts, bases, grown, optimizer, depth, adjust_lr_fn)
    notes = (*notes, *made.unwritten())
    return Scaling(tuple(made.entries()), made.plan(), optimizer, depth, against, notes)


def _facts(model: Model, example_inputs: Any) -> ModelFacts:
    view = ModelView.of(model)
    with collector_paused(), tensors_on_cpu():
        facts = ModelFacts.of(view, trace_view(view, example_inputs))
    empty = next((each for each in facts.parameters.values() if not (each.features and each.fan_in)), None)
    if empty is not None:
        raise PlanError(f"{empty.name} of shape {list(empty.shape)} has no elements: expected features that can grow")
    return facts


def _require(width: Any, base: Any, optimizer: Any, depth: Any, adjust_lr_fn: Any) -> None:
    if (width is None) == (base is None):
        raise ArgumentError("pass either base=, a narrower model, or width=, how many times wider this one is")
    if width is not None:
        require("width", width, (int, float), "how many times wider the model is, a positive number")
        if not (math.isfinite(width) and width > 0):
            raise ArgumentError(f"width={width}: expected a positive number")
    one_of("optimizer", optimizer, OPTIMIZERS)
    require("depth", depth, (int, float), "alpha, a number from 0.5 to 1")
    if not 0.5 <= depth <= 1:
        raise ArgumentError(f"depth={depth}: expected alpha, a number from 0.5 to 1")
    one_of("adjust_lr_fn", adjust_lr_fn, ("original", "match_rms_adamw"))


@dataclass(frozen=True, eq=False)
class _Made:
    """What becomes of each parameter, from its growth.

    Attributes:
        bases: the base model's parameters; empty where there is no base model.
    """

    facts: ModelFacts
    bases: Mapping[str, ParameterFacts]
    grown: Mapping[str, Growth]
    optimizer: Optimizer
    depth: float
    adjust: MuonAdjustment

    def entries(self) -> Iterator[tuple[str, Scaled]]:
        """Name and what belongs to it, of each parameter."""
        layers = {layer.param: layer for layer in self.plan().layers}
        zeros = {bias for layer in layers.values() for bias in layer.biases if layer.status == "planned"}
        for name, facts in self.facts.parameters.items():
            grown, kind = self.grown[name], self._kind(name)
            by = self._multipliers(name, grown)
            layer = layers.get(name)
            drawn = layer is not None and layer.status == "planned"
            yield (
                name,
                Scaled(
                    kind=kind,
                    std=layer.std if layer is not None and drawn else None,
                    lr=by.lr,
                    weight_decay=by.weight_decay,
                    eps=by.eps,
                    reason=_reason(grown, layer, drawn=drawn),
                    std_scale=by.std,
                    counterpart=self.bases[name].name if name in self.bases else "",
                    fill=0.0 if name in zeros else self._fill(facts, by),
                    muon=self._by_muon(name) is not None,
                ),
            )

    def plan(self) -> Plan:
        """The plan of the scaled start."""
        plan, parameters = self.facts.plan, self.facts.parameters
        fills = {name: self._fill(each, self._multipliers(name, self.grown[name])) for name, each in parameters.items()}
        rest = tuple(
            RestPlan(name, parameters[name].shape, parameters[name].what, "constant", 0.0, mean=value)
            for name, value in fills.items()
            if value is not None
        )
        return replace(
            plan,
            layers=tuple(self._layer(layer) for layer in plan.layers),
            rest=rest,
            others=tuple(each for each in plan.others if fills[each.name] is None),
        )

    def unwritten(self) -> Iterator[str]:
        """What the rules would change at the start, and `apply` cannot, a sentence each."""
        for name, facts in self.facts.parameters.items():
            by = self._multipliers(name, self.grown[name])
            gain = facts.what in ("norm_gain", "layer_scale")
            if gain and by.std != 1 and self._fill(facts, by) is None and facts.constant != 0:
                yield (
                    f"{name}: what it multiplies should start at {by.std:.4g} times what it is in the base model, but "
                    f"it has no single value to scale (it differs between features, or is used as 1 + gain): scale it "
                    f"by hand"
                )

    def _layer(self, layer: LayerPlan) -> LayerPlan:
        grown = self.grown[layer.param]
        base = self.bases.get(layer.param)
        if not layer.slices:
            as_head = Growth(grown.features) if self.facts.parameters[layer.param].tied else grown
            start = base.layer.std if base is not None and base.layer is not None else _narrow_std(layer, as_head)
            return replace(layer, std=start * self._multipliers(layer.param, grown).std)
        theirs = base.layer.slices if base is not None and base.layer is not None else ()
        parts = []
        for at, part in enumerate(layer.slices):
            other = theirs[at] if len(theirs) == len(layer.slices) else None
            own = grown if other is None else replace(grown, features=part.count / other.count)
            start = other.std if other is not None else _narrow_std(part, own)
            parts.append(replace(part, std=start * self._multipliers(layer.param, own).std))
        return replace(layer, slices=tuple(parts), std=root_mean_square(parts))

    def _multipliers(self, name: str, grown: Growth) -> Multipliers:
        return multipliers(grown, self.optimizer, self.depth, self._by_muon(name))

    def _by_muon(self, name: str) -> MuonAdjustment | None:
        """How Muon adjusts what it updates: matrices between hidden features."""
        hidden = self._kind(name) == "hidden" and len(self.facts.parameters[name].shape) == 2
        return self.adjust if self.optimizer == "muon" and hidden else None

    def _kind(self, name: str) -> str:
        facts, grown = self.facts.parameters[name], self.grown[name]
        if grown.fan_in == grown.features == 1:  # where nothing grew, the graph says what would
            grown = self._would_grow[name]
        if facts.before_tied:
            return "norm before a tied head"
        if facts.layer is None or facts.tied:
            return "tied table" if facts.tied else _KINDS_BESIDE_WEIGHTS.get(facts.what, "other")
        if is_depthwise(facts.layer):
            return "depthwise"
        if grown.features == 1 and facts.is_head:
            return "head"
        if grown.fan_in == 1 and grown.features != 1:
            return "input"
        return "narrow" if grown.features == 1 and grown.fan_in != 1 else "hidden"

    @cached_property
    def _would_grow(self) -> Mapping[str, Growth]:
        return widened(self.facts, 2.0)

    def _fill(self, facts: ParameterFacts, by: Multipliers) -> float | None:
        """The value of a gain that the rules change: the base's, or the norm's own 1, times the multiplier."""
        if by.std == 1 or facts.facts is None or facts.layer is not None or facts.what == "bias":
            return None
        base = self.bases.get(facts.name)
        start = base.constant if base is not None and base.constant is not None else facts.facts.neutral
        return start * by.std if start else None


_KINDS_BESIDE_WEIGHTS = {
    "embedding": "table",
    "position": "position",
    "norm_gain": "norm",
    "norm_shift": "norm",
    "bias": "bias",
    "uncalled": "uncalled",
}


def _narrow_std(rows: LayerPlan | SlicePlan, grown: Growth) -> float:
    """The std that the plan would give in the base model, whose fans are smaller."""
    fans = Fans(rows.fan_in, rows.fan_out)
    alone = isinstance(rows, LayerPlan) and is_depthwise(rows)  # each input reaches its own output, however many
    narrow = Fans(rows.fan_in / grown.fan_in, rows.fan_out / (1.0 if alone else grown.features))
    return rows.std * math.sqrt(fans.by_mode[rows.mode] / narrow.by_mode[rows.mode])


def _reason(grown: Growth, layer: LayerPlan | None, *, drawn: bool) -> str:
    """How much has grown, in words."""
    said = []
    if grown.fan_in != 1:
        said.append(f"fan_in x {grown.fan_in:.4g}")
    if grown.features != 1:
        said.append(f"features x {grown.features:.4g}")
    if grown.branches != 1 and grown.place:
        said.append(f"{'ends' if grown.place == 'end' else 'inside'} one of x {grown.branches:.4g} branches")
    if layer is not None and not drawn:
        said.append(f"{layer.status}: {layer.note}")
    return ", ".join(said) or "nothing has grown"
