"""The group of commands, and how a failure is told."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from autoinit.errors import AutoinitError

_INTERRUPTED = 130


class Commands(click.Group):
    """A group whose failures are a message on standard error: one line, but for the account of a failed trace."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command and exit: 0 done, 2 usage, loading or tracing failed."""
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(2)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx is not None else "autoinit"
            _fail(f"{error.format_message()} (see `{command} --help`)")
        except click.ClickException as error:
            _fail(error.format_message())
        except click.Abort:
            click.echo("error: interrupted", err=True)
            sys.exit(_INTERRUPTED)
        except Exception as error:
            if wants_traceback():
                raise
            if isinstance(error, AutoinitError):
                _fail(str(error))
            _fail(unforeseen(error))
        sys.exit(code if isinstance(code, int) else 0)


def unforeseen(error: BaseException) -> str:
    """What is said of a failure that is none of autoinit's own errors."""
    return f"unexpected {type(error).__name__}: {error} (AUTOINIT_DEBUG=1 shows where; please report it)"


def _fail(message: str) -> None:
    click.echo("error: " + "\n  ".join(line.strip() for line in message.strip().splitlines()), err=True)
    sys.exit(2)


def wants_traceback() -> bool:
    """Whether tracebacks are shown: AUTOINIT_DEBUG, or `--traceback`, which sets it."""
    return os.environ.get("AUTOINIT_DEBUG", "") not in ("", "0")
