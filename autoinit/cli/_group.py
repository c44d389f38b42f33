"""The group of commands, and how a failure is shown."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

import click

from autoinit._escaping import visible
from autoinit.cli._talking import say
from autoinit.errors import AutoinitError, TraceError, words_of

_INTERRUPTED = 130
_UNREAD = 1
_NO_MEMORY = "can't allocate memory"
"""In what torch says of it."""


class Commands(click.Group):
    """A group whose failures are a message on standard error: one line, but for the account of a failed trace.

    Commands are listed in the order in which they were added: those that people want first, first.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """In order of adding."""
        return list(self.commands)

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
            _fail(visible(f"{error.format_message().strip()} (see `{command} --help`)"))
        except click.ClickException as error:
            _fail(visible(error.format_message().strip()))
        except BrokenPipeError:  # whoever read the output has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(_UNREAD)
        except click.Abort:
            click.echo("error: interrupted", err=True)
            sys.exit(_INTERRUPTED)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit, too, of the model's code: it would end in silence
            if wants_traceback() and not isinstance(error, SystemExit):
                raise
            if isinstance(error, TraceError):
                _fail(str(error))  # an account of several lines
            if isinstance(error, AutoinitError):
                _fail(visible(str(error).strip()))
            if isinstance(error, OSError) and error.filename is None:
                _fail(f"the output cannot be written: {error.strerror or error}")
            _fail(visible(unforeseen(error)))
        sys.exit(code if isinstance(code, int) else 0)


def unforeseen(error: BaseException) -> str:
    """What is said of a failure that is none of autoinit's own errors."""
    if "embedded null" in words_of(error):  # from click, which looks at paths; its words differ from Python to Python
        return "no name of a file holds a null byte"
    if isinstance(error, MemoryError) or _NO_MEMORY in words_of(error):
        return f"there is not enough memory ({str(error).rpartition(_NO_MEMORY)[2].strip(': ') or 'asked by Python'})"
    if not isinstance(error, Exception):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {words_of(error)}".strip(": ")
        return f"the model's code ended the command at {frame.filename}:{frame.lineno}: {said}"
    return f"unexpected {type(error).__name__}: {words_of(error)} (AUTOINIT_DEBUG=1 shows where; please report it)"


def _fail(message: str) -> None:
    first, *others = message.strip().split("\n")
    say(f"error: {first.strip()}", *(f"  {line.strip()}" for line in others))
    sys.exit(2)


def wants_traceback() -> bool:
    """Whether tracebacks are shown: AUTOINIT_DEBUG, or `--traceback`, which sets it."""
    return os.environ.get("AUTOINIT_DEBUG", "") not in ("", "0")
