"""Several endings into one: what stands when the ways disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autoinit.resolving.resolution import PENALTY, Ending, Reason


def merge(endings: Sequence[Ending]) -> tuple[Ending, tuple[Ending, ...]]:
    """One ending for several, and the alternatives when there are more than one.

    All agree: that one, for the reason found nearest. Otherwise a nonlinearity wins over linear, and of two
    nonlinearities the one with the smaller gain; the reason is then `mixed`. Logits that are returned beside their
    softmax (or loss) are softmax's. What is only ranked is an output. A penalty counts where there is nothing else.
    """
    real = [ending for ending in endings if ending.reason is not Reason.UNUSED]
    real = [ending for ending in real if ending.note != PENALTY] or real
    if not real and endings:
        ranked = endings[0]
        return (replace(ranked, reason=Reason.OUTPUT) if ranked.note else ranked), ()
    if not real:
        return Ending("linear", Reason.UNUSED), ()
    known = [ending for ending in real if ending.reason is not Reason.UNRESOLVED]
    alternatives = tuple(real) if len(real) > 1 else ()
    if not known:
        return real[0], alternatives
    chosen = _chosen(known)
    if len(known) < len(real):
        note = next(ending.note for ending in real if ending.reason is Reason.UNRESOLVED)
        return replace(chosen, reason=Reason.MIXED, note=note), alternatives
    return chosen, alternatives


def _chosen(known: Sequence[Ending]) -> Ending:
    nearest = sorted(known, key=lambda ending: len(ending.path))
    normalised = all(ending.normalised for ending in known)
    if any(ending.reason is Reason.SOFTMAX for ending in nearest):
        nearest = [ending for ending in nearest if ending.reason is not Reason.OUTPUT]
    curved = [ending for ending in nearest if ending.nonlinearity != "linear"]
    if not curved:
        return _as(nearest[0], normalised, nearest[0].reason)
    smallest = min(curved, key=lambda ending: ending.scale)
    agree = len(curved) == len(nearest) and len({_function(ending) for ending in curved}) == 1
    return _as(smallest, normalised, smallest.reason if agree else Reason.MIXED)


def _as(ending: Ending, normalised: bool, reason: Reason) -> Ending:
    same = ending.normalised == normalised and ending.reason is reason
    return ending if same else replace(ending, normalised=normalised, reason=reason)


def _function(ending: Ending) -> object:
    return ending.nonlinearity, tuple(sorted(ending.params.items())), round(ending.scale, 9)
