"""`trace`: which tier reads the model, and what to say when none can."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from autoinit.errors import ArgumentError, LazyModuleError, TraceError
from autoinit.parameters import user_name
from autoinit.pausing import tensors_on_cpu
from autoinit.tracing.building import build
from autoinit.tracing.dataflow import Dataflow, SourceLine
from autoinit.tracing.expanding import expand
from autoinit.tracing.exported import is_exported, read_exported
from autoinit.tracing.inputs import Inputs, given_inputs, guessed_inputs
from autoinit.tracing.recording import Recorder
from autoinit.tracing.rng import untouched_generators
from autoinit.tracing.shadow import make_shadow, no_global_hooks, unwrapped
from autoinit.tracing.sources import failing_line
from autoinit.tracing.symbolic import SymbolicTracer

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Tier = Literal["symbolic", "recorded", "exported"]
_TIERS = ("symbolic", "recorded", "exported")


_MOST_REAL_BYTES = 4 << 30
_MOST_REAL_RUNS = 3  # of guessed inputs, since each is a whole forward


class _FailedError(Exception):
    """One tier's failure, for the TraceError that names them all."""

    def __init__(self, what: str, error: BaseException, module: str = "") -> None:
        line: SourceLine | None = failing_line(error.__traceback__)
        text = " ".join(str(error).split())
        where = "".join([f" in module {module!r}" if module else "", f" at {line}" if line else ""])
        super().__init__(f"{what}: {type(error).__name__}{where}: {text[:200]}{'...' if len(text) > 200 else ''}")
        self.error = error


