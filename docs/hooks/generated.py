"""Parts of the manual that are made of the code: rules, the public API."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import autoinit
from autoinit.checking.rules.registry import Rule, rules
from autoinit.formats import FORMATS


def rule_pages() -> dict[str, str]:
    """The page of each rule by its code: its own document."""
    return {code: _rule_page(rule) for code, rule in rules().items()}


def _rule_page(rule: Rule) -> str:
    return f"# {rule.code}: {rule.name}\n\nSeverity: {rule.severity}.\n\n{rule.document}\n"


def rule_table() -> str:
    """All rules, each linked to its page."""
    rows = [f"| [{rule.code}](rules/{rule.code}.md) | {rule.name} | {rule.severity} |" for rule in rules().values()]
    return "\n".join(["| code | name | severity |", "|---|---|---|", *rows])


def format_table() -> str:
    """The formats of a check."""
    rows = [f"| `{name}` | {form.help} |" for name, form in FORMATS["check"].items()]
    return "\n".join(["| format | for |", "|---|---|", *rows])


def api() -> str:
    """A directive for each public name, functions first."""
    names = [name for name in autoinit.__all__ if not name.startswith("_")]
    ordered = sorted(names, key=lambda name: (name[0].isupper(), name))
    return "\n\n".join(f"::: autoinit.{name}" for name in ordered)


PARTS: Mapping[str, Callable[[], str]] = {"rules": rule_table, "formats": format_table, "api": api}
"""What `<!-- generated: NAME -->` stands for."""
