"""What commands say beside their result."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import click


@dataclass(frozen=True)
class Talk:
    """What a command says beside its result, on standard error."""

    quiet: bool
    verbose: bool

    @contextlib.contextmanager
    def stage(self, doing: str) -> Iterator[None]:
        """A spinner while the block runs, if someone is watching; with `verbose`, how long it took."""
        from rich.console import Console

        console = Console(stderr=True, highlight=False)
        start = time.perf_counter()
        if console.is_terminal and sys.stderr.isatty() and not self.quiet:  # FORCE_COLOR makes logs terminals
            with console.status(f"{doing} ..."):
                yield
        else:
            yield
        if self.verbose:
            click.echo(f"{doing}: {time.perf_counter() - start:.2f} s", err=True)

    def note(self, text: str) -> None:
        """Say something that the reader of the result should know."""
        if not self.quiet:
            click.echo(f"note: {text}", err=True)
