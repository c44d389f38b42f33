"""Options that several commands share, and what their values become."""

from __future__ import annotations

import ast
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import click

from autoinit.checking.toml_tables import InputShape
from autoinit.cli._talking import Talk
from autoinit.errors import ArgumentError
from autoinit.loading.kinds import KINDS, SPELLED
from autoinit.methods.table import METHODS
from autoinit.plans.options import Option, PlanOptions, plan_options

_WIDTH = max(map(len, KINDS)) + 2
SPEC_HELP = "\n".join(
    (
        "\b\nSPEC is one of",
        *(f"  {spelled:<{_WIDTH}} {text}" for spelled, text in KINDS.items()),
        f"  {', '.join(SPELLED[len(KINDS) :])}\n",
    )
)

WEIGHTS_HELP = (
    SPEC_HELP
    + """\
or weights alone, of which is said what needs no code:
  FILE.safetensors, a state dict, an index.json, a directory
"""
)

_BYTES = re.compile(r"([0-9]{1,18}) ?([kmgtKMGT]?)(i?)[bB]?", re.ASCII)
_PREFIXES = ("", "k", "m", "g", "t")
_F = TypeVar("_F", bound=Callable[..., Any])


def _show_traceback(context: click.Context, parameter: click.Parameter, value: bool) -> None:  # noqa: ARG001 - click's
    if value:
        os.environ["AUTOINIT_DEBUG"] = "1"


def key_values(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, Any]:
    """`key=value`, the value a Python literal, else a string."""
    arguments: dict[str, Any] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key.isidentifier():
            raise click.BadParameter(f"{value!r} is not of the form key=value", context, parameter)
        try:
            arguments[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two of one that is nested too deep
            arguments[key] = text
    return arguments


def read_bytes(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """`20GB`, `512MiB` or a number of bytes."""
    if value is None:
        return None
    found = _BYTES.fullmatch(value.strip())
    if found is None:
        raise click.BadParameter(f"{value[:40]!r} is not a size such as 20GB or 512MiB", context, parameter)
    number, prefix, binary = found.groups()
    power = _PREFIXES.index(prefix.lower())
    return int(number) * (1 << 10 * power if binary else int(10 ** (3 * power)))


def options(*options: Callable[[_F], _F]) -> Callable[[_F], _F]:
    """Several options as one decorator, shown in this order."""

    def decorate(command: _F) -> _F:
        """Adds the options to a command."""
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def as_one(name: str, kind: type, *parts: Callable[[_F], _F]) -> Callable[[_F], _F]:
    """Options whose values a command takes as one: a field of `kind` for each."""
    fields = [each.name for each in dataclasses.fields(kind)]

    def decorate(command: _F) -> _F:
        """Adds the options to a command."""

        @functools.wraps(command)
        def taking_each(**values: Any) -> Any:
            whole = kind(**{each: values.pop(each) for each in fields})
            return command(**values, **{name: whole})

        return options(*parts)(cast("_F", taking_each))

    return decorate


base_options = options(
    click.option(
        "--base", metavar="SPEC", help="The narrower model (or one of fewer blocks) whose learning rate was tuned."
    ),
    click.option(
        "--base-arg",
        "base_arguments",
        multiple=True,
        callback=key_values,
        metavar="KEY=VALUE",
        help="Argument of the base's factory; repeatable.",
    ),
)


def plan_option(option: Option, help: str | None = None) -> Callable[[_F], _F]:
    """An option of a plan as one of a command; what is not given keeps the default of the function behind it.

    help: what this command says of it, in place of the option's own document.
    """
    more = _default(option) if help is None else ""
    said = option.document.replace("`", "") if help is None else help
    name = option.name.replace("_", "-")
    return click.option(
        f"--{name}/--no-{name}" if option.type is bool else f"--{name}",
        option.name,
        default=None,
        type=click.Choice([*option.choices]) if option.choices else option.type,
        multiple=option.several,
        metavar=option.metavar,
        help=f"{said[0].upper()}{said[1:]}{' Repeatable.' if option.several else ''}{more}",
    )


def _default(option: Option) -> str:
    """The default, and those that methods have instead."""
    defaults = [str(option.default)] if option.default not in (None, ()) else []
    defaults += [
        f"{each.name}: {each.defaults[option.name]}" for each in METHODS.values() if option.name in each.defaults
    ]
    return f"  [default: {'; '.join(defaults)}]" if defaults else ""


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given: the others keep the API's own default."""
    return {name: value for name, value in values.items() if value is not None and value != ()}


planning_options = options(*map(plan_option, plan_options().values()))
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
traceback_option = click.option(
    "--traceback", is_flag=True, expose_value=False, callback=_show_traceback, help="Show where errors come from."
)
talking_options = as_one(
    "talk",
    Talk,
    click.option("--all", "full", is_flag=True, help="A row for each layer, also where many are equal."),
    quiet_option,
    click.option("--verbose", "-v", is_flag=True, help="Say how long each step took."),
    traceback_option,
)


def example_inputs(shapes: Sequence[InputShape]) -> Any:
    """What `--input-shape` asks for.

    Raises:
        click.UsageError: torch has no such dtype.
    """
    from autoinit.loading import examples

    try:
        return examples.example_inputs(shapes)
    except ArgumentError as error:
        raise click.UsageError(f"--input-shape: {error}") from error


def inputs_for(planning: Mapping[str, Any], shapes: Sequence[InputShape]) -> Any:
    """What `--input-shape` asks for, for a plan: without values where its method, or a preset's, draws them itself."""
    inputs = example_inputs(shapes)
    draws = METHODS[planning.get("method") or PlanOptions.method].needs_shapes or planning.get("preset") not in (
        None,
        "none",
    )
    return without_values(inputs) if draws else inputs


def without_values(inputs: Any) -> Any:
    """Tensors as their shapes, for which numbers, and ids of an embedding's rows, are drawn."""
    return tuple(each.to("meta") for each in inputs) if _has_tensors(inputs) else inputs


def _has_tensors(inputs: Any) -> bool:
    return isinstance(inputs, tuple) and any(hasattr(each, "to") for each in inputs)
