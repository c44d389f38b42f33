"""Options that several commands share, and what their values become."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from autoinit.errors import ArgumentError

SPEC_HELP = """\b
SPEC is one of
  FILE.pt, FILE.pth        a model that torch.save wrote
  FILE.pt2                 a program that torch.export.save wrote
  PACKAGE.MODULE:FACTORY   a function, class or model in importable code
  FILE.py:FACTORY          the same in a file
  timm:NAME, torchvision:NAME, hf:DIRECTORY_OR_MODEL_TYPE
"""

Input = tuple[tuple[int, ...], str]
"""The sizes of an example input, and the name of its dtype, empty where the model decides."""

_BYTES = re.compile(r"([0-9]{1,18}) ?([kmgtKMGT]?)(i?)[bB]?", re.ASCII)

_PREFIXES = ("", "k", "m", "g", "t")

_F = TypeVar("_F", bound=Callable[..., Any])


def _show_traceback(context: click.Context, parameter: click.Parameter, value: bool) -> None:  # noqa: ARG001 - click's
    if value:
        os.environ["AUTOINIT_DEBUG"] = "1"


def _key_values(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, Any]:
    """`key=value`, the value a Python literal, else a string."""
    arguments: dict[str, Any] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key.isidentifier():
            raise click.BadParameter(f"{value!r} is not of the form key=value", context, parameter)
        try:
            arguments[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            arguments[key] = text
    return arguments


def _bytes(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """`20GB`, `512MiB` or a number of bytes."""
    if value is None:
        return None
    found = _BYTES.fullmatch(value.strip())
    if found is None:
        raise click.BadParameter(f"{value[:40]!r} is not a size such as 20GB or 512MiB", context, parameter)
    number, prefix, binary = found.groups()
    power = _PREFIXES.index(prefix.lower())
    return int(number) * (1 << 10 * power if binary else int(10 ** (3 * power)))


def _sizes(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> list[Input]:
    """`1,3,224,224`, or with a dtype `1,128:int64`."""
    inputs = []
    for value in values:
        sizes, _, dtype = value.partition(":")
        if not all(size.strip().isdecimal() and int(size) > 0 for size in sizes.split(",")):
            raise click.BadParameter(f"{value!r} is not a shape like 1,3,224,224 or 1,128:int64", context, parameter)
        inputs.append((tuple(int(size) for size in sizes.split(",")), dtype))
    return inputs


def options(*options: Callable[[_F], _F]) -> Callable[[_F], _F]:
    """Several options as one decorator, shown in this order."""

    def decorate(command: _F) -> _F:
        """Adds the options to a command."""
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


loading_options = options(
    click.option("--weights", metavar="FILE", help="State dict (.safetensors, .pt) to load into the model."),
    click.option(
        "--arg",
        "arguments",
        multiple=True,
        callback=_key_values,
        metavar="KEY=VALUE",
        help="Argument of the factory; repeatable.",
    ),
    click.option("--trust", is_flag=True, help="Let model files run code. Only for files whose origin you know."),
    click.option(
        "--max-size",
        callback=_bytes,
        metavar="BYTES",
        help="How much a model file may unpack to, such as 20GB; four times its own size unless said.",
    ),
    click.option(
        "--input-shape",
        "shapes",
        multiple=True,
        callback=_sizes,
        metavar="SIZES[:DTYPE]",
        help="Shape of an example input, such as 1,3,224,224 or 1,128:int64; repeat it for several inputs.",
    ),
)
METHODS = ("nonlinearity", "signal", "data")
_only = click.option("--only", multiple=True, metavar="GLOB", help="Only layers of this name; repeatable.")
_skip = click.option("--skip", multiple=True, metavar="GLOB", help="Leave layers of this name alone; repeatable.")
_method = click.option("--method", type=click.Choice(METHODS), default="nonlinearity", show_default=True)
_residual = click.option("--residual", type=click.Choice(["keep", "depth"]), default="keep", show_default=True)
_mode = click.option("--mode", type=click.Choice(["fan_in", "fan_out", "fan_avg"]), help="One fan for all layers.")
_distribution = click.option(
    "--distribution",
    type=click.Choice(["normal", "uniform", "truncated_normal", "orthogonal"]),
    default="normal",
    show_default=True,
)
_zeros = click.option("--zeros", type=click.Choice(["keep", "reset"]), default="keep", show_default=True)
planning_options = options(_only, _skip, _method, _residual, _mode, _distribution, _zeros)
refining_options = options(_only, _skip, _residual, _mode, _distribution, _zeros)
"""What else may be said of a plan, where `--method` asks for one."""
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
traceback_option = click.option(
    "--traceback", is_flag=True, expose_value=False, callback=_show_traceback, help="Show where errors come from."
)
talking_options = options(
    click.option("--all", "full", is_flag=True, help="A row for each layer, also where many are equal."),
    quiet_option,
    click.option("--verbose", "-v", is_flag=True, help="Say how long each step took."),
    traceback_option,
)


def example_inputs(shapes: Sequence[Input]) -> Any:
    """What `--input-shape` asks for.

    Raises:
        click.UsageError: torch has no such dtype.
    """
    from autoinit.loading import examples

    try:
        return examples.example_inputs(shapes)
    except ArgumentError as error:
        raise click.UsageError(f"--input-shape: {error}") from error
