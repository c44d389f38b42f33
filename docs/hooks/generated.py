"""Parts of the manual that are made of the code: tables, rules, commands, the public API. No text is written twice."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import click

import autoinit
import autoinit.signal
from autoinit import cli, recipes
from autoinit.checking.rules.registry import Rule, rules
from autoinit.formats import FORMATS
from autoinit.methods.table import METHODS
from autoinit.ops import REGISTRY, Role
from autoinit.plans.distributions import DISTRIBUTIONS
from autoinit.plans.options import plan_options
from autoinit.presets import train
from autoinit.theory.activations import NONLINEARITIES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rule_pages() -> dict[str, str]:
    """The page of each rule by its code: its own document."""
    return {code: _rule_page(rule) for code, rule in rules().items()}


def _rule_page(rule: Rule) -> str:
    return f"# {rule.code}: {rule.name}\n\nSeverity: {rule.severity}.\n\n{rule.document}\n"


def rule_table() -> str:
    """All rules, each linked to its page."""
    rows = [(f"[{rule.code}](rules/{rule.code}.md)", rule.name, str(rule.severity)) for rule in rules().values()]
    return table(("code", "name", "severity"), rows)


def format_table() -> str:
    """The formats of a check."""
    return table(("format", "for"), [(f"`{name}`", form.help) for name, form in FORMATS["check"].items()])


def recipe_table() -> str:
    """Every recipe: how it is declared, its first sentence, its source, and whether `check` recognises it."""
    rows = [
        (f"`{each.example}`", each.document.partition("\n")[0], each.source, "yes" if each.mark else "")
        for each in recipes.table().values()
    ]
    return table(("recipe", "what it is", "source", "recognised"), rows)


def recipe_documents() -> str:
    """The document of each of them."""
    return "\n\n".join(f"### {each.name}\n\n{each.document}" for each in recipes.table().values())


def option_table() -> str:
    """What functions and commands take of a plan."""
    rows = [(f"`{name}`", f"`{each.default!r}`", each.document) for name, each in plan_options().items()]
    return table(("option", "default", "meaning"), rows)


def method_table() -> str:
    """The ways to find the stds."""
    rows = [
        (f"`{name}`", each.help, "yes" if each.needs_shapes else "no", "yes" if each.needs_seed else "no")
        for name, each in METHODS.items()
    ]
    return table(("method", "each std", "needs shapes", "holds for one seed"), rows)


def distribution_table() -> str:
    """What values are drawn from."""
    return table(("distribution", "values"), [(f"`{name}`", each.help) for name, each in DISTRIBUTIONS.items()])


def gain_table() -> str:
    """The nonlinearities that need no parameter to have a gain, at their default parameters."""
    rows = []
    for name, each in NONLINEARITIES.items():
        if each.required:
            continue
        parameters = ", ".join(f"{key} = {value:g}" for key, value in each.defaults.items())
        rows.append((f"`{name}`", parameters, f"{autoinit.gain(name):.4f}", each.source or "1 / sqrt(E[φ(z)²])"))
    return table(("nonlinearity", "parameters", "gain", "source"), rows)


def operation_table() -> str:
    """The operations of each role."""
    by_role = {
        role: [f"`{name}`" for name, each in REGISTRY.specs.items() if each.role is role]
        for role in Role
        if role is not Role.UNKNOWN
    }
    return table(("role", "operations"), [(str(role), ", ".join(names)) for role, names in by_role.items()])


def commands() -> str:
    """Each command: what it says of itself, and its options."""
    above = click.Context(cli.main, info_name="autoinit")
    return "\n\n".join(_command(each, click.Context(each, above, name)) for name, each in cli.main.commands.items())


def _command(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    records = (each.get_help_record(context) for each in command.get_params(context))
    rows = [(f"`{names}`", text) for names, text in filter(None, records) if text]
    return (
        f"## {context.command_path}\n\n```text\n{usage}\n```\n\n{command.help}\n\n{table(('option', 'meaning'), rows)}"
    )


def result(text: str) -> str:
    """What a benchmark found, as `benchmarks/record.py` kept it: the command, the date, its tables.

    Args:
        text: the name of the result; behind a comma, the title of the one table to show.
    """
    name, _, title = text.partition(", ")
    found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    versions = f"torch {found['environment']['torch']}, {found['environment']['cores']} cores"
    parts = [f"`{found['command']}`, {found['date']}, {versions}:"]
    chosen = [each for each in found["tables"] if title in ("", each["title"])]
    if not chosen:
        raise KeyError(f"{name} has no table {title!r}")
    for each in chosen:
        shown = table(each["columns"], each["rows"])
        parts.append(f"**{each['title']}**\n\n{shown}" if each["title"] and not title else shown)
    return "\n\n".join(parts)


def addition(what: str) -> str:
    """Where something is added and what tests it, from the table of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| an? ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    edit, test = {name: cells for name, *cells in rows}[what]
    return f"| edit | test |\n|---|---|\n| {edit} | {test} |"


def example(place: str) -> str:
    """A text that a test adds to a copy of the package: `test_method.ROW` is that name in tests/contributing."""
    file, _, name = place.partition(".")
    tree = ast.parse((ROOT / "tests" / "contributing" / f"{file}.py").read_text(encoding="utf-8"))
    values = {
        target.id: each.value
        for each in tree.body
        if isinstance(each, ast.Assign)
        for target in each.targets
        if isinstance(target, ast.Name)
    }
    return f"```python\n{textwrap.dedent(ast.literal_eval(values[name])).strip()}\n```"


def api() -> str:
    """A directive for each public name: functions, values, errors."""
    return _directives(autoinit, autoinit.__all__)


def signal_api() -> str:
    """The same of autoinit.signal."""
    return _directives(autoinit.signal, autoinit.signal.__all__)


def _directives(module: ModuleType, names: Iterable[str]) -> str:
    groups: dict[str, list[str]] = {"Functions": [], "Values": [], "Errors": []}
    for name in names:
        value = getattr(module, name)
        if not isinstance(value, type):
            groups["Functions"].extend([name] * callable(value))
        else:
            groups["Errors" if issubclass(value, Exception) else "Values"].append(name)
    lines = []
    for title, found in groups.items():
        lines += [f"## {module.__name__}: {title.lower()}"] if found else []
        lines += [f"::: {module.__name__}.{name}" for name in sorted(found)]
    return "\n\n".join(lines)


PARTS: Mapping[str, Callable[[], str]] = {
    "api": api,
    "commands": commands,
    "distributions": distribution_table,
    "formats": format_table,
    "gains": gain_table,
    "methods": method_table,
    "operations": operation_table,
    "options": option_table,
    "preset": train.document,
    "recipe-documents": recipe_documents,
    "recipes": recipe_table,
    "rules": rule_table,
    "signal-api": signal_api,
}
"""What `<!-- generated: NAME -->` stands for."""
MARKS: Mapping[str, Callable[[str], str]] = {
    "addition": addition,
    "example": example,
    "generated": lambda name: PARTS[name](),
    "result": result,
}
"""What `<!-- MARK: TEXT -->` stands for, by its mark."""
