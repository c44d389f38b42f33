"""Formats of `autoinit check`. They arrange what a check found and look at no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from autoinit.errors import ArgumentError
from autoinit.reporting.findings import github, jsons, junit, markdown, sarif, text

if TYPE_CHECKING:
    from autoinit.checking.findings import CheckRun
    from autoinit.checking.rules.registry import Rule

_FORMS: dict[str, Callable[[CheckRun], str]] = {
    "text": text.plain,
    "json": jsons.dumps,
    "github": github.commands,
    "junit": junit.dumps,
    "markdown": markdown.render,
}
_WITH_RULES: dict[str, Callable[[CheckRun, Mapping[str, Rule]], str]] = {"sarif": sarif.dumps}

FORMS = ("text", "json", "github", "sarif", "junit", "markdown")
"""The names of the formats."""


def render(run: CheckRun, form: str, rules: Callable[[], Mapping[str, Rule]] = dict) -> str:
    """A run in a format, without a newline at its end.

    Args:
        run: what was found.
        form: one of `FORMS`.
        rules: gives the rules by their codes; asked only for a format that explains them.

    Raises:
        ArgumentError: there is no such format.
    """
    if form in _WITH_RULES:
        return _WITH_RULES[form](run, rules())
    if form not in _FORMS:
        raise ArgumentError(f"no format {form!r}; there are {', '.join(FORMS)}")
    return _FORMS[form](run)
