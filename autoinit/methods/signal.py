"""`plan(method="signal")`: stds for which every pre-activation has second moment 1, by one propagation.

A pre-activation's second moment is sigma^2 m, m being what weights of variance 1 would give. As the propagation comes
to a weight, all weights before it have their stds, so that m is known and sigma = 1 / sqrt(m). Only two things look
ahead, and cost a second propagation: a weight that is used several times takes the geometric mean of the stds that its
uses ask for; attention's queries and keys take the scale for which their products, as the softmax reads them, have
second moment 1, half of the correction each.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch

from autoinit.facts.parameter import Rows
from autoinit.methods._arguments import argument_factors
from autoinit.models import ModelView
from autoinit.ops import Role, Trait
from autoinit.planning import plan_dataflow
from autoinit.planning.heads import head_factors
from autoinit.plans.layers import LayerPlan, RowsPlan, SlicePlan
from autoinit.plans.mirror import Mirror
from autoinit.plans.options import PlanOptions
from autoinit.plans.plan import Plan
from autoinit.resolving.residual import branch_counts
from autoinit.signal.predicting.fields import TINY, second_moment
from autoinit.signal.predicting.linear_maps import LinearMap
from autoinit.signal.predicting.meanfield import unit_moment
from autoinit.signal.predicting.propagating import InputSignal, Propagation, require_elements
from autoinit.signal.predicting.replaying import Runner
from autoinit.tracing.dataflow import Dataflow, Op, ParamUse

NEAR = 1.05
"""Factor within which a logit's second moment counts as 1 already: the surrogates' own scatter."""
_MASKED = -1e4
_WHOLE = torch.tensor(1.0)


MakeMirror = Callable[[float, float], Mirror]
"""Given the second moment of what a weight reads, and the share of it that padding leaves."""


@dataclass
class _Wanted:
    """What a propagation finds out about one weight: the stds that its uses ask for."""

    stds: list[float] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)

    @property
    def std(self) -> float:
        """The geometric mean."""
        return math.exp(sum(map(math.log, self.stds)) / len(self.stds))


@dataclass
class _Solver:
    """Chooses a weight's std when its input is known.

    Attributes:
        layers: those that are planned, by parameter.
        fixed: stds that are settled already.
        factors: of the rows of a weight, beside the std that its input asks for.
        heads: of the rows of heads, as what they give is seen further on; their plans do not have them yet.
        mirrors: what makes the mirror of a mirrored weight.
        mirrored: those made.
    """

    propagation: Propagation
    layers: Mapping[str, LayerPlan]
    fixed: Mapping[str, float]
    factors: Mapping[str, torch.Tensor]
    heads: Mapping[str, torch.Tensor]
    mirrors: Mapping[str, MakeMirror]
    mirrored: dict[str, Mirror] = field(default_factory=dict)
    wanted: dict[str, _Wanted] = field(default_factory=lambda: defaultdict(_Wanted))

    def choose(self, op: Op, use: ParamUse, x: torch.Tensor, linear: LinearMap) -> None:
        """Set the std of a planned weight."""
        if use.name not in self.layers or use.factor == 0:
            return
        moment = unit_moment(x, linear)
        if not moment > TINY or not math.isfinite(moment):
            return
        if use.name in self.mirrors:
            if use.name in self.mirrored:  # its first use has decided
                return
            moment /= self.layers[use.name].fan_in
            share = moment / max(second_moment(x.detach().float()), TINY)
            made = self.mirrored[use.name] = self.mirrors[use.name](moment, share)
            head = self.heads.get(use.name, _WHOLE)
            seen = replace(made, scale=made.scale * float(head)) if head.numel() == 1 else made
            self.propagation.values.set_mirror(use.name, seen)
            return
        if Trait.RECURRENT in op.traits:  # its steps differ: the std of its nonlinearity stays
            return
        found = self.wanted[use.name]
        found.moments.append(moment)
        found.stds.append(1 / math.sqrt(moment) / (use.factor or 1.0))
        std = self.fixed.get(use.name, found.stds[-1])
        factor = self.factors.get(use.name, _WHOLE) * self.heads.get(use.name, _WHOLE)
        self.propagation.values.set_sigma(use.name, factor * std)


def plan_by_signal(
    view: ModelView,
    dataflow: Dataflow,
    options: PlanOptions,
    example_inputs: Any = None,
    mirrors: Mapping[str, MakeMirror] = MappingProxyType({}),
) -> Plan:
    """A plan for which the predicted second moment of every pre-activation is 1, that of phi(c z) being c z.

    Weights without a rule (LSTM and GRU, bilinear), whose input is zero, or whose scale is normalised away keep the
    std that their nonlinearity asks for, with a note.

    Args:
        view: of the model.
        dataflow: traced from it, with shapes.
        options: `residual="depth"` multiplies the std of each branch's last weight by 1 / sqrt(L); what reads a draw
            sees the heads that make it as `heads` will have them; the seed is that of the surrogates.
        example_inputs: as for `plan`; only shapes and integers matter.
        mirrors: for weights that are mirrored, by parameter: what makes the mirror.
    """
    seed = options.seed or 0
    base = plan_dataflow(dataflow, view, replace(options, residual="keep"))
    layers = {layer.param: layer for layer in base.layers if layer.status == "planned"}
    ends = _branch_ends(dataflow, layers) if options.residual == "depth" else {}
    goals = _products(argument_factors(dataflow), {name: torch.tensor(end) for name, end in ends.items()})
    heads = {name: _by_row(each) for name, each in head_factors(base, dataflow, options.heads).items()}
    require_elements(dataflow)

    def solved(fixed: Mapping[str, float], factors: Mapping[str, torch.Tensor]) -> tuple[_Solver, Mapping[Op, float]]:
        """One propagation, and the second moments of what softmaxes read, by the product that makes it."""
        propagation = Propagation(dataflow, view, base, InputSignal(), given=example_inputs, seed=seed)
        solver, logits = _Solver(propagation, layers, fixed, factors, heads, mirrors), _Logits()
        propagation.run(solver.choose, backward=False, watch=logits.watch)
        return solver, logits.found

    solver, logits = solved({}, goals)
    shared = {name: found.std for name, found in solver.wanted.items() if len(found.stds) > 1}
    corrected = _attention_factors(layers, logits)
    if shared or corrected:
        solver, _ = solved(shared, _products(goals, corrected))
    made = tuple(_replanned(layer, solver, ends) for layer in base.layers)
    notes = (*base.notes, *solver.propagation.notes_on_inputs())
    return replace(base, layers=made, method="signal", residual=options.residual, notes=notes)


def _by_row(factors: Mapping[Rows, float]) -> torch.Tensor:
    """The factors of runs of rows, one for each row; one for all where they are alike."""
    if () in factors:
        return torch.tensor(factors[()])
    made = torch.ones(max(stop for rows in factors for _, stop in rows))
    for rows, factor in factors.items():
        for start, stop in rows:
            made[start:stop] = factor
    return made


def _products(*factors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """By weight the product of the factors that name it."""
    made: dict[str, torch.Tensor] = {}
    for each in factors:
        made.update({name: factor * made.get(name, 1.0) for name, factor in each.items()})
    return made


def _branch_ends(dataflow: Dataflow, layers: Mapping[str, LayerPlan]) -> dict[str, float]:
    """1 / sqrt(`Stream.count`) by weight."""
    ends: dict[str, float] = {}
    for key, count in branch_counts(dataflow).items():
        name = next((param for param in layers if key.endswith(f"/{param}")), None)
        if name is not None:
            ends[name] = min(ends.get(name, 1.0), 1 / math.sqrt(count))
    return ends


class _Logits:
    """The second moments of what softmaxes read, by the product of two signals that makes it.

    Scaling on the way from the product to the softmax counts; what is added there (masks, position biases) does not.
    """

    def __init__(self) -> None:
        self.found: dict[Op, float] = {}
        self._behind: dict[Op, tuple[Op, float]] = {}

    def watch(self, op: Op, run: Runner) -> None:
        """Note an operation that is done, while its operands are held."""
        if op.op == "scaled_dot_product_attention":
            self._fused(op, run)
            return
        before = next((each for each in op.operands.values() if each in self._behind), None)
        if op.role is Role.PRODUCT and op.op != "mul":
            moment = _moment(run.get(op))
            if moment is not None:
                self._behind[op] = (op, moment)
        elif before is not None and op.op == "softmax":
            product, moment = self._behind[before]
            self.found[product] = moment
        elif before is not None and op.role in (Role.ADD, Role.TRANSPARENT) and Trait.SCALING not in op.traits:
            self._behind[op] = self._behind[before]
        elif before is not None and op.role is Role.TRANSPARENT:
            old, new = _moment(run.get(before)), _moment(run.get(op))
            if old and new is not None:
                product, moment = self._behind[before]
                self._behind[op] = (product, moment * new / old)

    def _fused(self, op: Op, run: Runner) -> None:
        query, key = (run.get(op.operands[slot]) if slot in op.operands else None for slot in ("input", "key"))
        if isinstance(query, torch.Tensor) and isinstance(key, torch.Tensor):
            scale = op.constants.get("scale") or 1 / math.sqrt(query.shape[-1])
            products = second_moment(query.detach().float()) * second_moment(key.detach().float()) * query.shape[-1]
            self.found[op] = products * float(scale) ** 2


def _moment(value: Any) -> float | None:
    """The second moment of a tensor's elements that are not masked."""
    if not isinstance(value, torch.Tensor):
        return None
    seen = value.detach().float()
    seen = seen[torch.isfinite(seen) & (seen > _MASKED)]
    return second_moment(seen) if seen.numel() else None


