"""Reports as JSON, version 1.

The document is one object, or an array of such for several reports:

    version     1; a change that could break a reader raises it
    model, parameters, tier, method, residual, recipe, unsupported, warnings, notes   as in `Plan`
    heads, preset   as in `Plan`, where they are not the default
    seed        of the values written; null when nothing was written
    written     whether weights were written
    seconds     in all
    counts      {"planned", "kept", "skipped", "unresolved"}: layers of each status
    layers      one object for each layer, in the plan's order: the fields of `LayerPlan`, and
                before, after: {"numel", "mean", "std", "minimum", "maximum", "zeros", "nonfinite", "sampled"}, or null
                where there was nothing to measure (`after`: where nothing was written)
    rest        what a recipe writes beside the layers' weights: {"name", "shape", "kind", "distribution", "std",
                "mean"}
    others      parameters that the plan does not touch: {"name", "shape", "kind", "note"}

Of weights without a model it has version, model, parameters, written, seconds, notes and

    tensors     one object for each tensor: {"name", "shape", "dtype", "stats", "recipes", "family", "same_as"}; `stats`
                as `before`, `recipes` the most plausible first

Numbers that JSON cannot hold (not a number, infinities) are null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from autoinit.plans.layers import LayerPlan
from autoinit.plans.plan import Report
from autoinit.recognising.alone import WeightsReport
from autoinit.reporting import alone
from autoinit.reporting._rows import status_counts
from autoinit.tensors.measuring import WeightStats

VERSION = 1


def dumps(reports: Sequence[Report | WeightsReport]) -> str:
    """The reports as an indented JSON document: an object for one, an array for several."""
    documents = [json.dumps(_document(report), indent=2, allow_nan=False) for report in reports]
    return documents[0] if len(documents) == 1 else "[\n" + ",\n".join(documents) + "\n]"


def _document(report: Report | WeightsReport) -> dict[str, Any]:
    if isinstance(report, WeightsReport):
        return {"version": VERSION, **_plain(alone.document(report))}
    plan = report.plan
    return {
        "version": VERSION,
        "model": plan.model,
        "parameters": plan.parameters,
        "tier": plan.tier,
        "method": plan.method,
        "residual": plan.residual,
        **plan.later,
        "recipe": plan.recipe,
        "seed": report.seed,
        "written": report.after is not None,
        "seconds": _plain(report.seconds),
        "counts": status_counts(plan),
        "layers": [_layer(layer, report.before, report.after) for layer in plan.layers],
        "rest": _plain(plan.rest),
        "others": _plain(plan.others),
        "unsupported": _plain(plan.unsupported),
        "warnings": list(plan.warnings),
        "notes": _plain(plan.notes),
    }


def _layer(
    layer: LayerPlan, before: Mapping[str, WeightStats], after: Mapping[str, WeightStats] | None
) -> dict[str, Any]:
    measured = {"before": before.get(layer.name), "after": None if after is None else after.get(layer.name)}
    return {**_plain(layer), **_plain(measured)}


def _plain(value: Any) -> Any:
    """Dataclasses, mappings and sequences as what JSON has; non-finite numbers as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
