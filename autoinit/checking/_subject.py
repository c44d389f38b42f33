"""Subject: all that rules look at, gathered once: the plan, the graph, and what every weight looks like."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import nn

from autoinit.checking._part import Part
from autoinit.checking._signals import Prediction, predict
from autoinit.checking.base_model import FollowedBase
from autoinit.checking.recipes import Published
from autoinit.checking.scale.reach import surroundings
from autoinit.facts import Facts, gather, head_rows
from autoinit.facts.parameter import Rows
from autoinit.models import ModelView
from autoinit.models.alone import WeightsAlone
from autoinit.ops import REGISTRY, Trait, recurrent_gates
from autoinit.planning import plan_dataflow
from autoinit.plans.layers import LayerPlan, RowsPlan, SlicePlan
from autoinit.plans.options import PlanOptions
from autoinit.plans.plan import Plan
from autoinit.provenance import Origin, Recording
from autoinit.recognising.portrait import Portrait, portray
from autoinit.resolving import Resolution, resolve
from autoinit.resolving.normalising import written_norms
from autoinit.resolving.residual import branch_counts
from autoinit.signal.report import SignalReport
from autoinit.tensors.measuring import WeightStats, weight_stats
from autoinit.tensors.parallel import Task, in_parallel
from autoinit.tracing.dataflow import Dataflow, Op, SourceLine
from autoinit.writing.reparametrised import effective_weight, fixes_scale

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Subject:
    """A model under check.

    Attributes:
        name: as the user calls it.
        tolerance: how far a std may be from the planned one, beyond noise.
        portraits: by layer name, of the weight as the forward reads it; none for weights without values.
        provenance: what was recorded while the model was built.
        published: the recipe that it is held against.
        declared: whether the caller has named it, so that it is not only recognised.
        codes: of the rules that are asked; None for all. What only others need is left out.
        gradients: whether a rule that is asked looks at gradients.
        base: the base model that it is to follow.
        weights: where there is no model, and so no graph; None else.
    """

    name: str
    view: ModelView
    dataflow: Dataflow
    resolutions: Mapping[str, Resolution]
    plan: Plan
    portraits: Mapping[str, Portrait]
    provenance: Recording | None = None
    published: Published | None = None
    declared: bool = False
    tolerance: float = 0.10
    codes: frozenset[str] | None = None
    gradients: bool = True
    base: FollowedBase | None = None
    weights: WeightsAlone | None = None

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The model's parameters by name."""
        return self.view.parameters

    def asks(self, code: str) -> bool:
        """Whether a rule is asked."""
        return self.codes is None or code in self.codes

    @property
    def signal(self) -> SignalReport | None:
        """The signal that the present weights make of random inputs; None where the tracing knew no shapes."""
        return self.prediction.report

    @cached_property
    def prediction(self) -> Prediction:
        """The signal, or why there is none; gradients only for the rule about them. Costs a propagation, once."""
        return predict(self.view, self.dataflow, self.plan, backward=self.gradients)

    @property
    def predicted(self) -> bool:
        """Whether anything has asked for the signal."""
        return "prediction" in vars(self)

    def held_against(self, recipe: Published | None, *, declared: bool) -> Subject:
        """The same model held against a recipe. What was seen of its weights and its graph is not looked for again."""
        made = replace(self, published=recipe, declared=declared)
        own = {each.name for each in fields(self)} | {"_made"}
        vars(made).update({name: value for name, value in vars(self).items() if name not in own})
        return made

    def once(self, make: Callable[[Subject], T]) -> T:
        """What a function makes of the subject: several rules ask for it, and it is made when the first one does."""
        if make not in self._made:
            self._made[make] = make(self)
        made: T = self._made[make]
        return made

    @cached_property
    def _made(self) -> dict[Callable[[Subject], Any], Any]:
        return {}

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Every weight or slice whose scale is a matter of choice: trainable, used, resolved, and not zero."""
        return tuple(
            part
            for layer in self.plan.layers
            if layer.status == "planned" and layer.name in self.portraits
            for part in self._parts(layer)
        )

    def _parts(self, layer: LayerPlan) -> Iterator[Part]:
        portrait = self.portraits[layer.name]
        resolution = self.resolutions[layer.name]
        chosen = resolution.ending
        gains = tuple(each.scale * chosen.gain / chosen.scale for each in resolution.alternatives)
        branches = max((self._branch_counts.get(f"{use}/{layer.param}", 1) for use in layer.uses), default=1)
        where = {kind: all(use in ops for use in layer.uses) for kind, ops in self.surroundings.items()}
        where["centred"] = any(name == "sub" or _standardises(name) for name in resolution.transform)
        fixed = bool(layer.reparam) and fixes_scale(self.view, self.view.storage(layer.param))
        for place in layer.slices or (layer,):
            rows = place.rows if isinstance(place, SlicePlan) else ()
            normalised = place.normalised or resolution.factor == 0
            kinds = where | {"gated": where["gated"] or _is_gate(layer, place)}
            kinds["head"] = rows in self._heads.get(layer.param, ())
            facts = self.facts[layer.param, rows]
            part = Part(
                layer, rows, place, portrait, resolution.layout, facts, branches, normalised, gains, fixed, **kinds
            )
            if part.actual > 0:
                yield part

    @cached_property
    def facts(self) -> Mapping[tuple[str, Rows], Facts]:
        """What the graph tells of each parameter, and of the parts of a weight, by name and rows."""
        return {(each.param, each.rows): each for each in gather(self.dataflow, tuple(self.resolutions.values()))}

    @cached_property
    def _heads(self) -> Mapping[str, Collection[Rows]]:
        return head_rows(self.dataflow, tuple(self.resolutions.values()))

    @cached_property
    def _branch_counts(self) -> Mapping[str, int]:
        return branch_counts(self.dataflow)

    @cached_property
    def surroundings(self) -> Mapping[str, frozenset[str]]:
        """Names of the operations in each kind of place where a wrong scale does less harm."""
        return surroundings(self.dataflow, self.is_zero, self.written_norms)

    @cached_property
    def norm_parameters(self) -> frozenset[str]:
        """Gains and biases of norms, also of those that are written out."""
        return frozenset(each.name for each in self.plan.others if each.kind == "norm")

    @cached_property
    def written_norms(self) -> Mapping[Op, tuple[Op, ...]]:
        """The norms that are written out in simpler operations: the last one of each, with all of them."""
        return written_norms(self.dataflow)

    def is_zero(self, param: str) -> bool:
        """Whether a parameter is zero everywhere."""
        if param in self._weights:
            portrait = self.portraits.get(self._weights[param])
            return portrait is not None and portrait.stats.zeros == 1.0
        stats = self.other_stats.get(param)
        return stats is not None and stats.zeros == 1.0

    @cached_property
    def _weights(self) -> Mapping[str, str]:
        return {layer.param: layer.name for layer in self.plan.layers}

    @cached_property
    def other_stats(self) -> Mapping[str, WeightStats]:
        """Statistics of every parameter that is no weight layer's: biases, norms, embeddings, tables."""
        found = {
            name: weight_stats(parameter)
            for name, parameter in self.parameters.items()
            if name not in self._weights and parameter.is_floating_point()
        }
        return {name: stats for name, stats in found.items() if stats is not None}

    @cached_property
    def uses(self) -> Mapping[str, tuple[tuple[Op, str], ...]]:
        """For each parameter the operations that use it, and the operand as which it enters."""
        found: dict[str, list[tuple[Op, str]]] = {}
        for op in self.dataflow.graph.nodes:
            for use in op.params:
                if op.op != "parameter":
                    found.setdefault(use.name, []).append((op, use.slot))
            for slot, operand in op.operands.items():
                for use in operand.params if operand.op == "parameter" else ():
                    found.setdefault(use.name, []).append((op, slot))
        return {name: tuple(each) for name, each in found.items()}

    def origin(self, param: str) -> Origin | None:
        """What last wrote a parameter, if that was recorded."""
        parameter = self.parameters.get(param)
        return self.provenance.origin(parameter) if self.provenance is not None and parameter is not None else None

    def location(self, param: str, source: str = "") -> SourceLine | None:
        """The line that last wrote a parameter, else that built its module, else `source`, where it is used."""
        origin = self.origin(param)
        if origin is not None and origin.source is not None:
            return origin.source
        built = self._built_at(param)
        if built is not None:
            return built
        file, _, line = source.rpartition(":")
        return SourceLine(file, int(line), "") if file and line.isdecimal() else None

    def _built_at(self, param: str) -> SourceLine | None:
        if self.provenance is None or param not in self.parameters or not self.view.has_modules:
            return None
        registered = self.provenance.registered_at(self.parameters[param])
        path = param.rpartition(".")[0].partition(".parametrizations")[0]
        return registered or self.provenance.built_at(self.view.submodule(path))


