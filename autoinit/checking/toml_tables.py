"""`TomlTable`: a table of a TOML file, whose values are taken out as what they are to be, or refused by place."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoinit.errors import ConfigurationError

InputShape = tuple[tuple[int, ...], str]
"""The sizes of an example input, and the name of its dtype, empty where the model decides."""

NAME = "[tool.autoinit]"
DTYPES = (
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64",
    "complex128",
)  # fmt: skip
_SHAPE = re.compile(r"\s*(\d{1,15}(?:\s*,\s*\d{1,15})*)\s*(?::\s*(\w+)\s*)?", re.ASCII)
_SHAPE_FORM = 'a shape such as "1,3,224,224", or with a dtype "1,128:int64"'
BETWEEN = "a number between 0 and 1, such as 0.1"
_LONGEST = 100


def parse_shape(text: str) -> InputShape | None:
    """`1,3,224,224`, or with a dtype `1,128:int64`; None for anything else."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        return None
    sizes = tuple(int(size) for size in match[1].split(","))
    return (sizes, match[2] or "") if all(sizes) else None


@dataclass(frozen=True)
class TomlTable:
    """A table of the file. Takes out a key's value, or its default, and refuses one that does not fit.

    place: where it lies in the table of autoinit, such as `models[1]`; empty for that table itself.
    """

    file: Path
    place: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, value: object, keys: Sequence[str], file: Path, place: str = "") -> TomlTable:
        """The table that a value is, with no key but those.

        Raises:
            ConfigurationError: it is no table, or has another key.
        """
        if not isinstance(value, dict):
            raise ConfigurationError(f"{file}: {f'{NAME} {place}'.rstrip()} = {shown(value)}; expected a table")
        table = cls(file, place, value)
        for key in value:
            if key not in keys:
                near = difflib.get_close_matches(key.replace("_", "-").lower(), keys, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise table.refusal(key, f"{hint}expected one of the keys {', '.join(keys)}", "unknown key ")
        return table

    def refusal(self, key: str, expected: str, what: str = "") -> ConfigurationError:
        """The error about a key's value."""
        value = shown(self.values[key])
        text = expected if what else f"expected {expected}"
        return ConfigurationError(f"{self.file}: {NAME} {what}{self._at(key)} = {value}; {text}")

    def text(self, key: str, default: str | None = None, *, expected: str = "a text that is not empty") -> str:
        """A string. Without a default the key must be there."""
        if key not in self.values and default is not None:
            return default
        if key not in self.values:
            raise ConfigurationError(f"{self.file}: {NAME} {self.place} has no {key}; expected {expected}")
        value = self.values[key]
        if not isinstance(value, str) or not value.strip():
            raise self.refusal(key, expected)
        return value

    def one_of(self, key: str, choices: Sequence[str]) -> str:
        """One of some strings, by default the first."""
        value = self.values.get(key, choices[0])
        if value not in choices:
            raise self.refusal(key, any_of(choices))
        return str(value)

    def flag(self, key: str) -> bool:
        """True or false, by default false."""
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self.refusal(key, "true or false")
        return value

    def count(self, key: str) -> int | None:
        """A number from 1; None where there is none."""
        value = self.values.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise self.refusal(key, "a number of bytes, such as 20_000_000_000")
        return value

    def fraction(self, key: str, default: float) -> float:
        """A number between 0 and 1."""
        value = self.values.get(key, default)
        if not isinstance(value, (int, float)) or not 0 < value < 1:
            raise self.refusal(key, BETWEEN)
        return float(value)

    def path(self, key: str, root: Path) -> Path | None:
        """A path that starts at the root."""
        return root / self.text(key, expected="a path") if key in self.values else None

    def items(self, key: str, expected: str) -> Iterator[tuple[str, Any]]:
        """Each item of an array, by default empty, with its place."""
        value = self.values.get(key, [])
        if not isinstance(value, list):
            raise self.refusal(key, expected)
        for index, item in enumerate(value):
            yield f"{self._at(key)}[{index}]", item

    def codes(self, key: str, *, some: bool = False) -> tuple[str, ...]:
        """Prefixes of codes; at least one where the array must hold `some`."""
        expected = 'an array of codes or their beginnings, such as ["INI2", "INI103"]'
        prefixes = []
        for place, item in self.items(key, expected):
            if not isinstance(item, str) or not item.strip():
                raise ConfigurationError(
                    f'{self.file}: {NAME} {place} = {shown(item)}; expected a code or its beginning, such as "INI2"'
                )
            prefixes.append(item.strip())
        if some and not prefixes:
            if key in self.values:
                raise self.refusal(key, f"{expected}, not an empty one")
            raise ConfigurationError(f"{self.file}: {NAME} {self.place} has no {key}; expected {expected}")
        return tuple(prefixes)

    def shapes(self, key: str) -> tuple[InputShape, ...]:
        """The shape of one input, or of several."""
        value = self.values.get(key, [])
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list):
            raise self.refusal(key, f"{_SHAPE_FORM}, or an array of such")
        shapes = [parse_shape(text) if isinstance(text, str) else None for text in texts]
        if any(shape is None or shape[1] not in ("", *DTYPES) for shape in shapes):
            raise self.refusal(key, f"{_SHAPE_FORM}, or an array of such; dtypes are {', '.join(DTYPES)}")
        return tuple(shape for shape in shapes if shape is not None)

    def _at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key


def any_of(choices: Iterable[str]) -> str:
    """Two or more texts as a choice: `"a", "b" or "c"`."""
    *others, last = (json.dumps(choice) for choice in choices)
    return f"{', '.join(others)} or {last}"


def shown(value: object) -> str:
    """A value as TOML would write it, nearly, and not at length."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
