"""The table of rules. A rule is a file in this room; its function's docstring is all that is said about it anywhere."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from autoinit.errors import ArgumentError, RegistrationError

if TYPE_CHECKING:
    from autoinit.checking._subject import Subject
    from autoinit.checking.findings import Finding

Look = Callable[["Subject"], Iterator["Finding"]]

BY_CONSEQUENCE = "by consequence"


@dataclass(frozen=True)
class Rule:
    """A named fault, how it is found, and all that is said about it.

    code: permanent. name: a few words. severity: `error`, `warning`, `info` or `by consequence`.
    document: what it is, why it matters, example, what to do, references; Markdown.
    """

    code: str
    name: str
    severity: str
    look: Look
    document: str


_found: dict[str, Rule] = {}


def rule(code: str, name: str, severity: str) -> Callable[[Look], Look]:
    """Makes a function a rule. Its docstring is the rule's document.

    Raises:
        RegistrationError: the code is taken, or the function has no docstring.
    """

    def register(look: Look) -> Look:
        document = inspect.getdoc(look)
        if code in _found:
            raise RegistrationError(f"rule {code} ({name}): the code belongs to {_found[code].name!r} already")
        if not document:
            raise RegistrationError(f"rule {code} ({name}) has no docstring: expected the rule's document")
        _found[code] = Rule(code, name, severity, look, document)
        return look

    return register


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
