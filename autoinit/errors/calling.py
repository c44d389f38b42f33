"""Functions that were given as arguments: what they raise is said with their name, and when they were called."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from autoinit.errors import AutoinitError, CallbackError, words_of

_FOREIGN = (
    str(Path(torch.__file__).parent),
    str(Path(__file__).parents[1]),
    sysconfig.get_paths()["stdlib"],
    "<frozen",
)


def place_of(error: BaseException) -> str:
    """` at FILE:LINE` of the innermost line that is neither torch's, nor autoinit's, nor Python's own."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [each for each in frames if not each.filename.startswith(_FOREIGN)]
    return f" at {theirs[-1].filename}:{theirs[-1].lineno}" if theirs else ""


@contextmanager
def calling(what: str | Callable[[], str]) -> Iterator[None]:
    """Whatever the caller's code raises becomes a CallbackError; autoinit's own errors and interrupts go through.

    what: the function, with its arguments, and for what it was called; or what gives that text then.

    Raises:
        CallbackError: the code failed.
    """
    try:
        yield
    except AutoinitError:
        raise
    except Exception as error:
        said = " ".join(words_of(error).split())
        kind = type(error).__name__
        doing = what if isinstance(what, str) else what()
        raise CallbackError(f"{doing} failed{place_of(error)}: {f'{kind}: {said}' if said else kind}") from error
