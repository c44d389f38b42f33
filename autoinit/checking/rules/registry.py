"""The table of rules. A rule is a file in this room; its function's docstring is all that is said about it anywhere."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING

from autoinit.checking.findings import Finding, Severity
from autoinit.checking.scale.explanation import Explanation
from autoinit.errors import ArgumentError, RegistrationError

if TYPE_CHECKING:
    from autoinit.checking._subject import Subject

Look = Callable[["Subject"], Iterator["Finding"]]

BY_CONSEQUENCE = "by consequence"


class About(Enum):
    """What rules speak of."""

    VALUES = "values"
    """What a weight holds: new values mend it."""
    SCALE = "scale"
    """How large they are: new values mend it; nothing is said of a weight that holds no draw at all."""
    START = "start"
    """Where biases and norms start."""
    USE = "use"
    """What the forward does with a weight."""
    WIDTH = "width"
    """Whether a model follows its base model: asked where one is given."""
    DEPTH = "depth"
    """What becomes of the signal over depth: it is predicted, for which shapes must be known."""


@dataclass(frozen=True)
class Rule:
    """A named fault, how it is found, and all that is said about it.

    Attributes:
        code: permanent.
        name: a few words.
        severity: of its findings, or `by consequence`.
        about: what it speaks of.
        look: yields its findings.
        document: what it is, why it matters, example, what to do, references; Markdown.
        undrawn: whether its findings say that a weight holds no draw at all. Such rules are always asked.
        echoes: whether every signal behind what it finds, and every gradient before it, is an echo of that alone: of a
            model with such a finding, rules about depth say nothing.
        gradients: whether it looks at gradients, which cost a propagation of their own.
        alone: how grave its findings about weights without a model are; None where it needs the graph.
        explanation: of a rule of scale, when it is the one that speaks.
    """

    code: str
    name: str
    severity: Severity | str
    about: About
    look: Look
    document: str
    undrawn: bool = False
    echoes: bool = False
    gradients: bool = False
    alone: Severity | None = None
    explanation: Explanation | None = None


_found: dict[str, Rule] = {}


def rule(
    code: str,
    name: str,
    severity: Severity | str,
    about: About,
    *,
    undrawn: bool = False,
    echoes: bool = False,
    gradients: bool = False,
    alone: Severity | None = None,
    explanation: Explanation | None = None,
) -> Callable[[Look], Look]:
    """Makes a function a rule. Its docstring is the rule's document. For the arguments see `Rule`.

    Raises:
        RegistrationError: the code or the precedence is taken, or the function has no docstring.
    """

    def register(look: Look) -> Look:
        document = inspect.getdoc(look)
        if code in _found:
            raise RegistrationError(f"rule {code} ({name}): the code belongs to {_found[code].name!r} already")
        if not document:
            raise RegistrationError(f"rule {code} ({name}) has no docstring: expected the rule's document")
        if explanation is not None:
            _check_precedence(code, explanation)
        _found[code] = Rule(code, name, severity, about, look, document, undrawn, echoes, gradients, alone, explanation)
        return look

    return register


def _check_precedence(code: str, explanation: Explanation) -> None:
    for other in _found.values():
        if other.explanation is not None and other.explanation.precedence == explanation.precedence:
            raise RegistrationError(
                f"rule {code}: precedence={explanation.precedence} is that of {other.code} already; expected another "
                f"number, lower if {code} is to speak first"
            )


@cache
def rules() -> Mapping[str, Rule]:
    """Every rule by its code, in order of codes."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("ini"):
            importlib.import_module(f"{__package__}.{module.name}")
    return dict(sorted(_found.items()))


def explain(code: str) -> Rule:
    """The rule with a code, in any case.

    Raises:
        ArgumentError: there is none.
    """
    known = rules()
    if code.upper() not in known:
        near = difflib.get_close_matches(code.upper(), known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ArgumentError(f"no rule {code!r}; {hint}there are {', '.join(known)}")
    return known[code.upper()]
