"""One attempt at a recording: on meta, with what has to be assumed there, or really, on copies of the weights."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from autoinit.errors import LazyModuleError, words_of
from autoinit.models import ModelView
from autoinit.tensors.sharding import is_sharded
from autoinit.tracing._known_values import MOST_DECISIONS
from autoinit.tracing._run_limits import RunCost
from autoinit.tracing._sources import failing_line
from autoinit.tracing.building import build
from autoinit.tracing.dataflow import Dataflow, SourceLine
from autoinit.tracing.expanding import expand
from autoinit.tracing.guarding import undisturbed
from autoinit.tracing.inputs import Inputs
from autoinit.tracing.recording import Recorder
from autoinit.tracing.shadow import make_shadow

_MOST_REAL_BYTES = 4 << 30
_CHEAP_BYTES = 64 << 20

_NEEDS_GRADIENTS = "require grad"
"""In what torch says of a tensor that it is to differentiate."""


class FailedError(Exception):
    """One attempt's failure, for the TraceError that names them all.

    Attributes:
        undecided: whether it came of a condition that depends on weights, and for which nothing was assumed.
    """

    def __init__(self, what: str, error: BaseException, module: str = "", *, undecided: bool = False) -> None:
        line: SourceLine | None = failing_line(error.__traceback__)
        text = " ".join(words_of(error).split())
        where = "".join([f" in module {module!r}" if module else "", f" at {line}" if line else ""])
        super().__init__(f"{what}: {type(error).__name__}{where}: {text[:200]}{'...' if len(text) > 200 else ''}")
        self.what, self.reason = what, str(self).removeprefix(f"{what}: ")
        self.error = error
        self.undecided = undecided


_MOST_REASONS = 7


def listed(failures: Iterable[FailedError]) -> str:
    """Why attempts failed, each reason once in a line of its own, the shortest first; not more than a few."""
    ways: dict[str, list[str]] = {}
    for failure in failures:
        known = ways.setdefault(failure.reason, [])
        if failure.what not in known:
            known.append(failure.what)
    lines = sorted((_line(reason, whats) for reason, whats in ways.items()), key=len)
    more = len(lines) - _MOST_REASONS
    lines = [*lines[:_MOST_REASONS], *([f"and {more} more reason{'s' if more > 1 else ''}"] if more > 0 else [])]
    return "".join(f"\n  {line}" for line in lines)


def _line(reason: str, whats: list[str]) -> str:
    return f"{whats[0]}: {reason}" if len(whats) == 1 else f"{reason} ({len(whats)} ways tried)"


def record(view: ModelView, training: bool, inputs: Inputs) -> Dataflow:
    """Record forward on meta.

    Where a condition depends on weights, the ways that it may go are tried, and that which calls most of the weights is
    taken: as it really goes, if that is cheap to see; as what is assumed of the values has it; the other way; and
    the one way once, then the other, so that a loop is run and left.
    """
    try:
        return _record(view, training, inputs, "meta")
    except FailedError as failure:
        if not failure.undecided:
            raise
        first = failure
    found: list[Dataflow] = []
    ways = [("meta", MOST_DECISIONS), ("meta", 0), ("meta", 1)]
    for device, as_assumed in [("cpu", None), *ways] if _is_cheap(view.module) else ways:
        given = inputs.single() if device == "cpu" else inputs
        try:
            found.append(_record(view, training, given, device, as_assumed))
        except FailedError:
            continue
        if not found[-1].uncalled:
            break
    if not found:
        raise first
    return min(found, key=lambda each: len(each.uncalled))


def record_really(view: ModelView, training: bool, inputs: Inputs) -> Dataflow:
    """Record forward on copies of the weights, or weights made up if they have no values."""
    return _record(view, training, inputs.single(), "cpu")


def _record(view: ModelView, training: bool, inputs: Inputs, device: str, as_assumed: int | None = None) -> Dataflow:
    model = view.module
    what = f"recorded on {device}{in_mode(training)}, {_described(inputs)}"
    if device == "cpu" and _bytes(model) > _MOST_REAL_BYTES:
        size = f"{_bytes(model) / 2**30:.1f} GiB; real runs are made up to {_MOST_REAL_BYTES >> 30}"
        raise FailedError(what, MemoryError(f"a copy of its weights takes {size}"))
    try:
        shadow = make_shadow(model, device)
        args, kwargs = inputs.on(device)
    except (RuntimeError, MemoryError) as error:  # no room for a copy
        raise FailedError(what, error) from error
    set_mode(shadow.module, training)
    recorder = Recorder(shadow.module, view.tensors, as_assumed, RunCost() if device == "cpu" else None)
    try:
        with _default_device(device), _uncompiled(device), undisturbed(shadow):
            graph = recorder.run(args, kwargs, (inputs.args, inputs.kwargs))
    except LazyModuleError:
        raise
    except Exception as error:
        if _NEEDS_GRADIENTS in words_of(error) and not torch.is_grad_enabled():
            with torch.enable_grad():
                return _record(view, training, inputs, device, as_assumed)
        raise FailedError(what, error, recorder.failed, undecided=recorder.answers.undecided) from error
    origin = () if inputs.origin == "given" else (_described(inputs),)
    notes = notes_on((*shadow.notes, *origin, *recorder.answers.assumed.notes()), training)
    return build(expand(graph, shadow.module), shadow.module, "recorded", notes, values=view.tensors)


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


def _is_cheap(model: nn.Module) -> bool:
    """Whether a real run is soon made; one on made-up weights tells nothing."""
    unread = any(each.is_meta or is_sharded(each) for each in model.parameters())
    return _bytes(model) <= _CHEAP_BYTES and not unread


def _bytes(model: nn.Module) -> int:
    return sum(each.numel() * each.element_size() for each in model.parameters() if not is_lazy(each))


def set_mode(shadow: nn.Module, training: bool) -> None:
    """Put a shadow, which is in training mode, into the mode wanted."""
    if not training:
        for module in shadow.modules():
            module.training = False


def in_mode(training: bool) -> str:
    """The mode in words, for messages."""
    return "" if training else " in evaluation mode"


def notes_on(notes: tuple[str, ...], training: bool) -> tuple[str, ...]:
    """The notes of a tracing in this mode."""
    return notes if training else (*notes, "traced in evaluation mode, since training mode failed")


def _described(inputs: Inputs) -> str:
    """The inputs by their shapes, and where they come from."""
    values = (*inputs.args, *inputs.kwargs.values())
    shapes = [str(tuple(each.shape)) if isinstance(each, torch.Tensor) else type(each).__name__ for each in values]
    return f"input {', '.join(shapes)} {inputs.origin}" if shapes else "without any input"
