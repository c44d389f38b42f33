"""One model as its library ships it: constructed with its own weights, checked, run, and both held together."""

import re
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

import torch
from _libraries import NotConstructibleError, construct, shipped
from _signals import Moments, NotRunError, second_moments
from _steps import Record, TimeUpError, limited

import autoinit
from autoinit.checking._part import Part
from autoinit.checking._subject import Subject, subject
from autoinit.checking.checker import check
from autoinit.checking.findings import CheckResult, Finding
from autoinit.errors import AutoinitError
from autoinit.models import ModelView
from autoinit.plans.layers import LayerPlan, SlicePlan
from autoinit.tracing import trace

SEED = 0
Made = TypeVar("Made")


def audit(library: str, name: str, *, limit: float, most: int, batch: int, recorded: bool, recipe: str) -> Record:
    """One model's findings beside its measured signal; or why there are none.

    Args:
        library: one of `LIBRARIES`.
        name: of the architecture.
        limit: seconds for the construction and check, and again for the forward.
        most: parameters; larger models are passed over.
        batch: of the forward.
        recorded: whether the construction is recorded.
        recipe: as `check` takes it.
    """
    record: Record = {"library": library, "name": name}
    try:
        with limited(limit):
            record["parameters"] = sum(each.numel() for each in construct(library, name)[0].parameters())
            if record["parameters"] > most:
                return {**record, "state": "too large"}
            torch.manual_seed(SEED)
            with autoinit.recording() if recorded else nullcontext() as log:
                model = shipped(library, name)
            record["plan_seconds"], _ = _timed(lambda: autoinit.plan(model))
            record["check_seconds"], result = _timed(lambda: check(model, recipe=recipe, provenance=log, name=name))
            looked_at = subject(ModelView.of(model), trace(model), name=name)
    except TimeUpError:
        return {**record, "state": "failed", "kind": "timeout", "cause": f"took longer than {limit:g} s"}
    except NotConstructibleError as error:
        return {**record, "state": "not constructible", "kind": "library", "cause": str(error)}
    except AutoinitError as error:
        return {**record, "state": "failed", "kind": type(error).__name__, "cause": str(error)}
    except Exception as error:  # noqa: BLE001 - a fault of autoinit, listed like any other failure
        at = traceback.extract_tb(error.__traceback__)[-1]
        cause = f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}: {error}"
        return {**record, "state": "failed", "kind": "fault", "cause": cause}
    moments: Mapping[str, Moments] = {}
    try:
        with limited(limit):
            moments, record["input"] = second_moments(model, batch)
    except TimeUpError:
        record["not_run"] = f"the forward took longer than {limit:g} s"
    except NotRunError as error:
        record["not_run"] = str(error)
    return {**record, "state": "checked", **described(result, looked_at, moments)}


def _timed(work: Callable[[], Made]) -> tuple[float, Made]:
    start = time.perf_counter()
    made = work()
    return time.perf_counter() - start, made


def described(result: CheckResult, looked_at: Subject, moments: Mapping[str, Moments]) -> Record:
    """All that the tables are made of: a record for each finding and for each layer."""
    parts: dict[str, list[Part]] = {}
    for part in looked_at.parts:
        parts.setdefault(part.layer.name, []).append(part)
    return {
        "recipe": result.recipe,
        "notes": list(result.notes),
        "findings": [_finding(each, parts.get(each.layer, []), looked_at, moments) for each in result.findings],
        "layers": [
            _layer(each, result, parts.get(each.name, []), looked_at, moments) for each in looked_at.plan.layers
        ],
    }


def _finding(finding: Finding, parts: Sequence[Part], looked_at: Subject, moments: Mapping[str, Moments]) -> Record:
    layer = looked_at.plan.get(finding.layer)
    about = [part for part in parts if set(part.rows) & set(finding.rows)] or list(parts)
    place = about[0].place if about else layer
    actual, expected = finding.actual_std, finding.expected_std
    return {
        "code": finding.code,
        "severity": finding.severity,
        "layer": finding.layer,
        "pattern": pattern(finding.layer),
        "feeds": feeds(place) if place is not None else "",
        "produced": re.sub(r" at \S+:\d+$", "", finding.recipe),
        "ratio": actual / expected if actual and expected else None,
        "message": finding.message,
        "at": str(finding.location or ""),
        **(_measured(about, looked_at, moments) if about_scale(finding.code) else {}),
    }


