"""The command line as a user runs it, in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from autoinit.cli import main


def run(*arguments: str, code: int = 0) -> Result:
    """What a command says; it must end with this status."""
    result = CliRunner().invoke(main, list(arguments), prog_name="autoinit")
    assert result.exit_code == code, result.output
    return result


def refused(*arguments: str) -> str:
    """What a command that does nothing says on standard error: one line, but for the ways in which tracing failed."""
    result = run(*arguments, code=2)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1 or "could not be traced" in result.stderr
    return result.stderr.removeprefix("error: ").rstrip("\n")
