"""What the graph says of each parameter: what it is, what it reads and makes, where in a residual stream it stands."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch

from autoinit.errors import PlanError
from autoinit.facts import Facts, gather
from autoinit.models import ModelView
from autoinit.ops import Role
from autoinit.planning import plan_dataflow
from autoinit.plans.layers import LayerPlan, SlicePlan
from autoinit.plans.options import PlanOptions
from autoinit.plans.plan import Plan
from autoinit.resolving import resolve
from autoinit.tracing import Dataflow
from autoinit.tracing.dataflow import Op


@dataclass(frozen=True)
class ParameterFacts:
    """One parameter.

    Attributes:
        name: in `named_parameters()`.
        shape: its own.
        layer: the plan of a weight.
        facts: what the graph tells of it; of a weight whose output features part, of the first part. None where no
            operation uses it.
        before_tied: part of the last norm before a table that serves as head.
        constant: the one value that all its elements have; None if they differ or have none yet.
    """

    name: str
    shape: tuple[int, ...]
    layer: LayerPlan | None = None
    facts: Facts | None = None
    before_tied: bool = False
    constant: float | None = None

    @property
    def what(self) -> str:
        """What it is: a kind of `Facts`, or `uncalled`."""
        return "uncalled" if self.facts is None else self.facts.kind

    @property
    def tied(self) -> bool:
        """Whether it is a weight that is also a table which is looked up."""
        return self.layer is not None and self.facts is not None and self.facts.tied

    @property
    def fan_in(self) -> float:
        """True fan_in of a weight; 1 for what sums nothing."""
        return self.layer.fan_in if self.layer is not None and not self.tied else 1.0

    @property
    def features(self) -> int:
        """Output features of a weight or a table; elements of everything else."""
        if self.what == "embedding" or self.tied:
            return self.shape[-1]
        return output_features(self.layer) if self.layer is not None else prod(self.shape)

    @property
    def parts(self) -> tuple[SlicePlan, ...]:
        """Of a weight whose output features are treated apart."""
        return self.layer.slices if self.layer is not None and not self.tied else ()

    @property
    def is_head(self) -> bool:
        """Whether a weight's output is the model's, or a choice among a fixed number of things."""
        return self.layer is not None and not self.tied and self.layer.reason in ("output", "softmax")

    @property
    def branches(self) -> int:
        """Branches of the residual stream in one of which it lies; 0 outside."""
        return self.facts.branches if self.facts is not None else 0

    @property
    def ends_branch(self) -> bool:
        """Whether nothing with parameters follows it before its branch is added."""
        return self.facts is not None and self.facts.last_on_branch


def output_features(layer: LayerPlan) -> int:
    """How many output features a weight has."""
    own = prod(size for letter, size in zip(layer.axes, layer.shape, strict=True) if letter == "o")
    return own * layer.groups if layer.axes.startswith("io") and layer.groups > 1 else own


def input_features(layer: LayerPlan) -> int:
    """How many input features a weight has, of all its groups together."""
    own = prod(size for letter, size in zip(layer.axes, layer.shape, strict=True) if letter == "i")
    return own if layer.axes.startswith("io") else own * layer.groups


def is_depthwise(layer: LayerPlan) -> bool:
    """Whether each output feature of a convolution reads one input feature."""
    return layer.groups > 1 and input_features(layer) == layer.groups


@dataclass(frozen=True, eq=False)
class ModelFacts:
    """A model, its dataflow and plan, and the facts of its parameters."""

    view: ModelView
    dataflow: Dataflow
    plan: Plan
    gathered: tuple[Facts, ...]

    @classmethod
    def of(cls, view: ModelView, dataflow: Dataflow) -> ModelFacts:
        """The facts of a traced model."""
        resolutions = resolve(dataflow)
        plan = plan_dataflow(dataflow, view, PlanOptions(), resolutions)
        return cls(view, dataflow, plan, gather(dataflow, resolutions))

    @cached_property
    def parameters(self) -> Mapping[str, ParameterFacts]:
        """Every parameter by its first name.

        Raises:
            PlanError: a table is tied to a head whose input no norm with a gain of its own scales.
        """
        layers = {layer.param: layer for layer in self.plan.layers}
        facts: dict[str, Facts] = {}
        for each in self.gathered:
            facts.setdefault(each.param, each)
        tied = [name for name in layers if name in facts and facts[name].tied]
        before = set(self._norms_before(tied, facts))
        return {
            name: ParameterFacts(
                name=name,
                shape=tuple(parameter.shape),
                layer=layers.get(name),
                facts=facts.get(name),
                before_tied=name in before,
                constant=_constant(parameter),
            )
            for name, parameter in self.view.parameters.items()
        }

    @cached_property
    def uses(self) -> Mapping[str, tuple[Op, ...]]:
        """The operations that each parameter enters, by itself or through operations on it alone."""
        found: dict[str, dict[Op, None]] = {}
        for op in self.dataflow.graph.nodes:
            if op.op != "parameter":
                for name in _entering(op):
                    found.setdefault(name, {})[op] = None
        return {name: tuple(ops) for name, ops in found.items()}

    def _norms_before(self, tied: Collection[str], facts: Mapping[str, Facts]) -> Iterator[str]:
        """The gains and biases of the norms from which tied heads read.

        Raises:
            PlanError: there is none, or its gain is used as 1 + gain.
        """
        norms = {name for name, each in facts.items() if each.kind in ("norm_gain", "norm_shift")}
        for name in tied:
            for head in (op for op in self.uses[name] if op.role is Role.WEIGHT):
                found = _gains_behind(head, norms)
                if not found:
                    raise PlanError(
                        f"{name}: the table is tied to the head at {head.source or head.name}, and no norm with a gain "
                        f"of its own stands before the head. Its input cannot be scaled down as the model widens: "
                        f"put a norm before the head, or untie it."
                    )
                yield from found


def _entering(op: Op) -> Iterator[str]:
    """Names of the parameters that enter an operation, also through operations that no signal enters."""
    yield from (use.name for use in op.params)
    waiting = [each for each in op.operands.values() if not each.signal]
    seen: set[Op] = set()
    while waiting:
        here = waiting.pop()
        if here not in seen:
            seen.add(here)
            yield from (use.name for use in here.params)
            waiting += [each for each in here.operands.values() if not each.signal]


def _gains_behind(head: Op, norms: Collection[str]) -> list[str]:
    """The parameters of the last norm before an operation, back through what holds no other weights."""
    signals = [each for each in head.operands.values() if each.signal]
    if len(signals) != 1:
        return []
    here, found = signals[0], list[str]()
    while here.role in (Role.TRANSPARENT, Role.SPLIT, Role.NORM, Role.PRODUCT) and here.signal:
        entering = [name for name in _entering(here) if name in norms]
        if entering and "add" in _between_parameters(here):
            raise PlanError(
                f"{entering[0]}: the gain before a tied head is used as 1 + gain, which cannot be scaled by scaling "
                f"the parameter. Use the gain itself, or untie the head."
            )
        found += entering
        signals = [each for each in here.operands.values() if each.signal]
        if here.role is Role.NORM or len(signals) != 1:
            break
        here = signals[0]
    return found


def _between_parameters(op: Op) -> set[str]:
    """The operations between parameters and the operation that they enter."""
    found: set[str] = set()
    waiting = [each for each in op.operands.values() if not each.signal]
    while waiting:
        here = waiting.pop()
        if here.op != "parameter":
            found.add(here.op)
        waiting += here.operands.values()
    return found


def _constant(parameter: torch.Tensor) -> float | None:
    if parameter.is_meta or not parameter.numel():
        return None
    first = parameter.detach().reshape(-1)[0]
    return float(first) if bool((parameter.detach() == first).all()) else None
