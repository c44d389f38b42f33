"""`measure`: the signal of a model as it is, from real forwards and backwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from autoinit.errors import ArgumentError, AutoinitError
from autoinit.errors.arguments import require
from autoinit.models import ModelView
from autoinit.ops import Trait
from autoinit.signal._metering import Meter, gradient_moment, merged, number_of_draws
from autoinit.signal._recurrent import NO_STATE, is_recurrent, written_out
from autoinit.signal._samples import sample_axis
from autoinit.signal.batches import Batch, first_success, mapped, require_values, stream
from autoinit.signal.measuring.matched_forward import Follower, Projection
from autoinit.signal.predicting.propagating import report_of
from autoinit.signal.report import SignalReport
from autoinit.tensors.process_state import silenced, tensors_on_cpu
from autoinit.tensors.progress import counted
from autoinit.tracing.attempts import FailedError, notes_on, record
from autoinit.tracing.building import build
from autoinit.tracing.dataflow import Dataflow, Op
from autoinit.tracing.expanding import expand
from autoinit.tracing.guarding import undisturbed
from autoinit.tracing.inputs import Inputs
from autoinit.tracing.rng import untouched_generators
from autoinit.tracing.shadow import Shadow, make_shadow


def measure(
    model: nn.Module, example_inputs: Any = None, *, backward: bool = True, seeds: int = 1, seed: int = 0
) -> SignalReport:
    """Measure the moments of every operation's output and gradient, with the weights that the model has.

    The model is copied to the CPU and run there as in training: dropout active, norms with the statistics of the
    batch. The original is not touched. Needs a copy of the weights, and memory for one forward and backward. The
    user's hooks are not run.

    Args:
        model: a module whose weights have values.
        example_inputs: as for `plan`. Tensors are taken as they are; a shape stands for N(0, 1) numbers, a tensor on
            the meta device for numbers, or for random ids of its shape; None for the guess that tracing makes, with
            N(0, 1) numbers, and random ids where all would be alike.
        backward: whether to measure gradients, too: of the sum of output * e over all floating-point outputs,
            e ~ N(0, 1).
        seeds: average over so many draws of made-up inputs, dropout and e. The weights are the model's own in each;
            for an average over weights, initialise and measure again.
        seed: of the first draw; the next ones follow.

    Raises:
        ArgumentError: seeds is not from 1 to 1000, or the model has no values to measure.
        TraceError: the model could not be run.
        LazyModuleError: the model has parameters without a shape.
    """
    require("backward", backward, bool, "True or False")
    require("seed", seed, int, "a whole number")
    number_of_draws(seeds)
    started = time.perf_counter()
    view = ModelView.of(model)
    _check(view)
    with tensors_on_cpu(), untouched_generators(), silenced():
        dataflow, meters = _Measurement(view, backward=backward).run(example_inputs, range(seed, seed + seeds))
    with tensors_on_cpu():
        return report_of("measured", view, dataflow, merged(meters), None, started)


def _check(view: ModelView) -> None:
    if not view.has_modules:
        raise ArgumentError(f"model is a {view.class_name}: measure runs a torch.nn.Module")
    require_values(view, "measure runs the model", "propagate(model), which needs none")


class _Taker(Follower):
    """Hands results to a meter."""

    def __init__(
        self, shadow: Shadow, values: Mapping[str, torch.Tensor], dataflow: Dataflow | None, meter: Meter
    ) -> None:
        super().__init__(shadow, values, dataflow)
        self.meter = meter

    def met(self, op: Op, result: torch.Tensor) -> None:
        self.meter.see(op, result)

    def met_several(self, op: Op, results: Any) -> None:
        self.meter.see(op, results)

    def _wrap_forwards(self) -> None:
        for module in self.module.modules():
            if is_recurrent(module):
                module.__dict__["forward"] = self._stepping(module)
        super()._wrap_forwards()

    def _stepping(self, module: nn.Module) -> Callable[..., Any]:
        """The forward of a recurrent module, written out where it is the operation that is expected."""

        def forward(*args: Any, **kwargs: Any) -> Any:
            op = self.expected
            if op is None or Trait.RECURRENT not in op.traits or not op.is_module:
                return type(module).forward(module, *args, **kwargs)
            uses = {use.slot: use.name for use in op.params}

            def seen(slot: str, made: Sequence[torch.Tensor]) -> None:
                self.meter.see_steps(uses[slot], made, NO_STATE)

            return written_out(module, seen)(*args, **kwargs)

        return forward

    def projected(self, projection: Projection) -> torch.Tensor:
        made = projection()
        # Parts of a fused projection that are computed together are report_of one by one, so that each counts alike.
        step = projection.use.shape[1] if projection.use.slot == "in_proj_weight" else made.shape[-1]
        for start in range(0, made.shape[-1], step):
            self._take_piece(projection, made, start, start + step)
        return made

    def _take_piece(self, projection: Projection, made: torch.Tensor, start: int, stop: int) -> None:
        part = made.detach()[..., start:stop]
        samples = self.meter.samples
        if part.dim() == 2 and part.shape[0] % samples == 0:  # tokens * batch, rows
            part = part.reshape(-1, samples, part.shape[1])
        if part.dim() == 3 and self.meter.sample_axis == 0:  # tokens, batch, rows
            part = part.transpose(0, 1)
        taken = self.meter.take(part, -1)
        self.meter.layers.setdefault(projection.use.name, []).append(taken)
        if made.requires_grad:

            def take(grad: torch.Tensor | None) -> None:
                taken.grads.append(gradient_moment(grad[..., start:stop] if grad is not None else None))

            made.register_hook(take)  # type: ignore[no-untyped-call]


class _Measurement:
    """The runs of one `measure`."""

    def __init__(self, view: ModelView, *, backward: bool) -> None:
        self.view, self.backward = view, backward

    def run(self, example: Any, seeds: range) -> tuple[Dataflow, list[Meter]]:
        """A dataflow, and what was taken of it in each draw."""

        def attempt(inputs: Inputs, training: bool, traced: bool) -> tuple[Dataflow, list[Meter]]:
            return self._drawn(inputs, example, training, traced, seeds)

        return first_success(self.view, example, attempt, "measured")

    def _drawn(
        self, inputs: Inputs, example: Any, training: bool, traced: bool, seeds: range
    ) -> tuple[Dataflow, list[Meter]]:
        with torch.no_grad():
            dataflow = record(self.view, training, inputs) if traced else None
        batch = Batch.of(inputs, example, dataflow)
        try:
            return self._taken(batch, dataflow, training, seeds)
        except FailedError:
            if not batch.tables:
                raise
        return self._taken(batch.plain(), dataflow, training, seeds)

    def _taken(
        self, batch: Batch, dataflow: Dataflow | None, training: bool, seeds: range
    ) -> tuple[Dataflow, list[Meter]]:
        meters: list[Meter] = []
        departures: list[str] = []
        advance = counted(len(seeds))
        for seed in seeds:
            taker = self._once(batch, dataflow, training, seed)
            if dataflow is None or (taker.left and not meters):  # what really runs is not what was traced
                dataflow = self._read(taker, batch.inputs, training)
                taker = self._once(batch, dataflow, training, seed)
            if taker.left:
                departures.append(
                    f"draw {seed} leaves the traced path at {taker.left}; what follows is not measured there"
                )
            meters.append(taker.meter)
            advance(1)
        assert dataflow is not None
        return replace(dataflow, notes=(*dataflow.notes, *batch.notes, *departures)), meters

    def _read(self, taker: _Taker, inputs: Inputs, training: bool) -> Dataflow:
        graph = expand(taker.graph, taker.module)
        origin = () if inputs.origin == "given" else (f"input {inputs.origin}",)
        return build(graph, taker.module, "recorded", notes_on(origin, training), values=self.view.tensors)

    def _once(self, batch: Batch, dataflow: Dataflow | None, training: bool, seed: int) -> _Taker:
        """One forward, and one backward, of a fresh copy."""
        generator = stream(seed)
        shadow = make_shadow(self.view.module, "cpu")
        for module in shadow.module.modules():
            module.training = training
        args, kwargs = batch.drawn(generator)
        if self.backward:
            args, kwargs = mapped(args, _differentiable), mapped(kwargs, _differentiable)
            for parameter in shadow.module.parameters():
                parameter.requires_grad_(parameter.is_floating_point())
        axis = sample_axis(dataflow, self.view) if dataflow is not None else 0
        meter = Meter(_samples(args, kwargs, axis), backward=self.backward, sample_axis=axis)
        taker = _Taker(shadow, self.view.tensors, dataflow, meter)
        with undisturbed(shadow), torch.set_grad_enabled(self.backward):
            taker.forward((args, kwargs), seed, batch.inputs.origin)
            if self.backward and dataflow is not None:
                with untouched_generators(seed):  # checkpoints run forward again
                    _differentiate(taker.outputs(), generator, batch.inputs.origin)
        return taker


def _samples(args: tuple[Any, ...], kwargs: Mapping[str, Any], axis: int) -> int:
    """Samples in a batch: an axis of the first input."""
    sizes: list[int] = []

    def look(tensor: torch.Tensor) -> torch.Tensor:
        sizes.extend(tensor.shape[axis : axis + 1])
        return tensor

    mapped((args, dict(kwargs)), look)
    return sizes[0] if sizes else 1


def _differentiable(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor with a gradient; no leaf, so that the model may write to it."""
    return tensor.requires_grad_().clone() if tensor.is_floating_point() else tensor


def _differentiate(outputs: Sequence[torch.Tensor], generator: torch.Generator, origin: str) -> None:
    ends = [each for each in outputs if each.requires_grad and each.is_floating_point()]
    noise = [torch.empty(each.shape).normal_(generator=generator).to(each.dtype) for each in ends]
    if not ends:
        return
    try:
        torch.autograd.backward(ends, noise)
    except AutoinitError:
        raise
    except Exception as error:
        raise FailedError(f"backward (backward=False leaves it out), input {origin}", error) from error
