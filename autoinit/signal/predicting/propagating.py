"""`propagate`: the signal that a model's operations make of random inputs, from the stds of its weights alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import NoneType
from typing import Any

import torch

from autoinit.errors import ArgumentError
from autoinit.errors.arguments import refusal, require
from autoinit.models import Model, ModelView
from autoinit.ops import Role, Trait
from autoinit.planning import plan_dataflow
from autoinit.plans.options import PlanOptions
from autoinit.plans.plan import Plan
from autoinit.signal._metering import Meter, merged, number_of_draws, rows
from autoinit.signal._samples import sample_axis
from autoinit.signal.batches import ids_are_free, notes_on_ids
from autoinit.signal.predicting._fewer_features import ATTENTION, Fewer, fewer_features
from autoinit.signal.predicting._fewer_heads import attended
from autoinit.signal.predicting._rowless import notes_on_rowless
from autoinit.signal.predicting._saving import saved_short
from autoinit.signal.predicting._stand_ins import Values
from autoinit.signal.predicting._weighing import Choose, Weighing
from autoinit.signal.predicting.fields import TINY, Covariance, draw
from autoinit.signal.predicting.replaying import Runner
from autoinit.signal.report import OperationSignal, SignalReport, SignalRow
from autoinit.tensors.process_state import tensors_on_cpu
from autoinit.tracing.dataflow import Dataflow, Op
from autoinit.tracing.flow import flow_of
from autoinit.tracing.inputs import given_inputs
from autoinit.tracing.rng import as_torch_takes, untouched_generators
from autoinit.tracing.tiers import trace_view


@dataclass(frozen=True)
class InputSignal:
    """Statistics of floating-point inputs: second moment, covariances of positions and of samples, about zero."""

    q: float = 1.0
    p: float = 0.0
    s: float = 0.0


def propagate(
    subject: Model | Plan,
    example_inputs: Any = None,
    *,
    model: Model | None = None,
    inputs: InputSignal | None = None,
    backward: bool = True,
    seeds: int = 1,
    seed: int = 0,
) -> SignalReport:
    """Predict the moments of every operation's output and gradient. Needs no data and no weights.

    Args:
        subject: a model, whose weights' present second moments are taken (on the meta device: those planned); or a
            plan, whose stds are taken, biases being zero. A plan holds no graph: pass its model as well.
        example_inputs: as for `plan`; only shapes and integers matter. Ids on the meta device are different tokens.
        model: the model of a plan.
        inputs: statistics of floating-point inputs; N(0, 1), independent, by default.
        backward: whether to predict gradients, too.
        seeds: average over so many draws of the surrogates: narrow layers are then predicted more closely.
        seed: of the first draw; the next ones follow.

    Raises:
        ArgumentError: a plan without its model, an input without elements, or seeds is not from 1 to 1000.
        TraceError: the model could not be traced.
    """
    started = time.perf_counter()
    made = subject if isinstance(subject, Plan) else None
    if isinstance(subject, Plan):
        if model is None:
            raise ArgumentError("propagate(plan) needs the model that was planned: propagate(plan, model=model)")
    else:
        model = subject
    if model is None:
        raise refusal("model", model, "a torch.nn.Module, an ExportedProgram or a Plan")
    require("inputs", inputs, (InputSignal, NoneType), "an InputSignal")
    require("backward", backward, bool, "True or False")
    require("seed", seed, int, "a whole number")
    draws = number_of_draws(seeds)
    view = ModelView.of(model, gathered=True)
    dataflow = trace_view(view, example_inputs, tier="recorded" if view.has_modules else None)
    require_elements(dataflow)
    with tensors_on_cpu():
        if made is None and _on_meta(view):
            made = plan_dataflow(dataflow, view, PlanOptions())
        propagation = Propagation(dataflow, view, made, inputs or InputSignal(), given=example_inputs, seed=seed)
        return propagation.report(backward=backward, started=started, seeds=draws)


LARGE = 1 << 29
"""Bytes of surrogates from which on backward keeps them with three digits, in half the memory."""


def _saving(dataflow: Dataflow, fewer: Fewer | None) -> AbstractContextManager[Any]:
    some = fewer.shapes if fewer else {}
    elements = sum(math.prod(some.get(op, op.shape or (0,))) for op in dataflow.graph.nodes if op.signal)
    if elements * 4 < LARGE:
        return nullcontext()
    return saved_short()


def _on_meta(view: ModelView) -> bool:
    return view.has_modules and all(each.is_meta for each in view.parameters.values())


class Propagation:
    """One propagation of a traced model."""

    def __init__(
        self, dataflow: Dataflow, view: ModelView, plan: Plan | None, inputs: InputSignal, *, given: Any, seed: int
    ) -> None:
        self.dataflow, self.view, self.plan, self.inputs, self.given = dataflow, view, plan, inputs, given
        self.generator = torch.Generator().manual_seed(as_torch_takes(seed))
        self.seed = seed
        self.values = Values(view, dataflow, plan, self.generator)
        self.sample_axis = sample_axis(dataflow, view)
        self.samples = _samples(dataflow, self.sample_axis)

    def run(
        self,
        choose: Choose,
        *,
        backward: bool,
        watch: Callable[[Op, Runner], None] | None = None,
        fewer: Fewer | None = None,
    ) -> tuple[Meter, Runner, list[torch.Tensor]]:
        """Run the operations on surrogates.

        choose: may set a weight's std when its input is known. watch: is report_of of each operation that is done.
        fewer: what is enough to be drawn of wide layers; then nor is all attention run.
        """
        meter = Meter(self.samples, backward=backward, sample_axis=self.sample_axis)
        weighing = Weighing(
            self.dataflow,
            self.samples,
            self.generator,
            meter,
            choose,
            fresh=ids_are_free(self.given),
            fewer=fewer.shapes if fewer else {},
        )
        instead = fewer.rules() | {op: attended for op in self.dataflow.graph if op.op == ATTENTION} if fewer else {}
        with untouched_generators(), tensors_on_cpu(), torch.set_grad_enabled(backward), _saving(self.dataflow, fewer):
            torch.manual_seed(as_torch_takes(self.seed))
            runner = Runner(
                self.dataflow, self.values, self._inputs(backward), weighing, meter.see, watch,
                instead=instead,
            )  # fmt: skip
            outputs = runner.run()
            if backward:
                self._backward(outputs)
        return meter, runner, outputs

    def _inputs(self, backward: bool) -> dict[str, Any]:
        types = {node.name: node.meta.get("dtype") for node in self.dataflow.fx.nodes if node.op == "placeholder"}
        given = _named(self.given, self.view)
        made: dict[str, Any] = {}
        for op in self.dataflow.graph.nodes:
            if op.op == "input":
                made[op.name] = self._input(op, types.get(op.name) or torch.float32, given.get(op.name), backward)
        return made

    def _input(self, op: Op, dtype: torch.dtype, given: torch.Tensor | None, backward: bool) -> torch.Tensor:
        shape = op.shape or ()
        if not dtype.is_floating_point:
            if given is not None and not given.is_meta and given.shape == shape:
                return given.detach().cpu()
            return torch.ones(shape, dtype=dtype) if "mask" in op.name else torch.zeros(shape, dtype=dtype)
        if len(shape) < 2:
            values = torch.empty(shape).normal_(generator=self.generator)
        else:
            features = _features_of(op, self.dataflow)
            view, axes = rows(torch.empty(shape), features, self.samples, self.sample_axis)
            wanted = Covariance(self.inputs.q, self.inputs.p, self.inputs.s, self.inputs.s)
            values = draw(view.shape, axes, wanted, self.generator).reshape(shape)
        return values.to(dtype).requires_grad_(backward)

    def _backward(self, outputs: list[torch.Tensor]) -> None:
        ends = [each for each in outputs if each.requires_grad and each.is_floating_point()]
        if ends:
            torch.autograd.backward(ends, [self._noise(each) for each in ends])

    def _noise(self, like: torch.Tensor) -> torch.Tensor:
        """A gradient for an output: normal, its second moment 1 exactly."""
        noise = torch.empty(like.shape).normal_(generator=self.generator)
        return noise.div_(noise.square().mean().sqrt().clamp_min_(TINY)).to(like.dtype)

    def notes_on_inputs(self) -> tuple[str, ...]:
        """What to say of the inputs that a caller gave."""
        if not self.view.has_modules or ids_are_free(self.given):
            return ()
        return notes_on_ids(given_inputs(self.given, self.view.module), self.dataflow)

    def again(self, seed: int) -> Propagation:
        """The same with other surrogates."""
        return Propagation(self.dataflow, self.view, self.plan, self.inputs, given=self.given, seed=seed)

    def report(
        self,
        *,
        backward: bool,
        started: float,
        seeds: int = 1,
        layers: Plan | None = None,
        most: int | None = None,
    ) -> SignalReport:
        """Propagate, with so many draws of the surrogates, and tell.

        layers: a plan of the dataflow by which weights are named, where there is one. most: see `fewer_features`.
        """
        fewer = fewer_features(self.dataflow, self.values.has_pairs, most)
        meter, runner, _ = self.run(lambda *_: None, backward=backward, fewer=fewer)
        others = [
            self.again(self.seed + more).run(lambda *_: None, backward=backward, fewer=fewer)[0]
            for more in range(1, seeds)
        ]
        self.values.notes.update(dict.fromkeys((*self.notes_on_inputs(), *fewer.notes())))
        return report_of("predicted", self.view, self.dataflow, merged([meter, *others]), runner, started, layers)


def _features_of(op: Op, dataflow: Dataflow) -> int:
    """The axis of an input's features: what the first weight behind it takes them to be; else the second axis."""
    seen, waiting = {op}, [op]
    for here in waiting:
        use = next((use for use in here.params if use.layout is not None), None)
        if use is not None and use.layout is not None:
            return 1 if "k" in use.layout.axes else -2 if use.slot == "input" else -1
        behind = [each for each in dataflow.graph.successors(here) if each not in seen]
        seen.update(behind)
        waiting += behind
    return 1