def _layer(
    layer: LayerPlan, result: CheckResult, parts: Sequence[Part], looked_at: Subject, moments: Mapping[str, Moments]
) -> Record:
    """The gravest finding about its scale, and what it does."""
    found = [each for each in result.findings if each.layer == layer.name and about_scale(each.code)]
    gravest = min(found, key=lambda each: each.severity.rank, default=None)
    rows = set(gravest.rows) if gravest is not None else set()
    about = [part for part in parts if set(part.rows) & rows] or list(parts)
    clean = f"none, {layer.status}" if layer.status != "planned" else "none, by recipe" if result.recipe else "none"
    return {
        "name": layer.name,
        "op": layer.op,
        "feeds": feeds(layer),
        "worst": gravest.severity if gravest is not None else clean,
        **_measured(about, looked_at, moments),
    }


def about_scale(code: str) -> bool:
    """Whether a rule speaks of a weight's values, and so of what it makes of the signal."""
    return code.startswith(("INI0", "INI10"))


def _measured(parts: Sequence[Part], looked_at: Subject, moments: Mapping[str, Moments]) -> Record:
    """Second moments before and after the rows of these parts, and the power gain over the nearest that would do."""
    seen = moments.get(parts[0].layer.param) if parts else None
    if seen is None or not seen.entering > 0:
        return {}
    rows = tuple(run for part in parts for run in part.rows)
    count = seen.leaving.numel()
    if any(stop > count for _, stop in rows):
        rows = ()  # used in pieces: the moments are those of a piece
    bias = _bias_power([looked_at.parameters[each] for each in parts[0].layer.biases], rows, count)
    leaving = seen.out(rows)
    total = sum(part.count for part in parts)
    ends = zip(*((part.scales[0], part.scales[1]) for part in parts), strict=True)
    low, high = (
        sum(part.count * std**2 * part.place.fan_in for part, std in zip(parts, end, strict=True)) / total
        for end in ends
    )
    by_weight = max(leaving - bias, 0.0) / seen.entering
    gain = by_weight / min(max(by_weight, low), high)
    dominated = bias > leaving / 2
    return {"entering": seen.entering, "leaving": leaving, **({} if dominated else {"gain": gain})}


def _bias_power(biases: Sequence[torch.Tensor], rows: tuple[tuple[int, int], ...], count: int) -> float:
    """The second moment that biases add to these rows."""
    fitting = [bias.detach().float() for bias in biases if bias.numel() == count]
    chosen = [bias[start:stop] for bias in fitting for start, stop in rows] if rows else fitting
    return float(torch.cat(chosen).square().mean()) if chosen else 0.0


def feeds(place: LayerPlan | SlicePlan) -> str:
    """What a layer feeds, in a word or two; `*` where a norm takes its scale away."""
    fed = place.nonlinearity if place.reason in ("activation", "mixed") else place.reason
    return f"{fed} *" if place.normalised else fed


def pattern(layer: str) -> str:
    """The last two parts of a name, numbers as `#`."""
    return ".".join(re.sub(r"\d+", "#", part) for part in layer.split(".")[-2:])


def origin(produced: str) -> str:
    """What produced a weight, with `x` for numbers of more than one digit that depend on its size."""
    return re.sub(r"\b\d+\.0*[1-9]\d+(e-?\d+)?\b", "x", produced)


def kinds(findings: Iterable[tuple[str, Record]]) -> list[Record]:
    """Findings of one rule, severity, pattern, place and origin together, the most frequent first.

    Args:
        findings: the model of each, and its record.
    """
    groups: dict[tuple[str, ...], list[tuple[str, Record]]] = {}
    for model, each in findings:
        key = (*(each[name] for name in ("code", "severity", "pattern", "feeds")), origin(each["produced"]))
        groups.setdefault(key, []).append((model, each))
    found = []
    for (code, severity, named, fed, produced), members in groups.items():
        model, first = members[0]
        found.append(
            {
                "code": code,
                "severity": severity,
                "pattern": named,
                "feeds": fed,
                "produced": produced,
                "count": len(members),
                "models": len({name for name, _ in members}),
                "ratio": _median([each["ratio"] for _, each in members if each["ratio"] is not None]),
                "gain": _median([each["gain"] for _, each in members if "gain" in each]),
                "leaving": _median([each["leaving"] for _, each in members if "leaving" in each]),
                "example": f"{model} {first['layer']}",
                "message": first["message"],
                "at": first["at"],
            }
        )
    return sorted(found, key=lambda each: (each["code"], -each["count"]))


def _median(values: list[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None
