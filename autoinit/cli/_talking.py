"""What commands say beside their result."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import click

from autoinit._escaping import log_line, visible


def say(*lines: str) -> None:
    """Print lines on standard error: the one place for what is said there."""
    for line in lines:
        click.echo(log_line(line), err=True)


@dataclass(frozen=True)
class Talk:
    """What a command says beside its result, on standard error."""

    quiet: bool
    verbose: bool

    @contextlib.contextmanager
    def stage(self, doing: str) -> Iterator[None]:
        """A spinner while the block runs, if someone is watching; with `verbose`, how long it took."""
        from rich.console import Console
        from rich.text import Text

        console = Console(stderr=True, highlight=False)
        start = time.perf_counter()
        if console.is_terminal and sys.stderr.isatty() and not self.quiet:  # FORCE_COLOR makes logs terminals
            with console.status(Text(f"{visible(doing)} ...")):
                yield
        else:
            yield
        if self.verbose:
            say(f"{doing}: {time.perf_counter() - start:.2f} s")

    def note(self, text: str) -> None:
        """Say something that the reader of the result should know."""
        if not self.quiet:
            say(f"note: {text}")
