"""`trace`: which tier reads the model, and what to say when none can."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from autoinit.errors import ArgumentError, TraceError, words_of
from autoinit.errors.arguments import refusal
from autoinit.models import Model, ModelView
from autoinit.tensors.process_state import silenced, tensors_on_cpu
from autoinit.tracing.attempts import FailedError, in_mode, listed, notes_on, record, record_really, set_mode
from autoinit.tracing.building import build
from autoinit.tracing.dataflow import TIERS, Dataflow, Tier
from autoinit.tracing.expanding import expand
from autoinit.tracing.exported import ExportedModel, exported_model, is_exported
from autoinit.tracing.guarding import undisturbed
from autoinit.tracing.guessing import filled, guessed_inputs
from autoinit.tracing.inputs import Inputs, arguments_of, given_inputs
from autoinit.tracing.rng import drawn, untouched_generators
from autoinit.tracing.shadow import make_shadow
from autoinit.tracing.symbolic import SymbolicTracer

_MODES = (True, False)
"""Training mode, and evaluation mode where that fails."""
_FEW_GUESSES = 4  # in a second mode, after all have failed in the first
_MOST_FURTHER = 4
"""Guesses that are tried after one that has run, but left weights uncalled."""
_MOST_FILLED = 40
"""Runs in which arguments that may be left out are filled."""
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


def best_guess(view: ModelView) -> Inputs | None:
    """The guess on which most of the weights are called; None if none runs on the meta device."""
    try:
        with tensors_on_cpu(), untouched_generators(), torch.no_grad(), silenced():
            return _recorded(view, None, True, []).guess
    except FailedError:
        return None


def trace_view(view: ModelView, example_inputs: Any = None, *, tier: Tier | None = None) -> Dataflow:
    """`trace` of a model that is seen already."""
    if tier is not None and not (isinstance(tier, str) and tier in TIERS):
        raise refusal("tier", tier, f"one of {', '.join(TIERS)}, or None for the best that works")
    if is_exported(view.root):
        with tensors_on_cpu():
            return _of_program(exported_model(view.root), view.tensors)  # type: ignore[arg-type]
    if not view.has_modules:
        raise ArgumentError(f"model is a {view.class_name}: expected a torch.nn.Module or an ExportedProgram")
    with tensors_on_cpu(), untouched_generators(), torch.no_grad(), silenced():
        return _trace_module(view, example_inputs, tier)


def _trace_module(view: ModelView, example_inputs: Any, tier: Tier | None) -> Dataflow:
    """The first attempt that leaves no weight uncalled; on guessed inputs, else the one that leaves the fewest."""
    failures: list[FailedError] = []
    inputs = [given_inputs(example_inputs, view.module)] if example_inputs is not None else None
    best: Dataflow | None = None
    for attempt in (_ATTEMPTS[tier] if tier is not None else _best_first)(view, inputs):
        if best is not None and not attempt.another:
            continue
        before = drawn()
        try:
            found = attempt()
        except FailedError as failure:
            failures.append(failure)
            continue
        if found.uncalled and drawn() != before:
            found = _steady(view, inputs, tier, found)
        if best is None or len(found.uncalled) < len(best.uncalled):
            best = found
        if not best.uncalled or inputs is not None:
            break
    if best is None:
        raise TraceError(_explained(view, failures, guessed=inputs is None))
    _require_weights(view, best)
    return best


def _require_weights(view: ModelView, found: Dataflow) -> None:
    """Refuse a trace that reaches none of the weights that there are."""
    weights = [name for name, each in view.parameters.items() if each.dim() > 1]
    if weights and len(found.uncalled) >= len(weights):
        takes = ", ".join(map(str, arguments_of(view.module).values()))
        raise TraceError(
            f"{view.class_name}: forward reaches none of its {len(weights)} weights ({', '.join(weights[:3])}"
            f"{', ...' if len(weights) > 3 else ''}), {'; '.join(found.notes) or f'by {found.tier} tracing'}. "
            f"It takes ({takes}).\n"
            f"Next: pass example_inputs=... that bring them in, by name where they are optional: {{'name': (2, 3, 8)}}."
        )


def _steady(view: ModelView, inputs: _GivenInputs, tier: Tier | None, found: Dataflow) -> Dataflow:
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


@dataclass(frozen=True)
class _Attempt:
    """A way to trace.

    Attributes:
        another: worth taking, too, where one before has left weights uncalled.
    """

    run: Callable[[], Dataflow]
    another: bool = False

    def __call__(self) -> Dataflow:
        return self.run()


_Attempts = Iterator[_Attempt]
_GivenInputs = list[Inputs] | None


def _best_first(view: ModelView, inputs: _GivenInputs) -> _Attempts:
    """What to try where no tier is asked for.

    A symbolic trace that leaves something open, since it knows no shapes, stands back until a recording has failed.
    """
    recordings = _recordings(view, inputs)
    for training in _MODES if inputs is None else ():
        for every in _extents(view):
            yield _Attempt(partial(_symbolic, view, training, strict=True, every=every), another=training)
            if every:
                yield next(recordings)
    yield from recordings
    if inputs is None:
        yield from _proxies(view, inputs)


def _proxies(view: ModelView, _inputs: _GivenInputs) -> _Attempts:
    for training, every in itertools.product(_MODES, _extents(view)):
        yield _Attempt(partial(_symbolic, view, training, strict=False, every=every), another=training)


def _recordings(view: ModelView, inputs: _GivenInputs) -> _Attempts:
    failed: _Failures = []
    for training in _MODES:
        yield _Attempt(partial(_recorded, view, inputs, training, failed), another=training)
    for training in _MODES:
        yield _Attempt(partial(_recorded_really, view, inputs, training, failed))


def _exports(view: ModelView, inputs: _GivenInputs) -> _Attempts:
    yield _Attempt(partial(_export, view, inputs))


_ATTEMPTS: Mapping[Tier, Callable[[ModelView, _GivenInputs], _Attempts]] = {
    "symbolic": _proxies,
    "recorded": _recordings,
    "exported": _exports,
}
"""What each tier tries, best first. To add a tier: a file with what reads, its attempts here, its facts in `TIERS`."""


def _extents(view: ModelView) -> tuple[bool, ...]:
    """Whether proxies stand for every argument of forward; later, for those alone that it must be given."""
    optional = any(each.default is not each.empty for each in arguments_of(view.module).values())
    return (True, False) if optional else (True,)


def _explained(view: ModelView, failures: list[FailedError], guessed: bool) -> str:
    advice = (
        "pass example_inputs=... (a tensor, a tuple of arguments, a dict of keyword arguments, nested as forward takes "
        "them, or a shape); "
        "on the command line --input-shape 1,3,224,224"
        if guessed
        else "check that model(example_inputs) itself runs"
    )
    return f"{view.class_name} could not be traced:{listed(failures)}\nNext: {advice}."


def _symbolic(view: ModelView, training: bool, *, strict: bool, every: bool = True) -> Dataflow:
    shadow = make_shadow(view.module, "meta")
    set_mode(shadow.module, training)
    tracer = SymbolicTracer(shadow.module, strict, every=every)
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


def _recorded(view: ModelView, inputs: _GivenInputs, training: bool, failed: _Failures) -> Dataflow:
    """On meta: all guesses in the first mode, and a few in the second."""
    guesses = inputs if inputs is not None else guessed_inputs(view.module)
    some = itertools.islice(guesses, _FEW_GUESSES) if failed else guesses
    run = partial(record, view, training)
    return _with_more(run, view, _first(run, some, "recorded", failed, list(arguments_of(view.module))))


def _recorded_really(view: ModelView, inputs: _GivenInputs, training: bool, failed: _Failures) -> Dataflow:
    """Once, since it is a whole forward: with the inputs that only wanted values on meta, or else the first."""
    tried = inputs if inputs is not None else [each for each, _ in failed] or guessed_inputs(view.module)
    wanting = [each for each, failure in failed if _NEEDS_VALUES.search(words_of(failure.error))]
    one = [replace(each, repaired=None) for each in itertools.islice(wanting or tried, 1)]
    return _first(partial(record_really, view, training), one, "recorded", [])


def _first(
    run: Callable[[Inputs], Dataflow],
    guesses: Iterable[Inputs],
    tier: str,
    failed: _Failures,
    arguments: Sequence[str] = (),
) -> Dataflow:
    """The result of the first run that leaves no weight uncalled, or else of the one that leaves the fewest.

    After a run that does, only guesses are tried that give arguments which it did not give. What a failure says may
    lead to another guess, which comes next. The failures are added to those that have been; the first one is raised if
    no run succeeds.
    """
    before = len(failed)
    best: Dataflow | None = None
    given: list[frozenset[str]] = []
    for guess in guesses:
        if best is not None and (len(given) == _MOST_FURTHER or any(guess.names(arguments) <= each for each in given)):
            continue
        found, tried = _run_repaired(run, guess, failed)
        given += [tried.names(arguments)] if best is not None or found is not None else []
        if found is not None and (best is None or len(found.uncalled) < len(best.uncalled)):
            best = replace(found, guess=tried if tried.origin != "given" else None)
        if best is not None and (not best.uncalled or guess.origin == "given"):
            break
    if best is not None:
        return best
    raise failed[before][1] if failed[before:] else FailedError(tier, ValueError("no example input could be guessed"))


def _with_more(run: Callable[[Inputs], Dataflow], view: ModelView, best: Dataflow) -> Dataflow:
    """The best run, or a better one, with arguments that it left out: each that reaches further weights stays."""
    runs = 0
    declared = getattr(view.module, "main_input_name", None)  # a model of transformers' says what its arguments are
    improved = declared is None
    while improved and best.uncalled and best.guess is not None:
        improved = False
        for guess in filled(view.module, best.guess, best.uncalled):
            runs += 1
            if runs > _MOST_FILLED:
                return best
            found, tried = _run_repaired(run, guess, [])
            if found is not None and len(found.uncalled) < len(best.uncalled):
                best, improved = replace(found, guess=tried), True
                break
    return best


def _run_repaired(
    run: Callable[[Inputs], Dataflow], guess: Inputs, failed: _Failures
) -> tuple[Dataflow | None, Inputs]:
    """What a run gives on a guess, or on what its failures lead to; and the inputs of the last run."""
    trying: Inputs | None = guess
    last = guess
    while trying is not None:
        last = trying
        try:
            return run(trying), last
        except FailedError as failure:
            failed.append((trying, failure))
            trying = trying.after(failure.error)
    return None, last


def _export(view: ModelView, inputs: _GivenInputs) -> Dataflow:
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
