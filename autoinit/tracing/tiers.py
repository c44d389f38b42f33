"""`trace`: which tier reads the model, and what to say when none can."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch

from autoinit.errors import ArgumentError, TraceError
from autoinit.models import Model, ModelView
from autoinit.tensors.surroundings import silenced, tensors_on_cpu
from autoinit.tracing.attempts import FailedError, in_mode, notes_on, record, record_really, set_mode
from autoinit.tracing.building import build
from autoinit.tracing.dataflow import Dataflow
from autoinit.tracing.expanding import expand
from autoinit.tracing.exported import ExportedModel, exported_model, is_exported
from autoinit.tracing.guarding import undisturbed
from autoinit.tracing.guessing import guessed_inputs
from autoinit.tracing.inputs import Inputs, given_inputs
from autoinit.tracing.rng import drawn, untouched_generators
from autoinit.tracing.shadow import make_shadow
from autoinit.tracing.symbolic import SymbolicTracer

Tier = Literal["symbolic", "recorded", "exported"]
_TIERS = ("symbolic", "recorded", "exported")


_FEW_GUESSES = 4  # in a second mode, after all have failed in the first
_NEEDS_VALUES = re.compile(r"\bmeta\b")
"""In what torch says where a tensor on meta has no value: its inputs came further than others."""

_Failures = list[tuple[Inputs, FailedError]]


def trace(model: Model, example_inputs: Any = None, *, tier: Tier | None = None) -> Dataflow:
    """Read the dataflow of a model, without changing it.

    Args:
        model: a module, an ExportedProgram, or an ExportedModel read from a file of one. Seen as in training, through
            its wrappers (`ModelView`).
        example_inputs: a tensor, a tuple of arguments, a dict of keyword arguments, or a shape. With it the forward is
            run on the meta device (or, where that fails, on copies) and recorded. Without it the model is traced
            with proxies, then, where that fails or leaves something open, recorded on a guessed input.
        tier: use this tier only.

    Raises:
        TraceError: no tier could read it; says for each what stopped it, and what to try next.
        LazyModuleError: the model has parameters that have no shape yet.
        ArgumentError: an argument is of no known form.
    """
    return trace_view(ModelView.of(model), example_inputs, tier=tier)


def trace_view(view: ModelView, example_inputs: Any = None, *, tier: Tier | None = None) -> Dataflow:
    """`trace` of a model that is seen already."""
    if tier is not None and tier not in _TIERS:
        raise ArgumentError(f"tier={tier!r}: expected one of {', '.join(_TIERS)}, or None for the best that works")
    if is_exported(view.root):
        with tensors_on_cpu():
            return _of_program(exported_model(view.root), view.tensors)  # type: ignore[arg-type]
    if not view.has_modules:
        raise ArgumentError(f"model is a {view.class_name}: expected a torch.nn.Module or an ExportedProgram")
    with tensors_on_cpu(), untouched_generators(), torch.no_grad(), silenced():
        return _trace_module(view, example_inputs, tier)


def _trace_module(view: ModelView, example_inputs: Any, tier: Tier | None) -> Dataflow:
    failures: list[str] = []
    inputs = [given_inputs(example_inputs, view.module)] if example_inputs is not None else None
    for attempt in _attempts(view, inputs, tier):
        before = drawn()
        try:
            found = attempt()
        except FailedError as failure:
            failures.append(str(failure))
            continue
        return found if not found.uncalled or drawn() == before else _steady(view, inputs, tier, found)
    raise TraceError(_explained(view, failures, guessed=inputs is None))


def _steady(view: ModelView, inputs: list[Inputs] | None, tier: Tier | None, found: Dataflow) -> Dataflow:
    """What was found where chance may have left weights out; or what evaluation mode finds, if that is more of them."""
    try:
        by_proxies = tier == "symbolic"
        steady = _symbolic(view, False, strict=False) if by_proxies else _recorded(view, inputs, False, [])
    except FailedError:
        return found
    if len(steady.uncalled) >= len(found.uncalled):
        return found
    why = "traced in evaluation mode, since training mode leaves layers out by chance"
    return replace(steady, notes=(*steady.notes[:-1], why))


def _attempts(view: ModelView, inputs: list[Inputs] | None, tier: Tier | None) -> Iterator[Callable[[], Dataflow]]:
    """What to try, best first. Evaluation mode follows where training mode fails.

    A symbolic trace that leaves something open, since it knows no shapes, stands back until a recording has failed.
    """
    if tier == "exported":
        yield partial(_export, view, inputs)
        return
    symbolic, recorded = tier != "recorded" and (inputs is None or tier == "symbolic"), tier != "symbolic"
    modes = (True, False)
    failed: _Failures = []
    for training in modes:
        if symbolic and recorded:
            yield partial(_symbolic, view, training, strict=True)
        if recorded:
            yield partial(_recorded, view, inputs, training, failed)
    for training in modes if recorded else ():
        yield partial(_recorded_really, view, inputs, training, failed)
    for training in modes if symbolic else ():
        yield partial(_symbolic, view, training, strict=False)


def _explained(view: ModelView, failures: list[str], guessed: bool) -> str:
    shown = "".join(f"\n  {failure}" for failure in dict.fromkeys(failures))
    advice = (
        "pass example_inputs=... (a tensor, a tuple of arguments, a dict of keyword arguments, nested as forward takes "
        "them, or a shape); "
        "on the command line --input-shape 1,3,224,224"
        if guessed
        else "check that model(example_inputs) itself runs"
    )
    return f"{view.class_name} could not be traced:{shown}\nNext: {advice}."


def _symbolic(view: ModelView, training: bool, *, strict: bool) -> Dataflow:
    shadow = make_shadow(view.module, "meta")
    set_mode(shadow.module, training)
    tracer = SymbolicTracer(shadow.module, strict)
    try:
        with undisturbed(shadow):
            graph = tracer.trace(shadow.module)
    except Exception as error:
        raise FailedError(f"symbolic{in_mode(training)}", error, tracer.failed) from error
    return build(
        expand(graph, shadow.module),
        shadow.module,
        "symbolic",
        notes_on(shadow.notes, training),
        values=view.tensors,
    )


def _recorded(view: ModelView, inputs: list[Inputs] | None, training: bool, failed: _Failures) -> Dataflow:
    """On meta: all guesses in the first mode, and a few in the second."""
    guesses = inputs if inputs is not None else guessed_inputs(view.module)
    some = itertools.islice(guesses, _FEW_GUESSES) if failed else guesses
    return _first(partial(record, view, training), some, "recorded", failed)


def _recorded_really(view: ModelView, inputs: list[Inputs] | None, training: bool, failed: _Failures) -> Dataflow:
    """Once, since it is a whole forward: with the inputs that only wanted values on meta, or else the first."""
    tried = inputs if inputs is not None else [each for each, _ in failed] or guessed_inputs(view.module)
    wanting = [each for each, failure in failed if _NEEDS_VALUES.search(str(failure.error))]
    one = [replace(each, repaired=None) for each in itertools.islice(wanting or tried, 1)]
    return _first(partial(record_really, view, training), one, "recorded", [])


def _first(run: Callable[[Inputs], Dataflow], guesses: Iterable[Inputs], tier: str, failed: _Failures) -> Dataflow:
    """The result of the first run that succeeds; the first one's failure if none does.

    What a failure says may lead to another guess, which comes next. The failures are added to those that have been.
    """
    before = len(failed)
    for guess in guesses:
        following: Inputs | None = guess
        while following is not None:
            try:
                return run(following)
            except FailedError as failure:
                failed.append((following, failure))
                following = following.after(failure.error)
    raise failed[before][1] if failed[before:] else FailedError(tier, ValueError("no example input could be guessed"))


def _export(view: ModelView, inputs: list[Inputs] | None) -> Dataflow:
    guesses = inputs if inputs is not None else guessed_inputs(view.module)
    return _first(partial(_export_with, view), guesses, "exported", [])


def _export_with(view: ModelView, inputs: Inputs) -> Dataflow:
    shadow = make_shadow(view.module, "cpu")
    args, kwargs = inputs.on("cpu")
    try:
        program = torch.export.export(shadow.module, args, kwargs)
    except Exception as error:
        raise FailedError("exported", error) from error
    return _of_program(exported_model(program), view.tensors, notes_on(shadow.notes, True))


def _of_program(program: ExportedModel, values: Mapping[str, torch.Tensor], notes: tuple[str, ...] = ()) -> Dataflow:
    holder = program.holder()
    return build(expand(program.graph_to_change(), holder), holder, "exported", notes, values)
