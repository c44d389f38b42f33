"""Truth models on the CPU, and checks of them that trace and plan once for any number of weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import torchvision
from torch import nn

from autoinit.checking._subject import Subject
from autoinit.checking.checker import rule_findings
from autoinit.checking.findings import Finding
from autoinit.checking.recipes import recognised
from autoinit.recognising.portrait import Portrait, portray
from tests.truth import Case
from tests.truth.vision_tables import build


def constructed(case: Case) -> nn.Module:
    """A truth model as its constructor leaves it, on the CPU."""
    make = case.build
    if isinstance(make, partial) and make.func is build:
        model: nn.Module = getattr(torchvision.models, make.args[0])(**make.keywords)
        return model
    return case.build()


def portraits(subject: Subject, names: Iterable[str]) -> dict[str, Portrait]:
    """What some weights look like now. None of a truth model's is parametrised."""
    found: dict[str, Portrait] = {}
    for name in names:
        layer = subject.plan[name]
        portrait = portray(subject.parameters[layer.param].detach(), layer.axes)
        assert portrait is not None
        assert not layer.reparam
        found[name] = portrait
    return found


def seen_anew(subject: Subject, names: Iterable[str] | None = None) -> Subject:
    """The subject after its model's weights changed, all of them or those of some layers; none to or from zero."""
    changed = portraits(subject, subject.plan if names is None else names)
    return replace(subject, portraits={**subject.portraits, **changed})


def findings(subject: Subject) -> tuple[Finding, ...]:
    """What `check` finds with its default arguments, in the order of the rules."""
    published = recognised(subject.parts)
    return tuple(rule_findings(subject if published is None else replace(subject, published=published)))
