"""`check`: a model's weights held against what the dataflow calls for."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import NoneType
from typing import Any

from autoinit.checking._by_signal import held_by_signal
from autoinit.checking._mirrored import held_as_mirrored
from autoinit.checking._signals import few_samples
from autoinit.checking._subject import Subject, subject
from autoinit.checking.alone import as_alone, askable, weights_notes, weights_subject
from autoinit.checking.base_model import Groups, followed_base
from autoinit.checking.findings import CheckResult, Finding, Severity
from autoinit.checking.recipes import Published, published, recognised
from autoinit.checking.rules.registry import About, rules
from autoinit.checking.selecting import Ignore, enabled_codes
from autoinit.checking.selecting import select as selected
from autoinit.errors import ArgumentError, TraceError
from autoinit.errors.arguments import all_of, refusal, require, texts
from autoinit.models import Model, ModelView
from autoinit.models.alone import StateDict, WeightsAlone, require_no_plan
from autoinit.plans.plan import Report
from autoinit.provenance import Recording
from autoinit.tensors.process_state import collector_paused, tensors_on_cpu
from autoinit.tracing.dataflow import Dataflow
from autoinit.tracing.tiers import trace_view
from autoinit.writing.trained import training_signs


def check(
    model: Model | StateDict,
    example_inputs: Any = None,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    ignores: Sequence[Ignore] = (),
    fail_level: str = "error",
    recipe: str = "auto",
    tolerance: float = 0.10,
    provenance: Recording | None = None,
    base: Model | None = None,
    optimizer: Groups | None = None,
    name: str = "",
) -> CheckResult:
    """Hold a model's weights against what its dataflow calls for. Changes nothing.

        >>> import torch.nn as nn
        >>> model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256))
        >>> [finding.code for finding in check(model).findings if finding.severity == "error"]
        ['INI103']

    Args:
        model: a module or a `torch.export.ExportedProgram`, with its weights as they are before training; or a state
            dict, of which only the rules that need no graph speak.
        example_inputs: a tensor, a tuple of arguments, a dict of keyword arguments, or a shape. Needed only for the
            rules of INI4, which ask for shapes. Of a batch of many samples, the first 16 are enough for them.
        select: prefixes of rule codes to report; all by default. One that begins with INI4 has an input guessed, if
            none is given.
        ignore: prefixes of rule codes to leave out.
        ignores: rule codes to leave out at some layers, each with its reason.
        fail_level: `error`, `warning` or `info`: what makes `ok` false.
        recipe: a published recipe that the weights are meant to follow (`gpt2`, `trunc_normal(0.02)`, ...); `auto`
            recognises one that the whole model follows, `none` judges by the dataflow alone.
        tolerance: how far a std may be from the one called for, beyond the sampling error of the layer's size.
        provenance: what `recording()` noted while the model was built.
        base: the narrower model (or one with fewer blocks) that this one is to follow, as `scaling` has it: the rules
            of INI5 hold stds and learning rates against it.
        optimizer: that trains the model, or its param groups, for the learning rates. Needs `base`.
        name: of the model, for the findings; its class by default.

    Raises:
        TraceError: the model could not be traced.
        ArgumentError: an argument has no meaning.
        PlanError: the base is another architecture.
    """
    started = time.perf_counter()
    level = Severity.of(fail_level)
    select, ignore = texts("select", select), texts("ignore", ignore)
    ignores = all_of("ignores", ignores, Ignore, "a sequence of Ignore")
    _require_sense(recipe, tolerance, provenance, base, optimizer, name)
    given = published(recipe) if recipe not in ("auto", "none") else None
    codes = enabled_codes(rules(), select, ignore)
    shapes = any(_all_about_depth(prefix) for prefix in select)
    with collector_paused(), tensors_on_cpu():
        if isinstance(model, Mapping | WeightsAlone):
            weights = WeightsAlone.of(model)
            require_no_plan(weights, example_inputs=example_inputs, base=base)
            looked_at = weights_subject(weights, name, askable(codes))
        else:
            view = ModelView.of(model, gathered=True)
            looked_at = subject(
                view,
                _traced(view, example_inputs, shapes=shapes),
                name=name,
                provenance=provenance,
                tolerance=tolerance,
                codes=codes,
                gradients=any(rules()[code].gradients for code in codes),
            )
            if recipe == "auto":
                looked_at = held_as_mirrored(looked_at, known_inputs=example_inputs is not None)
                looked_at = looked_at if looked_at.plan.method == "mirrored" else held_by_signal(looked_at)
            if base is not None:
                looked_at = replace(looked_at, base=followed_base(view, base, optimizer, example_inputs))
            followed = recognised(looked_at.parts) if recipe == "auto" else given
            looked_at = looked_at.held_against(followed, declared=followed is not None and given is not None)
        findings = _ordered(looked_at, as_alone(looked_at, rule_findings(looked_at, looked_at.codes)))
    selection = selected(
        findings, select=select, ignore=ignore, ignores=ignores, model=looked_at.name, known=tuple(rules())
    )
    return CheckResult(
        model=looked_at.name,
        findings=selection.kept,
        suppressed=selection.suppressed,
        unused_ignores=selection.unused_ignores,
        fail_level=level,
        layers=len(looked_at.portraits),
        recipe=_told(looked_at.published, recipe),
        notes=(
            *weights_notes(looked_at, recipe),
            *_notes(looked_at, findings, recipe),
            *_notes_on_depth(looked_at, findings, asked=shapes),
        ),
        seconds=time.perf_counter() - started,
        report=Report(looked_at.plan, {name: each.stats for name, each in looked_at.portraits.items()}),
    )


def _require_sense(recipe: Any, tolerance: Any, provenance: Any, base: Any, optimizer: Any, name: Any) -> None:
    """Refuse arguments without a meaning."""
    require("recipe", recipe, str, "a recipe, auto or none")
    require("name", name, str, "a text")
    require("provenance", provenance, (Recording, NoneType), "what recording() gave")
    require("tolerance", tolerance, (int, float), "a fraction between 0 and 1, such as 0.1")
    if not 0 < tolerance < 1:
        raise refusal("tolerance", tolerance, "a fraction between 0 and 1, such as 0.1")
    if optimizer is not None and base is None:
        raise ArgumentError("optimizer= is held against base=, the model whose learning rate was tuned: pass both")


def _traced(view: ModelView, example_inputs: Any, *, shapes: bool) -> Dataflow:
    """The dataflow; with shapes, if they are asked for and a forward can be recorded."""
    few = few_samples(view.module, example_inputs) if view.has_modules and example_inputs is not None else None
    if few is not None:
        with suppress(TraceError):  # it may take no other batch: then it is traced with the one that it is given
            return trace_view(view, few, tier="recorded")
    dataflow = trace_view(view, example_inputs)
    unshaped = shapes and view.has_modules and not dataflow.knows_shapes
    return trace_view(view, tier="recorded") if unshaped else dataflow


def _all_about_depth(prefix: str) -> bool:
    """Whether a prefix of codes selects rules about depth, and no others."""
    topics = {rule.about for code, rule in rules().items() if code.startswith(prefix.upper())}
    return topics == {About.DEPTH}


def rule_findings(looked_at: Subject, codes: Collection[str] | None = None) -> Iterator[Finding]:
    """What the rules find.

    Of weights that hold no draw at all nothing is said about scale; and nothing about depth, where all signals would be
    the echo of values that mean nothing.

    codes: of the rules to ask; all by default. Those that tell whether there is a draw at all are always asked.
    """
    broken: set[str] = set()
    echoing = False
    for code, rule in rules().items():
        if codes is not None and code not in codes and not rule.undrawn:
            continue
        if echoing and rule.about is About.DEPTH:
            continue
        for finding in rule.look(looked_at):
            echoing |= rule.echoes
            if rule.undrawn:
                broken.add(finding.layer)
            if not (rule.about is About.SCALE and finding.layer in broken):
                yield finding


def _ordered(looked_at: Subject, findings: Iterator[Finding]) -> tuple[Finding, ...]:
    """In order of the dataflow, what is no layer's last; the gravest first where there are several."""
    place = {layer.name: number for number, layer in enumerate(looked_at.plan.layers)}
    place |= {layer.param: number for number, layer in enumerate(looked_at.plan.layers)}
    place |= {bias: number for number, layer in enumerate(looked_at.plan.layers) for bias in layer.biases}
    last = len(looked_at.plan.layers)

    def key(finding: Finding) -> tuple[int, int, str]:
        at = place.get(finding.layer, place.get(finding.param, last))
        return at, finding.severity.rank, finding.code

    return tuple(sorted(findings, key=key))


