"""`assert_well_initialized`: the check for test-suites."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from torch import nn

from autoinit.checking.base_model import Groups
from autoinit.checking.baselines import read_baseline, stale_note
from autoinit.checking.checker import check
from autoinit.checking.findings import CheckResult, CheckRun, Severity
from autoinit.checking.rules.registry import rules
from autoinit.checking.selecting import Ignore, enabled_codes
from autoinit.errors import ArgumentError
from autoinit.errors.arguments import path_of, require, require_call
from autoinit.errors.calling import calling
from autoinit.models import Model
from autoinit.provenance import Recording, recording
from autoinit.theory.pointwise import name_of
from autoinit.tracing.exported import is_exported

if TYPE_CHECKING:
    from typing_extensions import Unpack


class CheckOptions(TypedDict, total=False):
    """Options of `autoinit.check` that every way of calling it passes on."""

    select: Sequence[str]
    ignore: Sequence[str]
    ignores: Sequence[Ignore]
    recipe: str
    tolerance: float
    provenance: Recording | None
    base: Model | None
    optimizer: Groups | None
    name: str


def assert_well_initialized(
    model: Model | Callable[[], Model],
    example_inputs: Any = None,
    *,
    fail_level: str = "error",
    allow_empty: bool = False,
    baseline: str | Path | None = None,
    **options: Unpack[CheckOptions],
) -> CheckResult:
    """Fail with the findings as text if a model's weights do not start as its dataflow calls for.

        def test_initialization():
            assert_well_initialized(build_model)

    Args:
        model: a module, or a function that builds one. A function is called under `autoinit.recording()`, so that
            findings name the file and line that wrote the weight.
        example_inputs: as in `autoinit.check`.
        fail_level: the mildest severity that fails: `error`, `warning` or `info`.
        allow_empty: accept a model in which there is nothing to check: without weight layers, or on the meta device.
        baseline: a file that `autoinit check --write-baseline` wrote; what it holds under this `name` does not fail.
        **options: the other options of `autoinit.check`.

    Returns:
        The result, findings below the fail level included.

    Raises:
        AssertionError: there are findings at or above the fail level, or there is nothing to check.
        TraceError: the model could not be traced.
        ArgumentError: an argument has no meaning.
        ConfigurationError: the baseline cannot be read, or a code fits no rule.
        CallbackError: the function that builds the model failed.
    """
    __tracebackhide__ = True
    require("allow_empty", allow_empty, bool, "True or False")
    known = path_of("baseline", baseline) if baseline is not None else None
    built, log = _built(model)
    if log is not None:
        if options.get("provenance") is not None:
            raise ArgumentError("provenance: a factory is recorded as it is called; give provenance beside a model")
        options = {**options, "provenance": log}
    result = check(built, example_inputs, fail_level=fail_level, **options)
    if known is not None:
        result = _without_known(result, known, options)
    said = complaint(built, result, allow_empty=allow_empty)
    if said:
        raise AssertionError(said)
    return result


def complaint(model: Model, result: CheckResult, *, allow_empty: bool = False) -> str:
    """What is wrong with a model that was checked, in plain text; empty if nothing is.

    Args:
        model: the one that was checked.
        result: what the check found.
        allow_empty: whether it is right that there is nothing to check.
    """
    if not allow_empty and _without_values(model):
        return (
            f"{result.model} is on the meta device: its weights have no values, so nothing was checked; build it on "
            f"the CPU, or say allow_empty=True"
        )
    if not allow_empty and result.layers == 0:
        return f"{result.model} has no weight layers, so nothing was checked; if that is right, say allow_empty=True"
    if result.ok:
        return ""
    milder = len(result.findings) - len(result.failing)
    shown = replace(result, findings=result.failing, unused_ignores=())
    text = CheckRun((shown,)).to_text(full=result.fail_level is Severity.INFO)
    said = f"{result.model} is not well initialized.\n{text}"
    return f"{said}\nMilder than {result.fail_level}, and not shown: {milder}" if milder else said


def _built(model: Model | Callable[[], Model]) -> tuple[Model, Recording | None]:
    """The model, and what was recorded of its construction if it was constructed here."""
    if isinstance(model, nn.Module) or is_exported(model):
        return cast("Model", model), None
    if not callable(model) or (isinstance(model, type) and not issubclass(model, nn.Module)):
        raise ArgumentError(
            f"model is a {type(model).__name__}: expected a torch.nn.Module, an ExportedProgram, or a function that "
            f"gives one"
        )
    require_call("model", model)
    with recording() as log, calling(f"{name_of(model)}()"):
        built = model()
    if isinstance(built, nn.Module) or is_exported(built):
        return built, log
    raise ArgumentError(
        f"{name_of(model)} gave a {type(built).__name__}: expected a function that gives a "
        f"torch.nn.Module or an ExportedProgram"
    )


def _without_known(result: CheckResult, path: Path, options: CheckOptions) -> CheckResult:
    codes = enabled_codes(tuple(rules()), options.get("select", ()), options.get("ignore", ()))
    kept, left = read_baseline(path).taken_out(result, codes)
    stale = stale_note(left, path)
    return replace(kept, notes=(*kept.notes, stale)) if stale else kept


def _without_values(model: Model) -> bool:
    """Whether every parameter is on the meta device."""
    module: Any = model
    tensors = list(module.parameters())
    return bool(tensors) and all(tensor.is_meta for tensor in tensors)
