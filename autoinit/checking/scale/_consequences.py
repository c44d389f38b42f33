"""Severity by consequence: what a wrong scale does to the signal where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from autoinit.checking._normed_signals import Normed
from autoinit.checking._part import Part
from autoinit.checking.findings import Severity
from autoinit.ops import REGISTRY, Fact

Exceeds = Callable[[float], bool]
"""Whether a std is off by more than a factor, either way, noise and rounding allowed for."""
WARNING_LIMIT = 2.0
"""A std that is off by up to this factor is a warning, beyond it an error."""
BOUNDED_LIMIT = 5.0
"""The same where the harm is bounded, but not absent: in front of a gate."""
NORMED_LIMIT = 10.0
"""The same where a norm comes further on, and sums before it weigh what is added."""


def consequence(part: Part, ratio: float, exceeds: Exceeds, behind: Normed | None = None) -> tuple[Severity, str]:
    """The severity of a std that is `ratio` times the one called for, and what it does, as a sentence.

    exceeds: whether it is off by more than a factor.
    behind: what the norm that the part feeds makes of the signal, where that is known. A norm takes the scale away
    unless its eps outweighs the signal.

    A norm takes the scale away: info; so is an output that starts small, as heads of zeros do on purpose. Off by up to
    a factor of two: warning. Beyond: error, but a warning where the harm is bounded: a branch that is too weak, which
    a skip connection or another branch carries the signal past; a norm further on; a gate; a wave (sin), whose
    frequencies it sets; weights behind or before it that are zero.
    """
    if part.normalised and ratio < 1 and behind is not None and behind.outweighed:
        severity, sentence = _unnormed(replace(part, renormalised=False, faded=False), ratio, exceeds)
        remark = (
            f"{behind.norm} does not restore it, since its eps outweighs it: second moment {behind.q:.2g} after the "
            f"norm, expected {behind.asked:.2g}."
        )
        return severity, f"{sentence} {remark}"
    if part.normalised:
        return Severity.INFO, "A normalisation takes the scale away, so that the forward signal is not harmed."
    return _unnormed(part, ratio, exceeds)


def _unnormed(part: Part, ratio: float, exceeds: Exceeds) -> tuple[Severity, str]:
    """The same where no norm takes the scale away at once."""
    times = f"{_spelled(ratio * ratio)} times"
    if ratio < 1 and (
        (part.final and part.place.reason in ("output", "softmax")) or (part.head and not part.skipped_over)
    ):
        return Severity.INFO, f"The output starts with {times} the power that it could have, which does no harm."
    if part.muted:
        return Severity.WARNING, f"The signal's power is {times} what it should be; all that it feeds starts at zero."
    if part.starved:
        return (
            Severity.WARNING,
            f"The signal's power is {times} what it should be, once the zeros that feed it have left.",
        )
    if ratio < 1 and part.skipped_over:
        return (
            Severity.WARNING,
            f"The branch starts with {times} its share of power; the skip connection carries the rest past.",
        )
    if ratio < 1 and part.carried_past:
        return (
            Severity.WARNING,
            f"The branch starts with {times} its share of power; the other branch of the sum carries the rest past.",
        )
    if part.renormalised or (ratio < 1 and part.faded):
        severity = Severity.ERROR if exceeds(NORMED_LIMIT) else Severity.WARNING
        return severity, f"The signal's power is {times} what it should be, until a norm further on."
    if part.gated:
        severity = Severity.ERROR if ratio > 1 and exceeds(BOUNDED_LIMIT) else Severity.WARNING
        return severity, f"The signal's power is {times} what it should be, on the way to a gate, which is bounded."
    if ratio > 1 and _is_wave(part.place.nonlinearity):
        return (
            Severity.WARNING,
            f"The power of the argument is {times} what it should be; {part.place.nonlinearity} is bounded and does "
            f"not level off, so that this only sets the frequencies.",
        )
    if ratio < 1 and part.final:
        return Severity.WARNING, f"The output starts with {times} the power that it should have."
    effect = "shrinks" if ratio < 1 else "grows"
    sentence = f"Here the signal's power {effect} to {times} what it should be, and layers of this kind multiply."
    return (Severity.ERROR if exceeds(WARNING_LIMIT) else Severity.WARNING), sentence


def _is_wave(nonlinearity: str) -> bool:
    spec = REGISTRY.specs.get(nonlinearity)
    return spec is not None and Fact.BOUNDED | Fact.PERIODIC in spec.facts


def _spelled(power: float) -> str:
    if not 0.001 <= power < 1000:
        return f"{power:.1e}"
    return f"{power:.1f}" if 1 <= power < 10 else f"{float(f'{power:.2g}'):g}"
