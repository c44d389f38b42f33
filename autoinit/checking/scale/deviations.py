"""Deviations: weights whose scale is not the one called for, and which fault explains it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from autoinit.checking._normed_signals import normed
from autoinit.checking._part import Part
from autoinit.checking._subject import Subject
from autoinit.checking.findings import Severity
from autoinit.checking.scale._beside import is_carried_past
from autoinit.checking.scale._causes import cause, explanations
from autoinit.checking.scale._consequences import consequence
from autoinit.checking.scale._nominal import drawn
from autoinit.checking.scale.cases import Misfit
from autoinit.recognising.recipes import Recipe

ALIKE = 1.3
"""Rows of one layer whose std is off by factors no further apart than this share a finding."""


@dataclass(frozen=True, eq=False)
class Deviation:
    """A weight, or rows of it, whose std is not the one called for.

    Attributes:
        part: what it is about, the first of several.
        rows: those it is about; empty for the whole weight.
        actual, expected: root mean squares over all of them; expected is the plan's, or the published recipe's.
        passing: the least and the greatest std that would do.
        ratio: actual over the nearer of these.
        code: of the rule that explains it.
        cause: the recipe by which it does, if one is known.
        produced: what produced the weight, ambiguity said.
        published: the recipe that it was held against.
        follows: it obeys that recipe.
    """

    part: Part
    rows: tuple[tuple[int, int], ...]
    actual: float
    expected: float
    passing: tuple[float, float]
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
    """What is wrong with a part's scale; None if nothing is, or if no value of the parameter could change it.

    A recipe that says something about it decides.
    """
    if part.fixed:
        return None
    published, origin = subject.published, subject.origin(part.layer.param)
    made = drawn(subject, part)
    nearest = published.nearest(part, made.std) if published is not None else None
    strayed = made.ratio(nearest, nearest, subject.tolerance) if nearest is not None else None
    ratio = strayed if strayed is not None else made.ratio(*part.scales, subject.tolerance)
    if ratio is None or (strayed is None and made.is_small_head(subject.tolerance)):
        return None
    recipes = (made.recipe,) if made.recipe is not None else part.recognition.recipes
    expected, passing = part.place.std, part.scales
    if strayed is not None and nearest is not None:
        expected, passing = nearest, (nearest, nearest)
    misfit = Misfit(part, expected, ratio, made.recipe is not None, made.recorded, strays=strayed is not None)
    code, why = cause(misfit, recipes)
    follows = nearest is not None and strayed is None
    open_to_harm = part.normalised and ratio < 1 and not follows and subject.asks(code)
    if ratio < 1 and not part.skipped_over:
        part = replace(part, carried_past=is_carried_past(subject, part))
    exceeds = partial(made.exceeds, ratio)
    severity, sentence = consequence(part, ratio, exceeds, normed(subject, part) if open_to_harm else None)
    return Deviation(
        part=part,
        rows=part.rows,
        actual=part.actual,
        expected=expected,
        passing=passing,
        ratio=ratio,
        code=code,
        cause=why,
        produced=str(origin) if origin is not None else str(part.recognition),
        severity=Severity.INFO if follows else severity,
        consequence=sentence,
        published=published.name if published is not None and nearest is not None else "",
        follows=follows,
    )


def _joined(found: Sequence[Deviation]) -> Iterator[Deviation]:
    """Rows of one layer that deviate alike as one; without rows if that is all of the layer."""
    groups: list[list[Deviation]] = []
    for each in found:
        group = next((group for group in groups if _alike(group[0], each)), None)
        if group is None:
            groups.append([each])
        else:
            group.append(each)
    explained = explanations()
    for group in groups:
        first = min(group, key=lambda each: explained[each.code].precedence)
        whole = len(group) == max(1, len(first.part.layer.slices))
        yield replace(
            first,
            severity=min((each.severity for each in group), key=lambda severity: severity.rank),
            rows=() if whole else tuple(sorted(run for each in group for run in each.part.rows)),
            actual=_mean(group, [each.actual for each in group]),
            expected=_mean(group, [each.expected for each in group]),
            passing=(
                _mean(group, [each.passing[0] for each in group]),
                _mean(group, [each.passing[1] for each in group]),
            ),
        )


def _alike(one: Deviation, other: Deviation) -> bool:
    harmless = one.severity is Severity.INFO, other.severity is Severity.INFO
    same = one.follows == other.follows and harmless[0] == harmless[1]
    return same and 1 / ALIKE < one.ratio / other.ratio < ALIKE


def _mean(group: Sequence[Deviation], stds: Sequence[float]) -> float:
    """The root mean square over the elements of all parts."""
    counts = [each.part.count for each in group]
    return math.sqrt(sum(n * std * std for n, std in zip(counts, stds, strict=True)) / sum(counts))
