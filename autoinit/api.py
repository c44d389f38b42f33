"""The public functions: composition of the stages, nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from autoinit.ops import REGISTRY
from autoinit.planning import Settings, globs, plan_dataflow
from autoinit.plans.plan import Distribution, Plan
from autoinit.plans.report import Report
from autoinit.tensors.surroundings import collector_paused
from autoinit.theory import gains
from autoinit.theory.activations import NONLINEARITIES
from autoinit.theory.gains import Mode
from autoinit.tracing import trace
from autoinit.tracing.tiers import Tier

if TYPE_CHECKING:
    from autoinit.parameters import Model


def plan(
    model: Model,
    example_inputs: Any = None,
    *,
    method: str = "nonlinearity",
    residual: str = "keep",
    mode: Mode | None = None,
    distribution: Distribution = "normal",
    only: str | Sequence[str] = (),
    skip: str | Sequence[str] = (),
    zeros: str = "keep",
    seed: int | None = None,
) -> Plan:
    """Plan every weight of a model. Changes nothing; needs no weights (a model on the meta device will do).

    Args:
        model: a module or a `torch.export.ExportedProgram`.
        example_inputs: a tensor, a tuple of arguments, a dict of keyword arguments, or a shape. Rarely needed.
        method: `nonlinearity`: each std from what its weight feeds. `signal`: such that the predicted second moment
            of each pre-activation is 1. `data`: such that on `example_inputs` its variance is 1.
        residual: `depth` scales the last weight of each of the L branches that add into one residual stream by
            1 / sqrt(L); `keep` does not.
        mode: `fan_in`, `fan_out` or `fan_avg` for every layer, in place of fan_in for He and fan_avg for Xavier.
        distribution: `normal`, `uniform`, `truncated_normal` or `orthogonal`.
        only: globs of layer names; others are skipped.
        skip: globs of layer names to leave alone.
        zeros: `keep` leaves weights that are exactly zero as the author's intent; `reset` plans them too.
        seed: for `data`: of the values that the stds are measured with; exact for the same seed in `Plan.apply`. For
            `signal`: of the surrogates. 0 if None.

    Returns:
        A mapping from layer name to `LayerPlan`, in the order of the dataflow.

    Raises:
        ArgumentError: an argument has no meaning, or a glob matches no layer.
        TraceError: the model could not be traced.
        LazyModuleError: the model has parameters without a shape.
    """
    started = time.perf_counter()
    settings = Settings(method, residual, mode, distribution, globs(only), globs(skip), zeros)
    with collector_paused():
        made = _planned(model, example_inputs, settings, seed or 0)
    return replace(made, seconds=time.perf_counter() - started)


def _planned(model: Model, example_inputs: Any, settings: Settings, seed: int) -> Plan:
    if settings.method == "nonlinearity":
        return plan_dataflow(trace(model, example_inputs), model, settings)
    tier: Tier | None = "recorded" if isinstance(model, torch.nn.Module) else None  # the others know no shapes
    dataflow = trace(model, example_inputs, tier=tier)
    if settings.method == "signal":
        from autoinit.methods.signal import plan_by_signal

        return plan_by_signal(model, dataflow, settings, example_inputs, seed=seed)
    from autoinit.methods.data import plan_by_data

    return plan_by_data(model, dataflow, settings, example_inputs, seed=seed)


def autoinit(
    model: Model,
    example_inputs: Any = None,
    *,
    method: str = "nonlinearity",
    residual: str = "keep",
    mode: Mode | None = None,
    distribution: Distribution = "normal",
    only: str | Sequence[str] = (),
    skip: str | Sequence[str] = (),
    zeros: str = "keep",
    seed: int | None = None,
    force: bool = False,
    verbose: bool = True,
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
        method: see `plan`, as for the next six.
        residual: `keep` or `depth`.
        mode: `fan_in`, `fan_out` or `fan_avg` for every layer.
        distribution: `normal`, `uniform`, `truncated_normal` or `orthogonal`.
        only: globs of layer names; others are skipped.
        skip: globs of layer names to leave alone.
        zeros: `keep` or `reset` weights that are exactly zero.
        seed: the values are a function of (seed, parameter name, shape) alone. None takes a seed from torch's default
            generator, so that `torch.manual_seed` rules.
        force: write although the model looks trained.
        verbose: print the report.

    Returns:
        The report: the plan, and the statistics of each weight before and after.

    Raises:
        TraceError: the model could not be traced; nothing was written.
        TrainedModelError: the model looks trained; nothing was written.
        ArgumentError: an argument has no meaning; nothing was written.
    """
    if method == "data" and seed is None:  # the plan measures the very values that will be written
        seed = int(torch.randint(2**63 - 1, (), dtype=torch.int64))
    made = plan(
        model,
        example_inputs,
        method=method,
        residual=residual,
        mode=mode,
        distribution=distribution,
        only=only,
        skip=skip,
        zeros=zeros,
        seed=seed,
    )
    done = made.apply(model, seed, force=force)
    if verbose:
        done.print()
    return done


def report(
    model: Model,
    example_inputs: Any = None,
    *,
    method: str = "nonlinearity",
    residual: str = "keep",
    mode: Mode | None = None,
    distribution: Distribution = "normal",
    only: str | Sequence[str] = (),
    skip: str | Sequence[str] = (),
    zeros: str = "keep",
) -> Report:
    """What `autoinit` would do to a model, beside what its weights are now. Writes nothing.

    Arguments and errors are those of `plan`.
    """
    from autoinit.writing.applying import measure

    started = time.perf_counter()
    made = plan(
        model,
        example_inputs,
        method=method,
        residual=residual,
        mode=mode,
        distribution=distribution,
        only=only,
        skip=skip,
        zeros=zeros,
    )
    return Report(made, measure(made, model), seconds=time.perf_counter() - started)


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
