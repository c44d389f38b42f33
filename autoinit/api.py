"""The public functions: composition of the stages, nothing else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import NoneType
from typing import TYPE_CHECKING, Any, overload

import torch

from autoinit.comparing import trainings
from autoinit.comparing.comparison import Comparison
from autoinit.comparing.trials import Course, Score, Train, Write
from autoinit.errors import ArgumentError, words_of
from autoinit.errors.arguments import all_of, real, refusal, require, require_call, texts
from autoinit.methods.table import METHODS, complete
from autoinit.models import Model, ModelView
from autoinit.models.alone import StateDict, WeightsAlone, require_no_plan
from autoinit.models.wrappers import resharded
from autoinit.ops import REGISTRY
from autoinit.planning.heads import with_heads
from autoinit.plans.how import How
from autoinit.plans.options import PlanArguments, PlanOptions, takes_plan_options
from autoinit.plans.plan import Plan, Report
from autoinit.presets.choosing import advised, choose
from autoinit.recognising.alone import WeightsReport, weights_report
from autoinit.tensors.process_state import collector_paused, tensors_on_cpu
from autoinit.theory import gains
from autoinit.theory.activations import NONLINEARITIES
from autoinit.tracing.dataflow import Tier
from autoinit.tracing.rng import untouched_generators
from autoinit.tracing.tiers import trace_view
from autoinit.writing.applying import applied, measure

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
    chosen = complete(options)
    return _planned_by(options, chosen, ModelView.of(model), example_inputs)


def _planned_by(options: PlanArguments, chosen: PlanOptions, view: ModelView, example_inputs: Any) -> Plan:
    """The plan by a caller's options; `chosen` are the same and the defaults."""
    started = time.perf_counter()
    with collector_paused(), tensors_on_cpu():
        if chosen.preset == "none":
            made = _planned(view, chosen, example_inputs)
        else:
            choice = choose(options, trace_view(view, example_inputs), view)
            made = choice.noted_in(_planned(view, choice.options, example_inputs))
    return replace(made, seconds=time.perf_counter() - started)


def _planned(view: ModelView, options: PlanOptions, example_inputs: Any) -> Plan:
    """The plan by options in which nothing is left open."""
    method = METHODS[options.method]
    tier: Tier | None = "recorded" if method.needs_shapes and view.has_modules else None
    dataflow = trace_view(view, example_inputs, tier=tier)
    made = with_heads(method.plan(view, dataflow, options, example_inputs), dataflow, options.heads)
    return advised(made, dataflow) if options.preset == "none" else made


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
    require("verbose", verbose, bool, "True or False")
    chosen = complete(options)
    shared = METHODS[chosen.method].needs_seed or chosen.preset != "none"
    if shared and chosen.seed is None:  # the plan measures the values that will be written
        options["seed"] = int(torch.randint(2**63 - 1, (), dtype=torch.int64, device="cpu"))
        chosen = complete(options)
    with collector_paused():
        view = ModelView.of(model)
        made = _planned_by(options, chosen, view, example_inputs)
        view = ModelView.of(model) if resharded(model) else view
        done = applied(made, view, options.get("seed"), How(force=force))
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


STARTS: Mapping[str, Mapping[str, Any]] = {
    "library": {},
    "he": {"recipe": "kaiming"},
    "xavier": {"recipe": "xavier"},
    "autoinit": {"method": "nonlinearity"},
    "depth": {"residual": "depth"},
    "signal": {"method": "signal"},
    "mirrored": {"method": "mirrored"},
    "preset": {"preset": "train"},
}
"""Options of `autoinit` by the names that `compare` knows; with none, the model stays as it was made."""


