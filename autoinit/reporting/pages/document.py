"""What a page shows, as one JSON document, version 1; the page does the rest.

    version         1; a change that could break a reader raises it
    title           of the page
    kinds           [name, what it is called], of what a weight feeds
    models          one object for each model:

        name        as the user calls it
        about       facts, as [title, value]
        failure     why it could not be looked at; else empty
        boxes       modules: {label, path, within (place of the box around it, null for the model), times (for how many
                    alike it stands)}; what is around one stands before it
        ops         the operations that are drawn: {name, op, role, label (its module, from within the box), within
                    (place of the box), reads (places of operations), layers (places of layers)}
        hidden      how many operations carry no signal and are left out
        layers      {name, op, kind, feeds, status, normed, scheme, gain, fan, shape, std, before, after, note, recipe,
                    source, codes (of its findings), walks, signal (null, or see `_signals`)}; numbers that JSON lacks
                    are words; of weights without a model, its tensors
        findings    {code, severity, layer, layers (places), message, fix, where, alike (the others, in words)}
        signal      null, or what the plot shows (see `_signals`)
        notes       sentences

A walk is {rows (of the weight, empty for all), also (whether it is one of several ends), kind, feeds, why (a sentence),
path (names of operations), steps (places of those that are drawn)}: the layer's own, or its slices', then all its ends
where there are several.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from autoinit.checking.findings import Finding
from autoinit.plans.layers import LayerPlan
from autoinit.plans.plan import Plan
from autoinit.recognising.alone import TensorRow
from autoinit.reporting.findings.alike import entries
from autoinit.reporting.findings.locations import spelled
from autoinit.reporting.pages._kinds import KINDS
from autoinit.reporting.pages._layers import (
    mark,
    mark_resolved,
    planned_layer,
    resolved_layer,
    tensor,
    unplanned_layer,
)
from autoinit.reporting.pages._picture import Picture
from autoinit.tensors.measuring import WeightStats
from autoinit.tracing.flow import Flow

VERSION = 1


@dataclass(frozen=True)
class Shown:
    """One model on a page.

    Attributes:
        about: facts, as titles and values.
        flow: its operations.
        plan: what each weight feeds and why; None where it is not known.
        before, after: statistics of the weights by layer name.
        resolutions: what each weight feeds, where there is no plan.
        tensors: of weights without a model.
        moments: of layers by name, as `_signals` has them.
        signal: what the plot shows.
        failure: why it could not be looked at.
    """

    name: str
    about: Sequence[tuple[str, str]] = ()
    flow: Flow | None = None
    plan: Plan | None = None
    before: Mapping[str, WeightStats] = field(default_factory=dict)
    after: Mapping[str, WeightStats] | None = None
    findings: Sequence[Finding] = ()
    resolutions: Sequence[Any] = ()
    tensors: Sequence[TensorRow] = ()
    moments: Mapping[str, Any] = field(default_factory=dict)
    signal: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()
    failure: str = ""


def document(title: str, models: Sequence[Shown]) -> dict[str, Any]:
    """The document of a page."""
    return {
        "version": VERSION,
        "title": title,
        "kinds": list(KINDS.items()),
        "models": [_ShownModel(each).document() for each in models],
    }


@dataclass(frozen=True)
class _ShownModel:
    """One model's part of the document, in the making."""

    shown: Shown

    def document(self) -> dict[str, Any]:
        shown = self.shown
        return {
            "name": shown.name,
            "about": list(map(list, shown.about)),
            "failure": shown.failure,
            "boxes": self.picture.boxes,
            "ops": self.picture.ops,
            "hidden": self.flow.hidden,
            "layers": [
                *self._layers(),
                *(resolved_layer(each, self.picture) for each in shown.resolutions),
                *(unplanned_layer(name, shown.moments[name]) for name in self.unplanned),
                *map(tensor, shown.tensors),
            ],
            "findings": list(self._findings()),
            "signal": shown.signal,
            "notes": list(dict.fromkeys(shown.notes)),
        }

    @cached_property
    def flow(self) -> Flow:
        return self.shown.flow or Flow()

    @property
    def planned(self) -> tuple[LayerPlan, ...]:
        return self.shown.plan.layers if self.shown.plan is not None else ()

    @cached_property
    def unplanned(self) -> list[str]:
        """Layers that have a signal and no plan."""
        planned = {layer.name for layer in self.planned}
        return [name for name in self.shown.moments if name not in planned]

    @cached_property
    def picture(self) -> Picture:
        marks = [mark(layer, self.codes[index]) for index, layer in enumerate(self.planned)]
        marks += map(mark_resolved, self.shown.resolutions)
        return Picture(self.flow, self._used(), [*marks, *[None] * len(self.unplanned)])

    def _used(self) -> Mapping[int, list[int]]:
        """Places of layers by the operation that uses them."""
        found: dict[int, list[int]] = defaultdict(list)
        by_use: dict[str, list[int]] = defaultdict(list)
        known = [*self.planned, *self.shown.resolutions]
        for index, layer in enumerate(known):
            for use in layer.uses:
                by_use[use].append(index)
        by_name = {name: index for index, name in enumerate(self.unplanned, len(known))}
        for place, op in enumerate(self.flow.ops):
            named = (by_name.get(param.removesuffix(".weight")) for param in op.params)
            here = [*by_use.get(op.name, ()), *(each for each in named if each is not None)]
            if here:
                found[place] = here
        return found

    @cached_property
    def named(self) -> dict[str, int]:
        """Places of layers by all names that a finding may have for them."""
        biases = {bias: index for index, layer in enumerate(self.planned) for bias in layer.biases}
        params = {layer.param: index for index, layer in enumerate(self.planned)}
        return biases | params | {layer.name: index for index, layer in enumerate(self.planned)}

    def _layer_of(self, finding: Finding) -> int | None:
        return self.named.get(finding.layer, self.named.get(finding.param))

    @cached_property
    def codes(self) -> Mapping[int, list[str]]:
        """Codes of findings by layer."""
        found: dict[int, list[str]] = defaultdict(list)
        for finding in self.shown.findings:
            at = self._layer_of(finding)
            if at is not None and finding.severity != "info":
                found[at].append(finding.code)
        return found

    def _layers(self) -> Iterator[dict[str, Any]]:
        shown = self.shown
        for index, layer in enumerate(self.planned):
            yield planned_layer(
                layer,
                self.picture,
                self.codes[index],
                shown.before.get(layer.name),
                None if shown.after is None else shown.after.get(layer.name),
                shown.moments.get(layer.name),
            )

    def _findings(self) -> Iterator[dict[str, Any]]:
        for entry in entries(self.shown.findings):
            finding = entry.finding
            layers = dict.fromkeys(self._layer_of(each) for each in (finding, *entry.others))
            yield {
                "code": finding.code,
                "severity": str(finding.severity),
                "layer": finding.layer,
                "layers": [place for place in layers if place is not None],
                "message": finding.message,
                "fix": finding.code_below,
                "where": spelled(finding.location),
                "alike": entry.siblings,
            }
