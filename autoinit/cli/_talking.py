"""What commands say beside their result."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import click

from autoinit._escaping import log_line, visible
from autoinit.tensors.progress import watched


def say(*lines: str) -> None:
    """Print lines on standard error: the one place for what is said there."""
    for line in lines:
        click.echo(log_line(line), err=True)


@dataclass(frozen=True)
class Talk:
    """What a command says beside its result, on standard error.

    Attributes:
        full: whether a table, which is the result, has a row for each layer.
        quiet: nothing but errors.
        verbose: how long each step took, too.
    """

    full: bool
    quiet: bool
    verbose: bool

    @contextlib.contextmanager
    def stage(self, doing: str) -> Iterator[None]:
        """A bar while the block runs, if someone is watching; with `verbose`, how long it took."""
        start = time.perf_counter()
        with self._shown(doing):
            yield
        if self.verbose:
            say(f"{doing}: {time.perf_counter() - start:.2f} s")

    @contextlib.contextmanager
    def _shown(self, doing: str) -> Iterator[None]:
        """What is done, how far it has come and since when; nothing where no terminal is."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        console = Console(stderr=True, highlight=False)
        if self.quiet or not (console.is_terminal and sys.stderr.isatty()):  # FORCE_COLOR makes logs terminals
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(24), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bars:
            bar = bars.add_task(f"{visible(doing)} ...", total=None)
            with watched(lambda share: bars.update(bar, total=1, completed=share)):
                yield

    def note(self, text: str) -> None:
        """Say something that the reader of the result should know."""
        if not self.quiet:
            say(f"note: {text}")