def trace(model: nn.Module | ExportedProgram, example_inputs: Any = None, *, tier: Tier | None = None) -> Dataflow:
    """Read the dataflow of a model, without changing it.

    Args:
        model: a module, or an ExportedProgram. Seen as in training, through DataParallel and torch.compile.
        example_inputs: a tensor, a tuple of arguments, a dict of keyword arguments, or a shape. With it the forward is
            run on the meta device (or, where that fails, on copies) and recorded. Without it the model is traced
            with proxies, then, where that fails or leaves something open, recorded on a guessed input.
        tier: use this tier only.

    Raises:
        TraceError: no tier could read it; says for each what stopped it, and what to try next.
        LazyModuleError: the model has parameters that have no shape yet.
        ArgumentError: an argument is of no known form.
    """
    if tier is not None and tier not in _TIERS:
        raise ArgumentError(f"tier={tier!r}: expected one of {', '.join(_TIERS)}, or None for the best that works")
    if is_exported(model):
        graph, holder = read_exported(model)  # type: ignore[arg-type]
        values: dict[str, torch.Tensor] = dict(model.state_dict)  # type: ignore[arg-type]
        with tensors_on_cpu():
            return build(expand(graph, holder), holder, "exported", values=values)
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model is a {type(model).__name__}: expected a torch.nn.Module or an ExportedProgram")
    model = unwrapped(model)
    with tensors_on_cpu(), untouched_generators(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _trace_module(model, example_inputs, tier)


def _trace_module(model: nn.Module, example_inputs: Any, tier: Tier | None) -> Dataflow:
    failures: list[str] = []
    inputs = [given_inputs(example_inputs, model)] if example_inputs is not None else None
    for attempt in _attempts(model, inputs, tier):
        try:
            return attempt()
        except _FailedError as failure:
            failures.append(str(failure))
    raise TraceError(_explained(model, failures, guessed=inputs is None))


def _attempts(model: nn.Module, inputs: list[Inputs] | None, tier: Tier | None) -> Iterator[Callable[[], Dataflow]]:
    """What to try, best first. Evaluation mode follows where training mode fails.

    A symbolic trace that leaves something open, since it knows no shapes, stands back until a recording has failed.
    """
    if tier == "exported":
        yield partial(_export, model, inputs)
        return
    symbolic, recorded = tier != "recorded" and (inputs is None or tier == "symbolic"), tier != "symbolic"
    modes = (True, False)
    for training in modes:
        if symbolic and recorded:
            yield partial(_symbolic, model, training, strict=True)
        if recorded:
            yield partial(_recorded, model, inputs, "meta", training)
    for training in modes if recorded else ():
        yield partial(_recorded, model, inputs, "cpu", training)
    for training in modes if symbolic else ():
        yield partial(_symbolic, model, training, strict=False)


def _explained(model: nn.Module, failures: list[str], guessed: bool) -> str:
    shown = "".join(f"\n  {failure}" for failure in dict.fromkeys(failures))
    advice = (
        "pass example_inputs=... (a tensor, a tuple of arguments, a dict of keyword arguments or a shape); "
        "on the command line --input-shape 1,3,224,224"
        if guessed
        else "check that model(example_inputs) itself runs"
    )
    return f"{type(model).__name__} could not be traced:{shown}\nNext: {advice}."


def _symbolic(model: nn.Module, training: bool, *, strict: bool) -> Dataflow:
    shadow = make_shadow(model, "meta")
    _set_mode(shadow.module, training)
    tracer = SymbolicTracer(shadow.module, strict)
    try:
        with no_global_hooks():
            graph = tracer.trace(shadow.module)
    except Exception as error:
        raise _FailedError(f"symbolic{_mode(training)}", error, tracer.failed) from error
    return build(
        expand(graph, shadow.module), shadow.module, "symbolic", _notes(shadow.notes, training), values=_values(model)
    )


def _recorded(model: nn.Module, inputs: list[Inputs] | None, device: str, training: bool) -> Dataflow:
    guesses = inputs if inputs is not None else guessed_inputs(model)
    runs = (
        partial(_record, model, guess if device == "meta" else guess.single(), device, training)
        for guess in itertools.islice(guesses, None if device == "meta" else _MOST_REAL_RUNS)
    )
    return _first(runs, "recorded")


def _first(runs: Iterator[Callable[[], Dataflow]], tier: str) -> Dataflow:
    """The result of the first run that succeeds; the first one's failure if none does."""
    failures: list[_FailedError] = []
    for run in runs:
        try:
            return run()
        except _FailedError as failure:
            failures.append(failure)
    raise failures[0] if failures else _FailedError(tier, ValueError("no example input could be guessed"))


def _record(model: nn.Module, inputs: Inputs, device: str, training: bool) -> Dataflow:
    what = f"recorded on {device}{_mode(training)}, input {_shapes(inputs)} {inputs.origin}"
    size = sum(each.numel() * each.element_size() for each in model.parameters())
    if device == "cpu" and size > _MOST_REAL_BYTES:
        limit = f"a copy of its weights takes {size / 2**30:.1f} GiB; real runs are made up to {_MOST_REAL_BYTES >> 30}"
        raise _FailedError(what, MemoryError(limit))
    try:
        shadow = make_shadow(model, device)
        args, kwargs = inputs.on(device)
    except (RuntimeError, MemoryError) as error:  # no room for a copy
        raise _FailedError(what, error) from error
    _set_mode(shadow.module, training)
    recorder = Recorder(shadow.module, dict(model.named_buffers()))
    try:
        with _default_device(device), _uncompiled(device), no_global_hooks():
            graph = recorder.run(args, kwargs, (inputs.args, inputs.kwargs))
    except LazyModuleError:
        raise
    except Exception as error:
        raise _FailedError(what, error, recorder.failed) from error
    origin = () if inputs.origin == "given" else (f"input {_shapes(inputs)} {inputs.origin}",)
    notes = _notes((*shadow.notes, *origin), training)
    return build(expand(graph, shadow.module), shadow.module, "recorded", notes, values=_values(model))


@contextmanager
def _default_device(device: str) -> Iterator[None]:
    if device == "cpu":
        yield
    else:
        with torch.device(device):
            yield


@contextmanager
def _uncompiled(device: str) -> Iterator[None]:
    """Functions under torch.compile run as written, so that the recording sees inside and nothing is compiled.

    The compiler is only imported for real runs, which are rare and slow anyway.
    """
    if device == "cpu" or "torch._dynamo" in sys.modules:
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield


def _export(model: nn.Module, inputs: list[Inputs] | None) -> Dataflow:
    guesses = inputs if inputs is not None else guessed_inputs(model)
    return _first((partial(_export_with, model, guess) for guess in guesses), "exported")


def _export_with(model: nn.Module, inputs: Inputs) -> Dataflow:
    shadow = make_shadow(model, "cpu")
    args, kwargs = inputs.on("cpu")
    try:
        program = torch.export.export(shadow.module, args, kwargs)
    except Exception as error:
        raise _FailedError("exported", error) from error
    graph, holder = read_exported(program)
    return build(expand(graph, holder), holder, "exported", _notes(shadow.notes, True), values=_values(model))


def _values(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by the user's names."""
    named = itertools.chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
    return {user_name(name, model): tensor for name, tensor in named}


def _set_mode(shadow: nn.Module, training: bool) -> None:
    if not training:
        for module in shadow.modules():
            module.training = False


def _mode(training: bool) -> str:
    return "" if training else " in evaluation mode"


def _notes(notes: tuple[str, ...], training: bool) -> tuple[str, ...]:
    return notes if training else (*notes, "traced in evaluation mode, since training mode failed")


def _shapes(inputs: Inputs) -> str:
    values = (*inputs.args, *inputs.kwargs.values())
    return ", ".join(
        str(tuple(each.shape)) if isinstance(each, torch.Tensor) else type(each).__name__ for each in values
    )
