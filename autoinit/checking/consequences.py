"""Severity by consequence: what a wrong scale does to the signal where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoinit.checking.findings import Severity

if TYPE_CHECKING:
    from autoinit.checking.subject import Part

WARNING_LIMIT = 2.0
"""A std that is off by up to this factor is a warning, beyond it an error."""


def consequence(part: Part, ratio: float) -> tuple[Severity, str]:
    """The severity of a std that is `ratio` times the one called for, and what it does, as a sentence.

    A norm takes the scale away: info. Off by up to a factor of two: warning. Beyond: error, but a warning where the
    harm is bounded: a branch that is too weak, which the skip connection carries the signal past; an output that starts
    too small, as zero-initialised heads do on purpose; a norm further on; nothing behind it but weights that are zero.
    """
    power = ratio * ratio
    told = f"{_spelled(power)} times"
    if part.normalised:
        return "info", "A normalisation takes the scale away, so that the forward signal is not harmed."
    if part.muted:
        return "warning", f"The signal's power is {told} what it should be; all that it feeds starts at zero."
    if part.skipped_over and ratio < 1:
        return (
            "warning",
            f"The branch starts with {told} its share of power; the skip connection carries the rest past.",
        )
    if part.renormalised:
        return "warning", f"The signal's power is {told} what it should be, until a norm further on."
    if part.final and ratio < 1:
        return "warning", f"The output starts with {told} the power that it should have."
    effect = "shrinks" if ratio < 1 else "grows"
    sentence = f"Here the signal's power {effect} to {told} what it should be, and layers of this kind multiply."
    return ("error" if max(ratio, 1 / ratio) > WARNING_LIMIT else "warning"), sentence


def _spelled(power: float) -> str:
    if not 0.001 <= power < 1000:
        return f"{power:.1e}"
    return f"{power:.1f}" if power >= 1 else f"{power:.2g}"
