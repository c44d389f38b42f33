"""One line about an exception, and names that the user may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from autoinit.errors import words_of

_LISTED = 5


def one_line(error: BaseException) -> str:
    """The type and the first line of the message."""
    lines = words_of(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'a' or 'b'?`, or nothing when no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(repr(each) for each in near)}?" if near else ""


def some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
