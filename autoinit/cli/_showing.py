"""How commands show what they found: on the console, or in a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from autoinit import formats
from autoinit.formats import FORMATS, Kind

Command = TypeVar("Command", bound=Callable[..., Any])


def format_option(kind: Kind, help: str, default: str | None = None) -> Callable[[Command], Command]:
    """`--format`, with the formats that there are of a kind."""
    choice = click.Choice(formats.names(kind))
    return click.option("--format", "form", type=choice, default=default, show_default=default is not None, help=help)


def show(kind: Kind, value: Any, form: str, *, full: bool = False) -> None:
    """Print a value: coloured and as wide as the terminal where the format is for people."""
    if FORMATS[kind][form].lines:
        formats.show(kind, value, form, full=full)
    else:
        click.echo(formats.text(kind, value, form))


def write(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all."""
    from autoinit.saving import replacing

    with replacing(path) as temporary:
        temporary.write_bytes(content.encode(errors="backslashreplace") if isinstance(content, str) else content)


def write_form(path: Path, kind: Kind, value: Any, form: str, *, full: bool = False) -> None:
    """Write a value to a file; plain and 100 characters wide where the format is for people."""
    write(path, formats.text(kind, value, form, full=full) + "\n")
