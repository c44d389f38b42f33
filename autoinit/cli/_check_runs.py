"""Checks of several models: each loaded, looked at and, if asked for, repaired, whatever goes wrong with the others."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from autoinit import saving
from autoinit.checking.baselines import Baseline, BaselineEntry, baseline_of, stale_note
from autoinit.checking.checker import check
from autoinit.checking.configuration import Configuration, ModelEntry
from autoinit.checking.findings import CheckFailure, CheckResult, CheckRun
from autoinit.checking.fixing import fix
from autoinit.checking.rules.registry import rules
from autoinit.checking.selecting import check_prefixes, enabled_codes, join_unused
from autoinit.errors import ArgumentError, AutoinitError, PlanError, TrainedModelError, words_of
from autoinit.loading import Loaded, load
from autoinit.loading.examples import example_inputs
from autoinit.loading.importing import importable
from autoinit.models import ModelView
from autoinit.models.alone import NEEDS_CODE, WeightsAlone
from autoinit.provenance import Origin, Recording, recording
from autoinit.recipes import declared
from autoinit.tracing.dataflow import SourceLine


class CheckWatcher(Protocol):
    """Whoever wants to know how the checks go on."""

    def stage(self, doing: str) -> contextlib.AbstractContextManager[None]:
        """Stands around each step."""

    def failed(self, failure: CheckFailure, error: BaseException) -> None:
        """A model could not be checked."""


class _Nobody:
    def stage(self, doing: str) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002 - the protocol's
        return contextlib.nullcontext()

    def failed(self, failure: CheckFailure, error: BaseException) -> None:
        """The failure is in the run."""


@dataclass(frozen=True)
class Fixing:
    """How findings are repaired.

    Attributes:
        target: the file to write; None rewrites the one that a model's weights came from.
    """

    target: Path | None = None
    seed: int | None = None


def check_models(
    configuration: Configuration,
    *,
    configured: Collection[str] = (),
    baseline: Baseline | None = None,
    fixing: Fixing | None = None,
    exit_zero: bool = False,
    base: tuple[str, Mapping[str, Any]] | None = None,
    watcher: CheckWatcher | None = None,
) -> CheckRun:
    """Checks the models of a configuration. What they print goes to standard error.

    Args:
        configuration: what to check and how.
        configured: names of all models of its file, of which those not checked now may need an ignore.
        baseline: findings that do not count.
        fixing: how to repair findings that count; None changes nothing.
        exit_zero: whether findings leave the exit status at 0.
        base: the model that they are to follow in another width, as a spec and its factory's arguments.
        watcher: called at each step and each failure.

    Returns:
        The results; for a model that could not be loaded, traced or checked the reason.

    Raises:
        ConfigurationError: a prefix of codes fits no rule. Nothing was loaded.
        ArgumentError: there is no such recipe, or `fixing` names one file for several models.
    """
    if fixing is not None and fixing.target is not None and len(configuration.models) > 1:
        raise ArgumentError(f"{fixing.target} can hold the weights of one model, not of {len(configuration.models)}")
    checks = _Checks(
        configuration, _enabled(configuration), baseline or Baseline(), fixing, watcher if watcher else _Nobody(), base
    )
    looks: list[_CheckedModel] = []
    failures: list[CheckFailure] = []
    for number, entry in enumerate(configuration.models, 1):
        try:
            of_all = f" ({number} of {len(configuration.models)})" if len(configuration.models) > 1 else ""
            looks.append(checks.one(entry, of_all))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - it must not hide the findings of the others
            failures.append(CheckFailure(entry.name, _in_a_line(error)))
            checks.watcher.failed(failures[-1], error)
    results = [each.result for each in looks]
    unchecked = {*configured, *(each.model for each in failures)} - {each.model for each in results}
    stale = [entry for each in looks for entry in each.stale]
    note = stale_note(stale, configuration.baseline) if configuration.baseline is not None else ""
    return CheckRun(
        join_unused(results, configuration.ignores, unchecked),
        tuple(failures),
        exit_zero,
        notes=(note,) if note else (),
    )


def noted(run: CheckRun, earlier: Baseline, configured: Collection[str] = ()) -> tuple[Baseline, CheckRun]:
    """A baseline of all findings of a run, and the run in which they do not count.

    Args:
        run: checked without a baseline.
        earlier: the baseline that this one replaces. What it says of models that could not be checked now stays.
        configured: names of models that were not asked for now, of which it stays too.
    """
    unchecked = {*configured, *(each.model for each in run.failures)} - {each.model for each in run.results}
    kept = Baseline(tuple(each for each in earlier.entries if each.model in unchecked))
    baseline = baseline_of(run.results, kept)
    return baseline, replace(run, results=tuple(baseline.taken_out(each)[0] for each in run.results))


@dataclass(frozen=True)
class _CheckedModel:
    """A result, and the entries of the baseline that no longer occur in it."""

    result: CheckResult
    stale: tuple[BaselineEntry, ...] = ()


@dataclass(frozen=True)
class _LoadedModel:
    """A model that was loaded, and how to look at it."""

    entry: ModelEntry
    loaded: Loaded
    inputs: Any
    provenance: Recording = field(repr=False)


@dataclass(frozen=True)
class _Checks:
    """Checks models one by one.

    Attributes:
        codes: of the rules that are selected.
        base: spec of the model that each is to follow, and its factory's arguments.
    """

    configuration: Configuration
    codes: frozenset[str]
    baseline: Baseline
    fixing: Fixing | None
    watcher: CheckWatcher
    base: tuple[str, Mapping[str, Any]] | None

    def one(self, entry: ModelEntry, of_all: str = "") -> _CheckedModel:
        """Load, check and, if asked for, repair a model. of_all: which of how many it is, for who watches."""
        with contextlib.redirect_stdout(sys.stderr), importable(self.configuration.root):
            with self.watcher.stage(f"loading {entry.name}{of_all}"), recording() as provenance:
                loaded = load(
                    entry.spec,
                    weights_file=entry.weights,
                    arguments=entry.arguments,
                    trust=entry.trust,
                    max_size=entry.max_size,
                    alone=True,
                )
            subject = _LoadedModel(entry, loaded, example_inputs(entry.input_shape), provenance)
            with self.watcher.stage(f"checking {entry.name}{of_all}"), loaded.analysed():
                look = self._look(subject)
            if self.fixing is None or not look.result.findings:
                return look
            with self.watcher.stage(f"fixing {entry.name}{of_all}"), loaded.analysed():
                return self._fixed(subject, look, self.fixing)

    def _look(self, subject: _LoadedModel) -> _CheckedModel:
        chosen = self.configuration
        result = check(
            subject.loaded.model,
            subject.inputs,
            select=chosen.select,
            ignore=chosen.ignore,
            ignores=chosen.ignores,
            fail_level=chosen.fail_level,
            recipe=chosen.recipe_of(subject.entry),
            tolerance=chosen.tolerance,
            provenance=subject.provenance,
            base=self._base(subject.entry),
            name=subject.entry.name,
        )
        result = replace(result, notes=(*subject.loaded.notes, *result.notes))
        return _CheckedModel(*self.baseline.taken_out(result, self.codes))

    def _base(self, entry: ModelEntry) -> Any:
        """The model that one is to follow."""
        if self.base is None:
            return None
        spec, arguments = self.base
        with self.watcher.stage(f"loading {spec}"):
            return load(spec, arguments=arguments, trust=entry.trust, max_size=entry.max_size).model

    def _fixed(self, subject: _LoadedModel, look: _CheckedModel, fixing: Fixing) -> _CheckedModel:
        """The look after the layers with findings were initialised and the file was written."""
        model, found = subject.loaded.model, look.result
        target = _source(subject.loaded, fixing.target)
        if isinstance(target, str):
            return replace(look, result=_with_notes(found, target))
        saving.require_outputs([target], [])
        try:
            fixed = fix(model, found, subject.inputs, seed=fixing.seed)
        except TrainedModelError as error:
            note = f"nothing was fixed: {_in_a_line(error)} On the command line: autoinit apply --force"
            return replace(look, result=_with_notes(found, note))
        except PlanError as error:
            return replace(look, result=_with_notes(found, f"nothing was fixed: {_in_a_line(error)}"))
        left = fixed.notes[len(found.notes) :]
        if not fixed.fixed:
            return replace(look, result=_with_notes(found, *left, f"nothing to fix; {target} was not written"))
        saving.save(subject.loaded, target)
        written = {each.param for each in found.findings if each.layer in fixed.fixed}
        tensors = [tensor for name, tensor in ModelView.of(model).parameters.items() if name in written]
        again = self._look(replace(subject, provenance=_Since(subject.provenance, tensors)))
        result = _with_notes(again.result, *left, f"wrote the weights with the fixed layers to {target}")
        return replace(again, result=replace(result, fixed=fixed.fixed, seconds=found.seconds + result.seconds))


class _Since(Recording):
    """What is known of a model's construction after some of its weights were written anew."""

    def __init__(self, before: Recording, written: Iterable[torch.Tensor]) -> None:
        self._before = before
        self._addresses = {id(tensor) for tensor in written}

    def origin(self, tensor: torch.Tensor) -> Origin | None:
        return None if id(tensor) in self._addresses else self._before.origin(tensor)

    def built_at(self, module: nn.Module) -> SourceLine | None:
        return self._before.built_at(module)

    def registered_at(self, tensor: torch.Tensor) -> SourceLine | None:
        return self._before.registered_at(tensor)