def _attention_factors(layers: Mapping[str, LayerPlan], logits: Mapping[Op, float]) -> dict[str, torch.Tensor]:
    """Factors for the rows of weights that make queries and keys, for logits of second moment 1."""
    by_name = {op.name: (op, moment) for op, moment in logits.items() if moment > TINY}
    factors: dict[str, torch.Tensor] = {}
    for name, layer in layers.items():
        rows = max((stop for part in layer.slices for _, stop in part.rows), default=1)
        factor = torch.ones(rows)
        for part in layer.slices or (layer,):
            op, moment = by_name.get(part.path[-1], (None, 1.0)) if part.path else (None, 1.0)
            if op is None or part.reason != "attention" or part.normalised or 1 / NEAR < moment < NEAR:
                continue
            if not _is_query_or_key(op, part, layer):
                continue
            for start, stop in part.rows if isinstance(part, SlicePlan) else ((0, rows),):
                factor[start:stop] = moment**-0.25
        if bool((factor != 1).any()):
            factors[name] = factor
    return factors


def _is_query_or_key(op: Op, part: RowsPlan, layer: LayerPlan) -> bool:
    """Whether a part reaches the attention as query or key: for a written product it does, by being its operand."""
    if op.op != "scaled_dot_product_attention":
        return True
    before = part.path[-2] if len(part.path) > 1 else layer.uses[0] if layer.uses else ""
    value = op.operands.get("value")
    return value is None or value.name != before


