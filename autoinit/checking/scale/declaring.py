"""Declaring a rule of scale: all such findings begin and end alike, and the rule says in between which fault it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps

from autoinit.checking._subject import Subject
from autoinit.checking._wording import compared, initialise
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.rules.registry import BY_CONSEQUENCE, About, Look, rule
from autoinit.checking.scale.cases import Misfit
from autoinit.checking.scale.deviations import Deviation, deviations
from autoinit.checking.scale.explanation import Explanation, Verdict, never, not_otherwise
from autoinit.errors import RegistrationError

Fault = Callable[["Deviation"], str]
"""What is wrong, as one or two sentences."""


def rule_of_scale(
    code: str,
    name: str,
    *,
    precedence: int,
    verdict: Verdict = never,
    strays: Verdict = never,
    otherwise: Callable[[Misfit], bool] = not_otherwise,
    severity: Severity | None = None,
    also: Look | None = None,
) -> Callable[[Fault], Fault]:
    """Makes a function from a deviation to the sentence about it a rule. Its docstring is the rule's document.

    Args:
        code: permanent.
        name: a few words.
        precedence: see `Explanation`, as for the next three.
        verdict: on a recipe that does not give the planned std.
        strays: the same of rows that are meant to follow a published recipe.
        otherwise: whether it speaks of a misfit about which no verdict does.
        severity: of all its findings, in place of that by consequence.
        also: findings that are no deviation of a weight.

    Raises:
        RegistrationError: the code or the precedence is taken, the function has no docstring, or the rule never speaks.
    """
    if verdict is never and strays is never and otherwise is not_otherwise:
        raise RegistrationError(f"rule {code} ({name}) never speaks: expected a verdict, strays or otherwise")

    def register(fault: Fault) -> Fault:
        @wraps(fault)
        def look(subject: Subject) -> Iterator[Finding]:
            for deviation in subject.once(deviations):
                if deviation.code == code:
                    yield _finding(subject, deviation, fault(deviation), severity or deviation.severity)
            if also is not None:
                yield from also(subject)

        explanation = Explanation(precedence, verdict, strays, otherwise)
        rule(code, name, severity or BY_CONSEQUENCE, About.SCALE, explanation=explanation)(look)
        return fault

    return register


def _finding(subject: Subject, deviation: Deviation, fault: str, severity: Severity) -> Finding:
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
        severity=severity,
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
