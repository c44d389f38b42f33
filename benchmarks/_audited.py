"""One model as its library ships it: constructed with its own weights, checked, run, and both held together."""

import re
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

import torch
from _libraries import NotConstructibleError, construct, shipped
from _signals import Moments, NotRunError, second_moments
from _steps import Record, TimeUpError, limited

import autoinit
from autoinit.checking.checker import check
from autoinit.checking.findings import SEVERITIES, CheckResult, Finding
from autoinit.errors import AutoinitError
from autoinit.plans import LayerPlan, Plan, SlicePlan

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
            record["plan_seconds"], made = _timed(lambda: autoinit.plan(model))
            record["check_seconds"], result = _timed(lambda: check(model, recipe=recipe, provenance=log, name=name))
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
    return {**record, "state": "checked", **described(result, made, moments)}


def _timed(work: Callable[[], Made]) -> tuple[float, Made]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def described(result: CheckResult, made: Plan, moments: Mapping[str, Moments]) -> Record:
    """All that the tables are made of: a record for each finding and for each layer."""
    return {
        "recipe": result.recipe,
        "notes": list(result.notes),
        "findings": [_finding(each, made, moments) for each in result.findings],
        "layers": [_layer(each, result, moments) for each in made.layers],
    }


def _finding(finding: Finding, made: Plan, moments: Mapping[str, Moments]) -> Record:
    layer = made.get(finding.layer)
    place = _place(layer, finding.rows) if layer is not None else None
    scale = about_scale(finding.code)
    return {
        "code": finding.code,
        "severity": finding.severity,
        "layer": finding.layer,
        "pattern": pattern(finding.layer),
        "feeds": feeds(place) if place is not None else "",
        "produced": re.sub(r" at \S+:\d+$", "", finding.recipe),
        "ratio": finding.actual_std / finding.expected_std
        if scale and finding.actual_std and finding.expected_std
        else None,
        "message": finding.message,
        "at": str(finding.location or ""),
        **(_measured(layer, finding.rows, moments) if layer is not None and scale else {}),
    }


def _layer(layer: LayerPlan, result: CheckResult, moments: Mapping[str, Moments]) -> Record:
    """The gravest finding about its scale, and what it does."""
    found = [each for each in result.findings if each.layer == layer.name and about_scale(each.code)]
    gravest = min(found, key=lambda each: SEVERITIES.index(each.severity), default=None)
    return {
        "name": layer.name,
        "op": layer.op,
        "feeds": feeds(layer),
        "status": layer.status,
        "worst": gravest.severity if gravest is not None else "none",
        **_measured(layer, gravest.rows if gravest is not None else (), moments),
    }


def about_scale(code: str) -> bool:
    """Whether a rule speaks of a weight's values, and so of what it makes of the signal."""
    return code.startswith(("INI0", "INI10"))


def _measured(layer: LayerPlan, rows: tuple[tuple[int, int], ...], moments: Mapping[str, Moments]) -> Record:
    """Second moments before and after, and the power gain over the planned one.

    The planned one is the nearer end of what is as good: for Xavier, fan_in or the average of the fans.
    """
    seen = moments.get(layer.param)
    if seen is None or not seen.entering > 0:
        return {}
    place = _place(layer, rows)
    whole = seen.leaving.numel()
    fits = bool(rows) and max(stop for _, stop in rows) <= whole
    leaving = seen.out(rows) if fits else seen.out()
    std = place.std if fits else layer.std
    stds = [std] + ([place.gain / place.fan_in**0.5] if place.scheme == "xavier" and place.mode == "fan_avg" else [])
    powers = sorted(each**2 * place.fan_in for each in stds)
    gain = leaving / seen.entering
    nearest = min(max(gain, powers[0]), powers[-1])
    return {"entering": seen.entering, "leaving": leaving, "gain": gain / nearest}


def _place(layer: LayerPlan, rows: tuple[tuple[int, int], ...]) -> LayerPlan | SlicePlan:
    """The slice that rows belong to, or the layer."""
    return next((each for each in layer.slices if set(each.rows) & set(rows)), layer)


def feeds(place: LayerPlan | SlicePlan) -> str:
    """What a layer feeds, in a word or two; `*` where a norm takes its scale away."""
    fed = place.nonlinearity if place.reason in ("activation", "mixed") else place.reason
    return f"{fed} *" if place.normalised else fed


def pattern(layer: str) -> str:
    """The last two parts of a name, numbers as `#`."""
    return ".".join(re.sub(r"\d+", "#", part) for part in layer.split(".")[-2:])


def kinds(findings: Iterable[tuple[str, Record]]) -> list[Record]:
    """Findings of one rule, severity, pattern, place and origin together, the most frequent first.

    Args:
        findings: the model of each, and its record.
    """
    groups: dict[tuple[str, ...], list[tuple[str, Record]]] = {}
    for model, each in findings:
        key = tuple(each[name] for name in ("code", "severity", "pattern", "feeds", "produced"))
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