def _enabled(configuration: Configuration) -> frozenset[str]:
    """The codes of selected rules. Refuses codes and recipes that there are not, before a model is loaded."""
    enabled = enabled_codes(rules(), configuration.select, configuration.ignore)
    for ignore in configuration.ignores:
        check_prefixes(f"ignores, layer {ignore.layer!r}", ignore.codes, rules())
    for recipe in {configuration.recipe_of(entry) for entry in configuration.models} - {"auto", "none"}:
        declared(recipe)
    return enabled


def _source(loaded: Loaded, target: Path | None) -> Path | str:
    """The target, else the file that the weights came from; where nothing can be written, a note that says why."""
    if isinstance(loaded.model, WeightsAlone):
        return f"nothing was fixed: {NEEDS_CODE}; {loaded.model.hint}"
    if target is not None:
        return target
    if not loaded.files:
        return (
            "nothing was fixed: code builds this model; paste the lines that the findings give into it, "
            "or write repaired weights with --fix-to FILE.safetensors"
        )
    path = loaded.files[-1].path
    try:
        saving.check_output(path, loaded, in_place=True)
    except ArgumentError as error:
        return f"nothing was fixed: {error} (--fix-to FILE.safetensors)"
    return path


def _with_notes(result: CheckResult, *notes: str) -> CheckResult:
    return replace(result, notes=(*result.notes, *notes))


def _in_a_line(error: BaseException) -> str:
    lines = [line.strip() for line in words_of(error).splitlines() if line.strip()]
    said = "; ".join(lines).replace(":; ", ": ")
    return said if isinstance(error, AutoinitError) else f"{type(error).__name__}: {said}"
