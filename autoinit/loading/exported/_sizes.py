"""Sizes inside exported programs: expressions, read by a parser of our own and never by Python or sympy.

The grammar is what sympy's `srepr` writes of a size, and no more:

    size   = INTEGER | NAME | "Integer" "(" INTEGER ")" | quoted | OPERATION "(" size {"," size} ")"
    quoted = ("Symbol" | "Float") "(" "'" WORD "'" {"," NAME "=" ("True" | "False" | INTEGER)} ")"
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

_TOKEN = re.compile(r"\s*(-?[0-9]{1,40}|[A-Za-z_][A-Za-z0-9_]{0,99}|'[A-Za-z0-9_.+-]{1,100}'|[(),=])", re.ASCII)
_END = ""
_DEEPEST = 60
_LONGEST = 10_000
_LARGEST = 2**64

_COMPUTED: dict[str, Callable[[Sequence[int]], int]] = {
    "Add": sum,
    "Mul": math.prod,
    "FloorDiv": lambda terms: terms[0] // terms[1],
    "Mod": lambda terms: terms[0] % terms[1],
}
"""The four operations that are computed where their terms are numbers."""
_NAMED = frozenset({
    "Abs", "CeilDiv", "CeilToInt", "CleanDiv", "FloatPow", "FloatTrueDiv", "FloorToInt", "Identity", "IntTrueDiv",
    "LShift", "Max", "Min", "ModularIndexing", "Pow", "PowByNatural", "PythonMod", "RShift", "Rational", "RoundToInt",
    "ToFloat", "TruncToFloat", "TruncToInt", "Where", "ceiling", "floor",
    "And", "Eq", "Equality", "Ge", "GreaterThan", "Gt", "Le", "LessThan", "Lt", "Ne", "Not", "Or", "Piecewise",
    "StrictGreaterThan", "StrictLessThan", "Unequality",
})  # fmt: skip
"""Operations whose result is left open, as a symbol's value is."""


def value_of(text: str) -> int | None:
    """The number that a size comes to; None where it depends on a symbol.

    Raises:
        ValueError: it is no size.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"a size of {len(text):,} characters: expected up to {_LONGEST:,}")
    parser = _Parser(text)
    value = parser.size(0)
    if parser.token != _END:
        raise parser.fault()
    return value


class _Parser:
    """A token ahead of what was read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._at = 0
        self.token = ""
        self._next()

    def fault(self) -> ValueError:
        """What is said of a text that is no size."""
        return ValueError(
            f"{self.text[:80]!r} is no size: expected integers, symbols and operations such as "
            f"{', '.join(_COMPUTED)}, found {self.token[:40] or 'the end'!r}"
        )

    def _next(self) -> str:
        """Go on by a token; returns the one that was read."""
        read = self.token
        found = _TOKEN.match(self.text, self._at)
        if found is None:
            self.token = self.text[self._at :].strip()
            if self.token:
                raise self.fault()
            return read
        self.token, self._at = found[1], found.end()
        return read

    def _take(self, expected: str) -> None:
        if self.token != expected:
            raise self.fault()
        self._next()

    def size(self, depth: int) -> int | None:
        """Read a size; its value, if it has one."""
        if depth > _DEEPEST:
            raise ValueError(f"{self.text[:80]!r} is nested more than {_DEEPEST} deep")
        if self._is_number():
            return int(self._next())
        if not self.token.isidentifier():
            raise self.fault()
        name = self._next()
        if self.token != "(":
            return None
        self._take("(")
        if name in ("Symbol", "Float"):
            self._quoted()
            return None
        terms = [self.size(depth + 1)]
        while self.token == ",":
            self._take(",")
            terms.append(self.size(depth + 1))
        self._take(")")
        return self._result(name, terms)

    def _is_number(self) -> bool:
        return self.token.lstrip("-").isdigit()

    def _quoted(self) -> None:
        if not self.token.startswith("'"):
            raise self.fault()
        self._next()
        while self.token == ",":
            self._take(",")
            if not self.token.isidentifier():
                raise self.fault()
            self._next()
            self._take("=")
            if self.token not in ("True", "False") and not self._is_number():
                raise self.fault()
            self._next()
        self._take(")")

    def _result(self, name: str, terms: list[int | None]) -> int | None:
        known = [each for each in terms if each is not None]
        if name == "Integer" and len(known) == len(terms) == 1:
            return known[0]
        if name in _NAMED:
            return None
        if name not in _COMPUTED:
            raise ValueError(f"{self.text[:80]!r} is no size: {name[:40]} is no operation on sizes")
        if len(known) < len(terms):
            return None
        binary = name in ("FloorDiv", "Mod")
        if binary and (len(known) != 2 or known[1] == 0):
            raise ValueError(f"{self.text[:80]!r} is no size: {name} of {known}")
        value = _COMPUTED[name](known)
        if abs(value) > _LARGEST:
            raise ValueError(f"{self.text[:80]!r} is no size: {name} comes to a number beyond 2^64")
        return value
