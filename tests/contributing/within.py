"""What scripts ask for that run in a copy, so that one process does for all that is asked of an addition."""

from __future__ import annotations

import pkgutil

from click.testing import CliRunner

from autoinit.cli import main


def command(*arguments: str, expected: int = 0) -> str:
    """What `autoinit ARGUMENTS` prints."""
    done = CliRunner().invoke(main, arguments, prog_name="autoinit")
    assert done.exit_code == expected, done.output
    return done.stdout


def fails(test: str) -> bool:
    """Whether a test, `tests.room.test_file:test_name`, fails for the copy."""
    try:
        pkgutil.resolve_name(test)()
    except AssertionError:
        return True
    return False
