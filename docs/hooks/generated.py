"""Parts of the manual that are made of the code: tables, rules, commands, the public API. No text is written twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import click

import autoinit
from autoinit import cli
from autoinit.checking.rules.registry import Rule, rules
from autoinit.formats import FORMATS
from autoinit.methods.table import METHODS
from autoinit.ops import REGISTRY, Role
from autoinit.plans.distributions import DISTRIBUTIONS
from autoinit.plans.options import plan_options
from autoinit.theory.activations import NONLINEARITIES


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


def api() -> str:
    """A directive for each public name, functions first."""
    names = [name for name in autoinit.__all__ if not name.startswith("_")]
    ordered = sorted(names, key=lambda name: (name[0].isupper(), name))
    return "\n\n".join(f"::: autoinit.{name}" for name in ordered)


PARTS: Mapping[str, Callable[[], str]] = {
    "api": api,
    "commands": commands,
    "distributions": distribution_table,
    "formats": format_table,
    "gains": gain_table,
    "methods": method_table,
    "operations": operation_table,
    "options": option_table,
    "rules": rule_table,
}
"""What `<!-- generated: NAME -->` stands for."""
