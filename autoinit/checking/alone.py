"""Weights without a model, as rules look at them: no operation, each tensor by itself."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import replace

import networkx as nx
import torch.fx

from autoinit.checking._subject import Subject, portraits_of
from autoinit.checking.findings import Finding
from autoinit.checking.rules.registry import rules
from autoinit.models import ModelView
from autoinit.models.alone import NEEDS_CODE, WeightsAlone
from autoinit.plans.layers import LayerPlan
from autoinit.plans.plan import Plan
from autoinit.recognising.alone import guessed_layers, layout_of
from autoinit.resolving import Ending, Reason, Resolution
from autoinit.tracing.dataflow import Dataflow


def weights_subject(weights: WeightsAlone, name: str, codes: Collection[str]) -> Subject:
    """What rules look at of a state dict. Reads every weight once; changes nothing."""
    view = ModelView.of(weights)
    layers = guessed_layers(view)
    total = sum(math.prod(each.shape) for each in view.parameters.values())
    made = Plan(layers, name or "state dict", total, "no")
    return Subject(
        name=made.model,
        view=view,
        dataflow=Dataflow(nx.DiGraph(), "symbolic", torch.fx.Graph()),
        resolutions={layer.name: _unresolved(layer) for layer in layers},
        plan=made,
        portraits=portraits_of(view, made),
        codes=frozenset(codes),
        weights=weights,
    )


def askable(codes: Collection[str]) -> frozenset[str]:
    """Those of some rules that need no graph."""
    return frozenset(code for code in codes if rules()[code].alone is not None)


def as_alone(looked_at: Subject, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Findings about weights without a model, as grave as they are where no graph tells what may excuse them."""
    for finding in findings:
        least = rules()[finding.code].alone if looked_at.weights is not None else None
        graver = least is not None and finding.severity.rank < least.rank
        yield replace(finding, severity=least) if least is not None and graver else finding


def weights_notes(looked_at: Subject, recipe: str) -> Iterator[str]:
    """What a reader should know of a check without a graph."""
    if looked_at.weights is None:
        return
    asked = ", ".join(sorted(looked_at.codes or ())) or "no rule"
    yield f"weights without a model: {asked} can judge them; {NEEDS_CODE}; {looked_at.weights.hint}"
    if recipe not in ("auto", "none"):
        yield f"nothing is held against the recipe {recipe}: which weight is which, the code tells"


def _unresolved(layer: LayerPlan) -> Resolution:
    return Resolution(
        name=layer.name,
        param=layer.param,
        op=layer.op,
        shape=layer.shape,
        layout=layout_of(layer),
        ending=Ending("linear", Reason.UNRESOLVED),
        alternatives=(),
        slices=(),
        biases=layer.biases,
        uses=(),
        source=None,
        transform=(),
        factor=1.0,
        input_factor=1.0,
        modulated=False,
    )
