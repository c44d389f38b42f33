"""Arguments of public functions: refused before anything is read, with the name, the value and what was expected."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterable
from enum import Enum
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

from autoinit.errors import ArgumentError

_LONGEST = 60
_MOST = 1_000_000
"""Of what is given one by one: a range of all numbers fills memory."""
_E = TypeVar("_E", bound=Enum)


def texts(name: str, value: Any) -> tuple[str, ...]:
    """One text, or any number of them, as a tuple.

    Raises:
        ArgumentError: it is something else.
    """
    found = (value,) if isinstance(value, str) else _items(value)
    if found is None or not all(isinstance(each, str) for each in found):
        raise refusal(name, value, "a text or a sequence of texts")
    return found


def all_of(name: str, value: Any, kind: type | tuple[type, ...], expected: str) -> tuple[Any, ...]:
    """Any number of values of a kind, as a tuple.

    Raises:
        ArgumentError: it is something else.
    """
    found = _items(value)
    if found is None or not all(isinstance(each, kind) for each in found):
        raise refusal(name, value, expected)
    return found


def require(name: str, value: Any, kinds: type | tuple[type, ...], expected: str) -> None:
    """Refuse a value of another type; a bool is no number.

    Raises:
        ArgumentError: it is one.
    """
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise refusal(name, value, expected)


def one_of(name: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse what is none of some texts.

    Raises:
        ArgumentError: it is something else.
    """
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise refusal(name, value, f"one of {', '.join(map(repr, choices))}")


def real(name: str, value: Any, expected: str = "a number") -> float:
    """A real number, Python's or numpy's, as a float; infinite where it is too large for one.

    Raises:
        ArgumentError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise refusal(name, value, expected)
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def member(name: str, value: Any, kind: type[_E]) -> _E:
    """A member of an enumeration, or its value, as that member.

    Raises:
        ArgumentError: there is none.
    """
    try:
        return kind(value)
    except Exception:  # noqa: BLE001 - the enumeration shows the value, and its class may raise anything
        raise refusal(name, value, f"one of {', '.join(repr(each.value) for each in kind)}") from None


def path_of(name: str, value: Any) -> Path:
    """A path of a file.

    Raises:
        ArgumentError: it is none.
    """
    require(name, value, (str, Path), "the path of a file")
    return Path(value)


def require_call(name: str, function: Callable[..., object], *arguments: object) -> None:
    """Refuse a function that cannot be called with such arguments, as far as its signature tells.

    Raises:
        ArgumentError: names the function, and what it lacks.
    """
    if not callable(function):
        raise refusal(name, function, "a function")
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        raise refusal(name, function, f"a function to be called with {len(arguments)} arguments ({error})") from error
    except ValueError:  # built in, without a signature
        return


def refusal(name: str, value: Any, expected: str) -> ArgumentError:
    """What is said of a value that no call could use."""
    return ArgumentError(f"{name}={shown(value)}: expected {expected}")


def shown(value: Any) -> str:
    """A value as a message shows it: on one line, and not all of a long one."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 - whatever the caller's class raises, the argument is what is wrong
        text = f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _items(value: Any) -> tuple[Any, ...] | None:
    """What a sequence or set holds; None for what is neither, does not say it, or holds too much."""
    if isinstance(value, bytes | dict) or not isinstance(value, Iterable) or hasattr(value, "shape"):
        return None
    try:
        found = tuple(itertools.islice(value, _MOST + 1))
    except Exception:  # noqa: BLE001 - a generator or a file of the caller's, which may raise anything
        return None
    return found if len(found) <= _MOST else None
