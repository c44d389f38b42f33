"""`autoinit explain` and `autoinit recipes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from autoinit.checking.rules.registry import Rule
    from autoinit.methods.table import Method
    from autoinit.recipes import RecipeEntry


@click.command(short_help="Say what rules, methods, recipes and presets are about.")
@click.argument("names", metavar="[CODE|METHOD|RECIPE|PRESET]...", nargs=-1)
def explain(names: Sequence[str]) -> None:
    """Say what a rule finds, how a method plans, what a recipe writes or a preset chooses, why, and from which source.

    Without a name, list all rules.
    """
    from autoinit.checking.rules.registry import rules

    if names:
        _show("\n\n".join(map(_document, names)))
        return
    _show(
        _table(("code", "name", "severity"), [(each.code, each.name, str(each.severity)) for each in rules().values()])
    )


@click.command(short_help="List the published recipes.")
def recipes() -> None:
    """List the recipes that `--recipe` takes, with their sources. `autoinit explain gpt2` documents one."""
    from autoinit.recipes import table

    _show(_table(("recipe", "source"), [(each.example, each.source) for each in table().values()]))


def _show(text: str) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        click.echo(text)


def _document(name: str) -> str:
    """The document of a rule, a method, a recipe or a preset.

    Raises:
        ArgumentError: there is none of them.
    """
    from autoinit.checking.rules.registry import explain as rule_of
    from autoinit.methods.table import METHODS
    from autoinit.recipes import entry, table

    known = table()
    if name.lower() in known:
        return _of_recipe(entry(name))
    if name.lower() in METHODS:
        return _of_method(METHODS[name.lower()])
    if name.lower() == "train":
        from autoinit.presets import train

        return f"# train: a preset\n\n{train.document()}"
    return _of_rule(rule_of(name))


def _of_rule(rule: Rule) -> str:
    return f"# {rule.code}: {rule.name}\n\nSeverity: {rule.severity}.\n\n{rule.document}"


def _of_method(method: Method) -> str:
    return f"# {method.name}: {method.help}\n\n{method.document}".rstrip()


def _of_recipe(recipe: RecipeEntry) -> str:
    return f"# {recipe.name}\n\n{recipe.document}\n\nSource: {recipe.source}\n\nDeclared as: `{recipe.example}`"


def _table(titles: Sequence[str], entries: Sequence[Sequence[str]]) -> str:
    """A Markdown table that is aligned as plain text too."""
    rows = [titles, *entries]
    widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)