def _replanned(layer: LayerPlan, solver: _Solver, ends: Mapping[str, float]) -> LayerPlan:
    """The layer's plan with the std found, or a note why there is none."""
    if layer.status != "planned":
        return layer
    if layer.param in solver.mirrored:
        return replace(layer, mirror=solver.mirrored[layer.param])
    found = solver.wanted.get(layer.param)
    if found is None or not found.stds:
        why = "no signal reaches it, or its operation has no rule: std by its nonlinearity"
        return replace(layer, note="; ".join(filter(None, (layer.note, why))))
    base = solver.fixed.get(layer.param, found.std)
    factor = solver.factors.get(layer.param, _WHOLE)
    parts = tuple(with_std(part, base * _of_rows(factor, part)) for part in layer.slices)
    std = base * float(factor.square().mean().sqrt())
    notes = [layer.note, f"input of second moment {found.moments[0] / layer.fan_in:.3g}"]
    if layer.param in ends:
        notes.append(f"ends a residual branch: std * {ends[layer.param]:.3g}")
    if len(found.stds) > 1:
        notes.append(f"geometric mean of {len(found.stds)} uses")
    whole: LayerPlan = with_std(layer, std)
    return replace(whole, slices=parts, note="; ".join(filter(None, notes)))


def _of_rows(factor: torch.Tensor, part: SlicePlan) -> float:
    if factor.numel() == 1:
        return float(factor)
    rows = torch.cat([factor[start:stop] for start, stop in part.rows])
    return float(rows.square().mean().sqrt())


def with_std(part: Any, std: float) -> Any:
    """A layer's or slice's plan with another std, written as a gain over fan_in."""
    return replace(part, std=std, mode="fan_in", gain=std * math.sqrt(part.fan_in))
