"""`autoinit explain`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from autoinit.checking.rules.registry import Rule


@click.command(short_help="Say what rules are about.")
@click.argument("codes", metavar="[CODE]...", nargs=-1)
def explain(codes: Sequence[str]) -> None:
    """Say what a rule finds, why it matters and what to do; without CODE, list all rules."""
    from rich.console import Console
    from rich.markdown import Markdown

    from autoinit.checking.rules.registry import explain as rule_of
    from autoinit.checking.rules.registry import rules

    chosen = [rule_of(code) for code in codes]
    text = "\n\n".join(map(_document, chosen)) if chosen else _table(tuple(rules().values()))
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        click.echo(text)


def _document(rule: Rule) -> str:
    return f"# {rule.code}: {rule.name}\n\nSeverity: {rule.severity}.\n\n{rule.document}"


def _table(known: Sequence[Rule]) -> str:
    """All rules, as a Markdown table that is aligned as plain text too."""
    rows = [("code", "name", "severity"), *((rule.code, rule.name, rule.severity) for rule in known)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)