def _told(published: Published | None, recipe: str) -> str:
    if published is None:
        return ""
    return published.name if recipe != "auto" else f"{published.name} (recognised)"


def _notes_on_depth(looked_at: Subject, findings: Sequence[Finding], *, asked: bool) -> Iterator[str]:
    """What is said where rules about depth found nothing since they had nothing to look at."""
    if not any(rules()[code].about is About.DEPTH for code in looked_at.codes or ()):
        return
    heard = next((each for each in findings if rules()[each.code].echoes), None)
    if heard is not None and (asked or looked_at.dataflow.knows_shapes):
        yield f"nothing is said about depth (INI4) until {heard.layer} is mended: all signals would be its echo"
        return
    if not looked_at.predicted:
        return
    prediction = looked_at.prediction
    if prediction.report is None and (asked or prediction.failed):
        yield f"the signal was not propagated, so that nothing is said about depth (INI4): {prediction.why}"


def _notes(looked_at: Subject, findings: Sequence[Finding], recipe: str) -> Iterator[str]:
    yield from (*looked_at.plan.warnings, *looked_at.plan.notes)
    published = looked_at.published
    if published is not None and recipe == "auto":
        yield (
            f"nearly all weights follow the recipe {published.name} ({published.reference}): they are held against it. "
            f"recipe='none' judges by the dataflow alone."
        )
    without = [layer.name for layer in looked_at.plan.layers if layer.name not in looked_at.portraits]
    if without:
        weights = "1 weight has" if len(without) == 1 else f"{len(without)} weights have"
        yield f"{weights} no real values to look at (meta device, complex numbers), such as {without[0]}"
    off = looked_at.weights is not None or any(rules()[each.code].about is About.SCALE for each in findings)
    evidence = training_signs(looked_at.view, looked_at.plan, weights=off)
    if evidence.strong:
        yield (
            f"the model looks trained ({evidence.strong[0]}): findings about scale and outliers are for weights "
            "before training"
        )
