"""What a weight feeds as one of a few kinds, each with a colour; and why its walk ended there, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from autoinit.reporting import _wording as wording
from autoinit.theory.activations.rectifiers import RECTIFIERS


class Way(Protocol):
    """What a weight feeds: of a plan, a slice, an alternative, a resolution."""

    @property
    def nonlinearity(self) -> str:
        """Torch's name."""

    @property
    def params(self) -> Mapping[str, float]:
        """Its parameters."""

    @property
    def reason(self) -> str:
        """Why it is this one."""

    @property
    def path(self) -> Sequence[str]:
        """Names of the operations walked."""


KINDS: Mapping[str, str] = {
    "rectifier": "a rectifier",
    "smooth": "a smooth nonlinearity",
    "add": "linear before an addition",
    "linear": "linear before another weight",
    "gate": "a gate",
    "attention": "attention",
    "head": "a head: output or softmax",
    "unresolved": "unresolved, or unused",
}
"""The kinds and what they are called."""

_RECTIFIERS = {*(each.name for each in RECTIFIERS), "relu6"}
_BY_REASON = {
    "add": "add",
    "weight": "linear",
    "gate": "gate",
    "attention": "attention",
    "softmax": "head",
    "output": "head",
    "unused": "unresolved",
    "unresolved": "unresolved",
}
_WHY = {
    "activation": "Here {feeds} bends the signal: the std is the one that this nonlinearity calls for.",
    "add": "Here another signal is added, before anything has bent this one: the weight counts as linear.",
    "weight": "The next weight stands here, and nothing in between bends the signal: the weight counts as linear.",
    "gate": "Here two signals are multiplied: one of them is a gate. Only {feeds} lies before that.",
    "attention": "Here signals are multiplied in attention: the weight counts as {feeds}.",
    "softmax": "A softmax ends the way: this is a head, which wants no rectifier's gain.",
    "output": "The model's output ends the way: this is a head, which wants no rectifier's gain.",
    "mixed": "The weight feeds several things that disagree; {feeds} is what it is planned for.",
    "unused": "Nothing that carries the signal on uses what this weight makes.",
    "unresolved": "An operation that autoinit does not know stands here, so that nothing is said of what follows.",
}


def kind_of(fed: Way) -> str:
    """Which of `KINDS`."""
    if fed.reason in _BY_REASON:
        return _BY_REASON[fed.reason]
    if fed.nonlinearity == "linear":
        return "linear"
    return "rectifier" if fed.nonlinearity in _RECTIFIERS else "smooth"


def why(fed: Way) -> str:
    """Why the walk ended where it did."""
    said = _WHY.get(fed.reason, "It feeds {feeds}.").format(feeds=wording.function(fed.nonlinearity, fed.params))
    normed = getattr(fed, "normalised", False)
    return said + (" A norm lies on the way, so that the std matters less." if normed else "")
