"""Deviations: weights whose scale is not the one called for, and which fault explains it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from autoinit.checking.consequences import consequence
from autoinit.checking.findings import Severity
from autoinit.checking.recorded import recorded_recipe
from autoinit.recognising.portrait import spread
from autoinit.recognising.recipes import Recipe

if TYPE_CHECKING:
    from autoinit.checking.subject import Part, Subject
    from autoinit.provenance import Origin

TRUNCATION = 0.8796
"""The std of N(0, 1) cut at two sigma."""
GAIN_TOLERANCE = 0.03
"""Gains and fans that differ by less are the same: leaky_relu(0.2) for relu is no fault."""


@dataclass(frozen=True, eq=False)
class Deviation:
    """A weight, or rows of it, whose std is not the one called for.

    parts: what it is about; several where all of them deviate in one way. expected: the std called for: the plan's, or
    the declared recipe's. ratio: actual over expected, to the nearer end where a range will do.
    code: of the rule that explains it. cause: the recipe that explains it, if one is known; produced: what produced
    the weight, ambiguity said. published: the recipe by whose rules it is judged; follows: it obeys that recipe.
    """

    part: Part
    rows: tuple[tuple[int, int], ...]
    actual: float
    expected: float
    ratio: float
    code: str
    cause: Recipe | None
    produced: str
    severity: Severity
    consequence: str
    published: str = ""
    follows: bool = False


def deviations(subject: Subject) -> tuple[Deviation, ...]:
    """Every deviation beyond noise and tolerance, in order of the dataflow; one for all rows that deviate alike."""
    by_layer: dict[str, list[Deviation]] = {}
    for part in subject.parts:
        found = _deviation(subject, part)
        if found is not None:
            by_layer.setdefault(part.layer.name, []).append(found)
    return tuple(each for found in by_layer.values() for each in _joined(found))


def _deviation(subject: Subject, part: Part) -> Deviation | None:
    low, high = part.scales
    published = subject.published
    allowed = published.stds(part) if published is not None else ()
    follows = bool(allowed) and _ratio(part, _nearest(part, allowed), None, subject.tolerance) is None
    ratio = _ratio(part, low, high, subject.tolerance)
    expected = part.place.std
    if allowed and not follows:
        expected = _nearest(part, allowed)
        ratio = _ratio(part, expected, None, subject.tolerance)
    if ratio is None:
        return None
    origin = subject.origin(part.layer.param)
    recipes = _recipes(part, origin)
    code, cause = _explained(part, recipes, ratio)
    severity, sentence = consequence(part, ratio)
    return Deviation(
        part=part,
        rows=part.rows,
        actual=part.actual,
        expected=expected,
        ratio=ratio,
        code=code,
        cause=cause,
        produced=_produced(part, origin),
        severity="info" if follows else severity,
        consequence=sentence,
        published=published.name if published is not None and allowed else "",
        follows=follows,
    )


def _nearest(part: Part, stds: Sequence[float]) -> float:
    return min(stds, key=lambda std: abs(math.log(std / part.actual)))


def _ratio(part: Part, low: float, high: float | None, tolerance: float) -> float | None:
    """Actual std over the nearer end of the range; None within the range, noise and tolerance allowed for."""
    high = low if high is None else high
    less, more = spread(part.count, max(3.0, part.portrait.kurtosis))
    if part.actual > high * more * (1 + tolerance):
        return part.actual / high
    if part.actual < low * less / (1 + tolerance):
        return part.actual / low
    return None


def _recipes(part: Part, origin: Origin | None) -> Sequence[Recipe]:
    """What could have produced the rows: the recorded call, if it says all, else what statistics allow."""
    recorded = recorded_recipe(origin, part) if origin is not None else None
    return (recorded,) if recorded is not None else part.recognition.recipes


def _produced(part: Part, origin: Origin | None) -> str:
    return str(origin) if origin is not None else str(part.recognition)


def _explained(part: Part, recipes: Sequence[Recipe], ratio: float) -> tuple[str, Recipe | None]:
    """The code of the rule that explains the std, and the recipe by which it does."""
    if part.layer.slices and (whole := _as_one_matrix(recipes)) is not None:
        return "INI107", whole
    for recipe in recipes:
        if recipe.kind == "default":
            return "INI103", recipe
    for recipe in recipes:
        if code := _fault(part, recipe):
            return code, recipe
    return ("INI101" if ratio < 1 else "INI102"), None


def _as_one_matrix(recipes: Sequence[Recipe]) -> Recipe | None:
    """The recipe that scaled a sliced weight as if it were one matrix."""
    return next((each for each in recipes if each.fans == "packed"), None)


def _fault(part: Part, recipe: Recipe) -> str:
    """The code of the one thing that is wrong with a recipe for these rows; empty if that cannot be said."""
    place = part.place
    if recipe.kind == "planned" or (recipe.kind == "absolute" and _uncorrected(part, recipe)):
        return "INI108" if not recipe.corrected else ""
    if recipe.kind == "absolute":
        return "INI109"
    if recipe.factor != 1 or not recipe.mode:
        return ""
    if not _same(recipe.gain, place.gain):
        return "INI105" if place.scheme == "he" else "INI104" if recipe.gain > 1 else ""
    if not recipe.corrected and _same(recipe.std, TRUNCATION * place.std):
        return "INI108"
    return "INI106"


def _uncorrected(part: Part, recipe: Recipe) -> bool:
    return not recipe.corrected and _same(recipe.std, TRUNCATION * part.place.std)


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=GAIN_TOLERANCE)


def _joined(found: Sequence[Deviation]) -> Iterator[Deviation]:
    """Rows of one layer that deviate alike as one; without rows if that is all of the layer."""
    alike: dict[tuple[object, ...], list[Deviation]] = {}
    for each in found:
        alike.setdefault((each.code, each.produced, each.severity, round(math.log(each.ratio), 1)), []).append(each)
    for group in alike.values():
        first = group[0]
        whole = len(group) == max(1, len(first.part.layer.slices))
        if len(group) == 1:
            yield first if not whole else _over(first, group, ())
        else:
            rows = tuple(sorted(run for each in group for run in each.part.rows))
            yield _over(first, group, () if whole else rows)


def _over(first: Deviation, group: Sequence[Deviation], rows: tuple[tuple[int, int], ...]) -> Deviation:
    counts = [each.part.count for each in group]

    def mean(values: Sequence[float]) -> float:
        return math.sqrt(sum(n * v * v for n, v in zip(counts, values, strict=True)) / sum(counts))

    return replace(
        first, rows=rows, actual=mean([each.actual for each in group]), expected=mean([each.expected for each in group])
    )