def subject(
    view: ModelView,
    dataflow: Dataflow,
    *,
    name: str = "",
    provenance: Recording | None = None,
    tolerance: float = 0.10,
    codes: frozenset[str] | None = None,
    gradients: bool = True,
) -> Subject:
    """Gathers what rules look at. Reads every weight once; changes nothing."""
    resolutions = resolve(dataflow)
    made = plan_dataflow(dataflow, view, PlanOptions(), resolutions)
    return Subject(
        name=name or made.model,
        view=view,
        dataflow=dataflow,
        resolutions={each.name: each for each in resolutions},
        plan=replace(made, model=name or made.model),
        portraits=portraits_of(view, made),
        provenance=provenance,
        tolerance=tolerance,
        codes=codes,
        gradients=gradients,
    )


def _is_gate(layer: LayerPlan, place: RowsPlan) -> bool:
    """Whether these are rows of a recurrent operation's gates (LSTM, GRU): bounded, and multiplied by each other."""
    return recurrent_gates(layer.op) > 1 and isinstance(place, SlicePlan)


def portraits_of(view: ModelView, plan: Plan) -> dict[str, Portrait]:
    """What each weight looks like, by layer name, in the plan's order."""
    found: dict[str, Portrait] = {}

    def look(layer: LayerPlan) -> None:
        weight = _effective(view, layer)
        portrait = portray(weight, layer.axes) if weight is not None else None
        if portrait is not None:
            found[layer.name] = portrait

    plain = [layer for layer in plan.layers if not layer.reparam]
    in_parallel(Task(math.prod(layer.shape), partial(look, layer)) for layer in plain)
    for layer in plan.layers:
        if layer.reparam:
            look(layer)
    return {layer.name: found[layer.name] for layer in plan.layers if layer.name in found}


def _effective(view: ModelView, layer: LayerPlan) -> torch.Tensor | None:
    """The weight as forward reads it, in the layer's own shape; None where it has no values to look at."""
    stored = view.storage(layer.param)
    written = [view.parameters[name] for name in stored.written]
    if not all(each.numel() and each.is_floating_point() for each in written):
        return None
    return effective_weight(view, stored)


def _standardises(name: str) -> bool:
    spec = REGISTRY.specs.get(name)
    return spec is not None and Trait.STANDARDISING in spec.traits
