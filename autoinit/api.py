"""The public functions: composition of the stages, nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

import torch

from autoinit.methods.table import METHODS, complete
from autoinit.models import Model, ModelView
from autoinit.models.alone import StateDict, WeightsAlone, require_no_plan
from autoinit.ops import REGISTRY
from autoinit.planning.heads import with_heads
from autoinit.plans.options import PlanArguments, takes_plan_options
from autoinit.plans.plan import Plan, Report
from autoinit.recognising.alone import WeightsReport, weights_report
from autoinit.tensors.process_state import collector_paused, tensors_on_cpu
from autoinit.theory import gains
from autoinit.theory.activations import NONLINEARITIES
from autoinit.tracing.dataflow import Tier
from autoinit.tracing.tiers import trace_view
from autoinit.writing.applying import measure

if TYPE_CHECKING:
    from typing_extensions import Unpack


@takes_plan_options
def plan(model: Model, example_inputs: Any = None, **options: Unpack[PlanArguments]) -> Plan:
    """Plan every weight of a model. Changes nothing; needs no weights (a model on the meta device will do).

    Args:
        model: a module or a `torch.export.ExportedProgram`.
        example_inputs: a tensor, a tuple of arguments, a dict of keyword arguments, or a shape. Rarely needed.
        **options: those of `PlanOptions`.

    Returns:
        A mapping from layer name to `LayerPlan`, in the order of the dataflow.

    Raises:
        ArgumentError: an argument has no meaning, or a glob matches no layer.
        TraceError: the model could not be traced.
        LazyModuleError: the model has parameters without a shape.
    """
    started = time.perf_counter()
    chosen = complete(options)
    method = METHODS[chosen.method]
    view = ModelView.of(model)
    tier: Tier | None = "recorded" if method.needs_shapes and view.has_modules else None
    with collector_paused(), tensors_on_cpu():
        dataflow = trace_view(view, example_inputs, tier=tier)
        made = with_heads(method.plan(view, dataflow, chosen, example_inputs), dataflow, chosen.heads)
    return replace(made, seconds=time.perf_counter() - started)


@takes_plan_options
def autoinit(
    model: Model,
    example_inputs: Any = None,
    *,
    force: bool = False,
    verbose: bool = True,
    **options: Unpack[PlanArguments],
) -> Report:
    """Initialise a model in place and print what was done.

        >>> import torch.nn as nn
        >>> model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
        >>> report = autoinit(model, seed=0, verbose=False)
        >>> round(report.plan["0"].std, 4)  # sqrt(2 / 8): He, since a ReLU follows
        0.5

    Every weight gets the std that its place in the dataflow calls for; biases of these layers become zero; everything
    else stays. All or nothing.

    Args:
        model: the module to initialise.
        example_inputs: a tensor, a tuple of arguments, a dict of keyword arguments, or a shape. Rarely needed.
        **options: those of `PlanOptions`.
        force: write although the model looks trained.
        verbose: print the report.

    Returns:
        The report: the plan, and the statistics of each weight before and after.

    Raises:
        TraceError: the model could not be traced; nothing was written.
        TrainedModelError: the model looks trained; nothing was written.
        ArgumentError: an argument has no meaning; nothing was written.
    """
    chosen = complete(options)
    if METHODS[chosen.method].needs_seed and chosen.seed is None:  # the plan measures the values that will be written
        options["seed"] = int(torch.randint(2**63 - 1, (), dtype=torch.int64, device="cpu"))
    made = plan(model, example_inputs, **options)
    done = made.apply(model, options.get("seed"), force=force)
    if verbose:
        done.print()
    return done


@overload
def report(model: StateDict) -> WeightsReport: ...


@overload
def report(model: Model, example_inputs: Any = None, **options: Unpack[PlanArguments]) -> Report: ...


@takes_plan_options
def report(
    model: Model | StateDict, example_inputs: Any = None, **options: Unpack[PlanArguments]
) -> Report | WeightsReport:
    """What `autoinit` would do to a model, beside what its weights are now. Writes nothing.

    Args:
        model: a module or a `torch.export.ExportedProgram`; or a state dict, of which only the tensors themselves are
            reported.
        example_inputs: a tensor, a tuple of arguments, a dict of keyword arguments, or a shape. Rarely needed.
        **options: those of `PlanOptions`.

    Raises:
        ArgumentError: an argument has no meaning, or a glob matches no layer.
        TraceError: the model could not be traced.
        LazyModuleError: the model has parameters without a shape.
    """
    if isinstance(model, Mapping | WeightsAlone):
        weights = WeightsAlone.of(model)
        require_no_plan(weights, example_inputs=example_inputs, **options)
        return weights_report(weights)
    started = time.perf_counter()
    made = plan(model, example_inputs, **options)
    return Report(made, measure(made, ModelView.of(model)), seconds=time.perf_counter() - started)


def gain(
    nonlinearity: str | Callable[[torch.Tensor], torch.Tensor] | torch.nn.Module,
    params: Mapping[str, float] | None = None,
    **named: float,
) -> float:
    """The gain for a nonlinearity: 1 / sqrt(E[phi(z)^2]), z ~ N(0, 1), or the constant of the design's table.

        >>> round(gain("leaky_relu", negative_slope=0.2), 4)
        1.3868
        >>> round(gain(torch.nn.functional.silu), 4)
        1.6765

    Args:
        nonlinearity: torch.nn.functional's name, a registered operation's, or any elementwise function or module.
        params: its parameters.
        **named: the same by keyword.

    Raises:
        ArgumentError: the name is unknown, a parameter is unknown or out of range, or the function has no finite,
            positive second moment.
    """
    given = {**(params or {}), **named}
    if isinstance(nonlinearity, str):
        spec = REGISTRY.specs.get(nonlinearity)
        function = spec.function if spec is not None and nonlinearity not in NONLINEARITIES else None
        if function is None:
            return gains.gain(nonlinearity, given)
        return gains.gain(nonlinearity, None, lambda z: function(z, **given))
    phi = nonlinearity
    return gains.gain("custom", None, lambda z: phi(z, **given))