def _named(given: Any, view: ModelView) -> dict[str, torch.Tensor]:
    """Tensors among the inputs that a caller gives, by the names that the recorder has for them."""
    if given is None or not view.has_modules:
        return {}
    inputs = given_inputs(given, view.module)
    named = {f"arg{position}": value for position, value in enumerate(inputs.args)} | dict(inputs.kwargs)
    return dict(_flat(named))


def _flat(named: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in named.items():
        if isinstance(value, torch.Tensor):
            yield name, value
        elif isinstance(value, Mapping):
            yield from _flat({f"{name}_{key}": item for key, item in value.items()})
        elif isinstance(value, (list, tuple)):
            yield from _flat({f"{name}_{position}": item for position, item in enumerate(value)})


def _samples(dataflow: Dataflow, axis: int) -> int:
    """Samples in a batch: an axis of the first input."""
    shape = next((op.shape for op in dataflow.graph.nodes if op.op == "input" and op.shape), None)
    return shape[axis] if shape else 1


def require_elements(dataflow: Dataflow) -> None:
    """Refuse inputs that no moments can be drawn for.

    Raises:
        ArgumentError: an input has no elements, as an empty batch has none.
    """
    for op in dataflow.graph.nodes:
        if op.op == "input" and op.shape is not None and 0 in op.shape:
            raise ArgumentError(
                f"example_inputs: {op.name} has shape {tuple(op.shape)}: expected at least one element, for there are "
                f"no moments of none"
            )


def report_of(
    kind: str,
    view: ModelView,
    dataflow: Dataflow,
    meter: Meter,
    runner: Runner | None,
    started: float,
    layers: Plan | None = None,
) -> SignalReport:
    """The report of what a meter has taken; `layers` names the weights, where the dataflow has been planned."""
    plan = plan_dataflow(dataflow, view, PlanOptions()) if layers is None else layers
    names = {layer.param: layer.name for layer in plan.layers}
    failed: Mapping[Op, str] = runner.failed if runner is not None else {}
    notes = list(runner.values.notes) if runner is not None else []
    notes += [f"{op.name}: {why}" for op, why in failed.items() if why]
    notes += notes_on_rowless(names, meter, dataflow, failed)
    rows_by_layer = {
        names[param]: SignalRow.average([each.row() for each in taken])
        for param, taken in meter.layers.items()
        if param in names
    }
    ordered = {layer.name: rows_by_layer[layer.name] for layer in plan.layers if layer.name in rows_by_layer}
    operations = tuple(_operations(dataflow, meter, names, failed))
    by_name = {each.name: each.row for each in operations}
    sink = next((op for op in dataflow.graph.nodes if op.op == "output"), None)
    ends = dataflow.graph.predecessors(sink) if sink is not None else ()
    outputs = tuple(row for op in ends if (row := by_name.get(op.name)) is not None)
    said = (*dataflow.notes, *notes)
    seconds = time.perf_counter() - started
    return SignalReport(kind, plan.model, ordered, operations, outputs, said, seconds, flow_of(dataflow))


def _sums(dataflow: Dataflow) -> set[Op]:
    """Additions of what different layers, inputs or such sums have made; no step of an activation or of a rotation."""
    found: set[Op] = set()
    behind: dict[Op, frozenset[Op]] = {}
    for op in dataflow.graph.nodes:
        parts = [behind[each] for each in op.operands.values() if each.signal]
        if op.role is Role.ADD and (len(parts) < 2 or len(set(parts)) > 1):
            found.add(op)
        starts = op in found or op.role is Role.WEIGHT or op.op == "input" or Trait.LOOKUP in op.traits
        behind[op] = frozenset({op}) if starts else frozenset().union(*parts)
    return found


def _operations(
    dataflow: Dataflow, meter: Meter, names: Mapping[str, str], failed: Mapping[Op, str]
) -> list[OperationSignal]:
    depths: dict[Op, int] = {}
    sums = _sums(dataflow)
    found = []
    for op in dataflow.graph.nodes:
        depths[op] = max((depths[each] for each in op.operands.values()), default=0) + (op.role is Role.WEIGHT)
        if not op.signal or op.op == "output":
            continue
        taken = meter.operations.get(op)
        weights = [names[use.name] for use in op.params if use.layout is not None and use.name in names]
        layer = weights[0] if len(weights) == 1 and op.role is Role.WEIGHT else ""
        found.append(
            OperationSignal(
                op.name, op.op, str(op.role.value), op.module, depths[op], layer, op in sums,
                taken.row() if taken is not None else None, failed.get(op, ""), tuple(weights),
            )
        )  # fmt: skip
    return found
