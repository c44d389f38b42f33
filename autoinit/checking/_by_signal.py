"""Models that `method="signal"` started: weights are held against that plan, not against each layer's own place."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from autoinit.checking._mirrored import as_recorded, has_small_heads
from autoinit.checking._part import Part
from autoinit.checking._subject import Subject
from autoinit.checking.recipes import recognised
from autoinit.errors import AutoinitError
from autoinit.methods.table import METHODS, complete
from autoinit.planning.heads import with_heads
from autoinit.plans.options import Heads, Residual
from autoinit.recognising.noise import spread

_FEWEST = 6
"""Weights; the stds of fewer agree by chance."""
_MOST_FOLLOW, _MORE_THAN_PLACES = 0.8, 0.2
"""Shares of the weights: those with the plan's stds, and by how much they outnumber those with the stds of places."""


def held_by_signal(looked_at: Subject) -> Subject:
    """The same model held against the plan by `signal`, if nearly all of its weights have that plan's stds.

    It is tried where some weights have not the std of their place and no published recipe tells why, and taken where
    clearly more weights have its stds than have those of their places, or all have. What padding takes depends on the
    size of the input: a std within the tolerance of that at the size traced is the plan's.
    """
    near, count = _near(looked_at), len(_drawn(looked_at))
    least = min(count, max(near + _MORE_THAN_PLACES * count, _MOST_FOLLOW * count))
    if count < _FEWEST or near == count or recognised(looked_at.parts):
        return looked_at
    heads: Heads = "small" if has_small_heads(looked_at.parts) else "xavier"
    branches = any(part.branches > 1 for part in looked_at.parts)
    ways: Sequence[Residual] = ("keep", "depth") if branches else ("keep",)
    with suppress(AutoinitError):  # what cannot be recorded, or propagated, has no plan by signal
        here = as_recorded(looked_at)
        for residual in ways:
            tried = _against(here, heads, residual)
            if _near(tried) >= least:
                return tried
    return looked_at


def _against(looked_at: Subject, heads: Heads, residual: Residual) -> Subject:
    options = complete({"method": "signal", "heads": heads, "residual": residual})
    made = METHODS["signal"].plan(looked_at.view, looked_at.dataflow, options, None)
    return replace(looked_at, plan=replace(with_heads(made, looked_at.dataflow, heads), model=looked_at.plan.model))


def _drawn(looked_at: Subject) -> list[Part]:
    """The weights whose scale a plan chooses."""
    return [part for part in looked_at.parts if not part.fixed and not part.facts.standardised]


def _near(looked_at: Subject) -> int:
    """How many of them have the plan's std, within noise and the tolerance."""
    found = 0
    for part in _drawn(looked_at):
        less, more = spread(part.count)
        off = part.actual / part.place.std
        found += less * (1 - looked_at.tolerance) <= off <= more * (1 + looked_at.tolerance)
    return found