def compare(
    make_model: Callable[[], torch.nn.Module],
    train: Train,
    starts: Sequence[str] | Mapping[str, Mapping[str, Any] | Callable[[torch.nn.Module], object]] = (
        "library", "he", "xavier", "autoinit", "preset",
    ),
    *,
    lrs: Sequence[float] = (3e-4, 1e-3, 3e-3),
    steps: int = 200,
    seeds: int = 3,
    score: Score | None = None,
    give_up: float = 100.0,
    limit: float = math.inf,
    example_inputs: Any = None,
) -> Comparison:  # fmt: skip
    """Train a model for a short while from several starts, by your own training loop, and say which start is best.

        >>> def train(model, lr):
        ...     optimizer = torch.optim.SGD(model.parameters(), lr)
        ...     while True:
        ...         x = torch.randn(32, 4)
        ...         loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        ...         optimizer.zero_grad()
        ...         loss.backward()
        ...         optimizer.step()
        ...         yield loss
        >>> result = compare(lambda: torch.nn.Linear(4, 1), train, lrs=[0.1], steps=20)
        >>> sorted(result.curves)
        ['autoinit', 'he', 'library', 'preset', 'xavier']

    A loop is a generator: what it keeps, be it two optimizers, a schedule or a replay buffer, are its own variables.
    The first seed is trained at every learning rate, the others at the two that were best of each start. Starts that
    come to the same numbers share their trainings. A training whose loss is not finite, or too large, is given up.

    The same arguments give the same result on one machine. Random numbers of torch, numpy and Python follow from the
    seed, batches too, and go on afterwards as if nothing had been. Only models that `make_model` builds are trained.

    Args:
        make_model: builds the model, as its constructor starts it.
        train: a generator function of the model and a learning rate, which yields the loss of each step.
        starts: names of `library` (the model as built), `he`, `xavier`, `autoinit`, `preset` (preset="train"), `depth`
            (residual="depth"), `signal` and `mirrored`; or, by names of your own, options of `autoinit` or functions
            that write a model.
        lrs: the learning rates, the same for every start.
        steps: of each training; a loop that ends before ends its training.
        seeds: how many, 0 and up.
        score: of a trained model, in evaluation mode and without gradients; lower is better. Without, the mean of the
            last tenth of the losses.
        give_up: a training ends where its loss is so many times that of its first step, or of 1 if that is more.
        limit: seconds after which a training is given up.
        example_inputs: as for `autoinit`.

    Raises:
        ArgumentError: an argument has no meaning, or `train` yields no losses.
        TraceError: the model could not be traced.
        CallbackError: `make_model`, `train`, `score` or a start of yours failed.
    """
    if isinstance(make_model, torch.nn.Module):
        raise refusal("make_model", make_model, "a function that builds the model, since each training needs a new one")
    for name, value in (("make_model", make_model), ("train", train), ("score", score)):
        if not callable(value) and not (name == "score" and value is None):
            raise refusal(name, value, "a function")
    require_call("make_model", make_model)
    require_call("train", train, None, 0.1)
    rates = tuple(sorted(set(all_of("lrs", lrs, (int, float), "learning rates, such as [1e-3, 3e-3]"))))
    if not rates or not all(0 < rate < math.inf for rate in rates):
        raise refusal("lrs", lrs, "learning rates above 0, such as [1e-3, 3e-3]")
    for name, most, expected in (("give_up", give_up, "a factor, such as 100.0"), ("limit", limit, "seconds")):
        if not real(name, most, expected) >= 0:
            raise refusal(name, most, expected)
    for name, number, top in (("steps", steps, 10**9), ("seeds", seeds, 1000)):
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= top:
            raise refusal(name, number, f"a number, 1 at least and {top:,} at most")
    course = Course(make_model, train, steps, score, real("give_up", give_up), real("limit", limit))
    return trainings.run(course, _written(starts, example_inputs), rates, seeds)


def _written(starts: Any, example_inputs: Any) -> dict[str, Write]:
    """What writes each of the starts of a comparison."""
    if not isinstance(starts, Mapping):
        named = texts("starts", starts)
        unknown = [each for each in named if each not in STARTS]
        if unknown:
            raise ArgumentError(f"starts: no {unknown[0]!r}; expected some of {', '.join(STARTS)}, or a mapping")
        starts = {each: STARTS[each] for each in named}
    if not starts:
        raise refusal("starts", starts, "one start at least")

    def writing(options: Any) -> Write:
        if callable(options):
            return lambda model, _: options(model)
        if not isinstance(options, Mapping):
            raise refusal("starts", options, "options of `autoinit`, or a function of the model, for each name")
        if not options:
            return lambda *_: None
        return lambda model, seed: autoinit(
            model, example_inputs, **{"seed": seed, **options}, force=True, verbose=False
        )

    return {name: writing(options) for name, options in starts.items()}


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
    require("params", params, (Mapping, NoneType), "a mapping from names to numbers")
    given = {**(params or {}), **named}
    if isinstance(nonlinearity, str):
        spec = REGISTRY.specs.get(nonlinearity)
        function = spec.function if spec is not None and nonlinearity not in NONLINEARITIES else None
        if function is None:
            return gains.gain(nonlinearity, given)
        return gains.gain(nonlinearity, None, lambda z: function(z, **given))
    phi = nonlinearity
    if not callable(phi):
        raise refusal("nonlinearity", phi, "a name, or a function of a tensor")

    def called(z: torch.Tensor) -> torch.Tensor:
        try:
            return phi(z, **given)
        except Exception as error:
            raise refusal(
                "nonlinearity", phi, f"a function of a tensor and {sorted(given)}; it says: {words_of(error)}"
            ) from error

    with untouched_generators():  # of what draws random numbers, which is refused
        return gains.gain("custom", None, called)
