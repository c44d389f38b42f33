"""Findings about scale: all begin and end alike, and say in between which fault it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from autoinit.checking._wording import compared, initialise
from autoinit.checking.findings import Finding, Severity

if TYPE_CHECKING:
    from autoinit.checking._subject import Subject
    from autoinit.checking.scale._deviations import Deviation


def explained_by(subject: Subject, code: str) -> Iterator[Deviation]:
    """The deviations that a rule explains."""
    return (each for each in subject.deviations if each.code == code)


def scale_finding(subject: Subject, deviation: Deviation, fault: str, *, severity: Severity | None = None) -> Finding:
    """A finding about the scale of a weight.

    fault: what is wrong, as one or two sentences. severity: the rule's own, in place of that by consequence.
    """
    layer = deviation.part.layer
    judged = f" by the recipe {deviation.published}" if deviation.published and not deviation.follows else ""
    sentences = [f"{compared(deviation)}{judged}.", fault, deviation.consequence]
    if deviation.follows:
        sentences[2] = f"It follows the recipe {deviation.published}, so this is not an error."
    fix = "" if deviation.follows else initialise(subject, deviation.part, deviation.expected, deviation.rows)
    if fix:
        sentences.append(f"Set: `{fix.splitlines()[0]}`." if "\n" not in fix else "Set the rows as below.")
    return Finding(
        code=deviation.code,
        severity=severity or deviation.severity,
        layer=layer.name,
        param=layer.param,
        message=" ".join(filter(None, sentences)),
        expected_std=deviation.expected,
        actual_std=deviation.actual,
        rows=deviation.rows,
        recipe=deviation.produced,
        fix=fix,
        location=subject.location(layer.param, layer.source),
    )
